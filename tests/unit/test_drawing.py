"""Pictures of masks: which there are, that they are the masks that are applied, and what is drawn of them."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.drawing.grid import ALL, HALF, MOST, NONE, SOME, areas, grid, round_up, step_for, ticks
from llmprof.drawing.layout import sheet
from llmprof.drawing.masks import Cells, pictures
from llmprof.drawing.paint import LIGHT, rgb, shaded
from llmprof.drawing.picture import Axis, Picture
from llmprof.drawing.png import SCALE, to_png
from llmprof.drawing.svg import to_svg
from llmprof.drawing.terminal import ASCII, BLOCKS, alphabet_for, to_text
from llmprof.spec.arch import ArchSpec, Attention, Compressed, Gqa, Mask, Stack
from llmprof.twin.build import build
from llmprof.twin.families import family
from llmprof.twin.masks import Sight, cross_sight
from llmprof.twin.session import Session
from llmprof.twin.views import Span
from llmprof.twin.visibility import visible
from llmprof.workload import Execution, Workload, check_workload
from tests.confirming import FP32
from tests.families import kinds
from tests.predict_samples import arch, layer, stack

HEAD = Gqa(n_heads=2, n_kv_heads=1, head_dim=8)
SVG = "{http://www.w3.org/2000/svg}"


def drawn(
    spec: ArchSpec, tokens: int, *, context: int | None = None, source: int = 0, prefix: int = 0
) -> tuple[Picture, ...]:
    """The pictures of a prefill."""
    work = Workload(
        phase="prefill",
        batch=1,
        new_tokens=tokens,
        context=context or tokens,
        source_tokens=source,
        prefix_tokens=prefix,
    )
    check_workload(spec, work)
    return pictures(spec, work)


def decoder(*attentions: Attention) -> ArchSpec:
    return arch(stack([layer(attention) for attention in attentions]), d=8, v=10)


def picture(*rows: str) -> Picture:
    """A picture of the rows, one character for each key: # is visible."""
    return Picture(
        subject="sample",
        title="a mask",
        stack="layers.",
        layers=(0,),
        below=".attn",
        queries=Axis(thing="position", first=0, count=len(rows)),
        keys=Axis(thing="position", first=0, count=len(rows[0])),
        cells=tuple(bytes(each == "#" for each in row) for row in rows),
        note=None,
    )


def art(found: Picture) -> list[str]:
    """The cells of a picture as characters."""
    return ["".join("#" if cell else "." for cell in row) for row in found.cells]


# --- which masks there are --------------------------------------------------------------------


def test_a_model_of_equal_masks_has_one_picture() -> None:
    (found,) = drawn(decoder(HEAD, replace(HEAD, n_kv_heads=2)), 4)
    assert found.title == "self-attention, causal"
    assert found.paths == ("layers.0.attn", "layers.1.attn")
    assert found.folded_path == "layers.{0-1}.attn"
    assert art(found) == ["#...", "##..", "###.", "####"]
    assert (found.visible_pairs, found.pairs) == (10, 16)
    assert list(found.spans) == ["0", "0-1", "0-2", "0-3"]


def test_layers_with_a_window_are_another_picture_unless_it_holds_everything() -> None:
    spec = decoder(replace(HEAD, window=2), replace(HEAD, window=2), HEAD, replace(HEAD, window=2))
    near, whole = drawn(spec, 4)
    assert (near.title, near.folded_path) == ("self-attention, causal, window of 2", "layers.{0-1,3}.attn")
    assert art(near) == ["#...", "##..", ".##.", "..##"]
    assert (whole.title, whole.folded_path) == ("self-attention, causal", "layers.2.attn")
    assert [each.folded_path for each in drawn(spec, 2)] == ["layers.{0-3}.attn"]


def test_new_tokens_are_the_last_rows() -> None:
    (found,) = drawn(decoder(replace(HEAD, window=2)), 3, context=6)
    # Queries 3, 4 and 5 see two keys each; the core reads the last 3 + 2 - 1 = 4 positions.
    assert art(found) == ["##..", ".##.", "..##"]
    assert (found.queries, found.keys) == (
        Axis(thing="position", first=3, count=3),
        Axis(thing="position", first=2, count=4),
    )


def test_a_prefix_is_seen_from_everywhere() -> None:
    spec = arch(stack([layer(HEAD)], mask="prefix"), d=8, v=10, structure="prefix-decoder")
    (found,) = drawn(spec, 4, prefix=2)
    assert found.title == "self-attention, prefix of 2"
    assert art(found) == ["##..", "##..", "###.", "####"]


def encoder_decoder() -> ArchSpec:
    encoder = stack([layer(HEAD)], prefix="encoder.", mask="bidirectional")
    decoder = stack([layer(HEAD, cross=HEAD)] * 2, prefix="decoder.")
    return arch(encoder, decoder, d=8, v=10, structure="encoder-decoder")


def test_an_encoder_decoder_has_three() -> None:
    found = drawn(encoder_decoder(), 2, source=3)
    assert [(each.title.split(",")[0], each.folded_path, art(each)) for each in found] == [
        ("encoder self-attention", "encoder.layers.0.attn", ["###", "###", "###"]),
        ("decoder self-attention", "decoder.layers.{0-1}.attn", ["#.", "##"]),
        ("cross-attention", "decoder.layers.{0-1}.cross_attn", ["###", "###"]),
    ]


def test_the_encoder_does_not_run_in_a_decode_step() -> None:
    work = Workload(phase="decode", batch=1, new_tokens=1, context=4, source_tokens=3)
    found = pictures(encoder_decoder(), work)
    assert [art(each) for each in found] == [["####"], ["###"]]
    assert [str(each.queries) for each in found] == ["position 3", "position 3"]


@pytest.mark.parametrize("attention", kinds(), ids=lambda attention: attention.kind)
def test_every_kind_is_drawn_in_words_of_its_own(attention: Attention) -> None:
    mask = attention.masks[0]
    structure = "causal-decoder" if mask == "causal" else "encoder"
    spec = arch(stack([layer(attention)], mask=mask), d=8, v=10, structure=structure)  # type: ignore[arg-type]
    (found,) = drawn(spec, 6)
    own = visible(spec.main, spec.main.layers[0], rows=6, context=6)
    assert [list(row) for row in found.cells] == own.int().tolist()
    said = family(attention).view(Span(mask=mask, rows=6, context=6))
    assert found.note == said.note
    assert found.title == f"self-attention, {mask}" + ("" if said.title is None else f", {said.title}")
    if attention.kind in ("clustered", "linformer", "nystrom"):
        assert said.note is not None
        assert "no mask of its own" in said.note


def test_what_compressed_keys_stand_for_is_written_with_multiplication_signs() -> None:
    spec = Compressed(n_heads=2, head_dim=4, factor=3, method="mean")
    masks: tuple[Mask, ...] = ("causal", "bidirectional")
    notes = {mask: family(spec).view(Span(mask=mask, rows=6, context=6)).note for mask in masks}
    assert notes == {
        "causal": "Compressed key j stands for the positions (j - 1) * 3 + 1 .. j * 3.",
        "bidirectional": "Compressed key j stands for the positions j * 3 .. j * 3 + 2.",
    }


def test_the_cells_of_a_sight_are_made_once_for_all_models() -> None:
    made: dict[Sight, Cells] = {}
    work = Workload(phase="prefill", batch=1, new_tokens=5, context=5)
    (one,) = pictures(decoder(HEAD), work, made)
    (other,) = pictures(decoder(replace(HEAD, n_heads=4)), work, made)
    assert one.cells is other.cells
    (near,) = pictures(decoder(replace(HEAD, window=2)), work, made)
    assert near.cells != one.cells
    assert len(made) == 2


# --- that they are the masks that are applied --------------------------------------------------


def applied(spec: ArchSpec, work: Workload) -> list[torch.Tensor]:
    """The masks of 0 and -inf that a session has prepared for its cores."""
    session = Session(build(spec, dtypes=FP32, device="cpu"), work, Execution(attention="unfused", kernels="cpu"))
    floats = (each for each in session.constants if each.is_floating_point())
    return [each for each in floats if len(each) == work.new_tokens and bool(((each == 0) | each.isinf()).all())]


@pytest.mark.parametrize(
    ("reference", "tokens"),
    [
        ("llama-2-70b", 48),
        ("llama-2-70b", 28),
        ("attention-options:window", 48),
        ("attention-options:window", 28),
        ("attention-options:local-global", 28),
        ("attention-families:bigbird", 48),
        ("attention-families:bigbird", 28),
        ("attention-families:compressed-mean", 48),
    ],
)
def test_what_is_drawn_is_what_a_session_applies(reference: str, tokens: int) -> None:
    (whole,) = catalog.resolve([reference])
    spec = _small(whole)
    work = Workload(phase="prefill", batch=1, new_tokens=tokens, context=48, dtypes=FP32)
    found = {each.cells for each in pictures(spec, work)}
    assert found == {tuple(bytes((row == 0).tolist()) for row in mask) for mask in applied(spec, work)}


def _small(spec: ArchSpec) -> ArchSpec:
    """The same masks in fewer and narrower layers: nothing that a mask depends on is changed but a window and a block."""

    def cut(attention: Attention) -> Attention:
        sizes: dict[str, int] = {"n_heads": 2, "head_dim": 8}
        if isinstance(attention, Gqa):
            sizes["n_kv_heads"] = 1
            if attention.window is not None:
                sizes["window"] = 7
        if attention.kind == "sparse":
            sizes["block"] = 5
        return replace(attention, **sizes)  # type: ignore[arg-type]

    def shrunk(home: Stack) -> Stack:
        kept = [replace(each, attention=cut(each.attention), ffn=replace(each.ffn, d_ff=8)) for each in home.layers[:6]]
        return replace(home, layers=tuple(kept))

    return replace(spec, d_model=16, vocab_size=10, stacks=tuple(shrunk(each) for each in spec.stacks))


def test_cross_attention_is_what_the_twin_has_for_it() -> None:
    *_, cross = drawn(encoder_decoder(), 2, source=3)
    seen = cross_sight(2, 3).seen(torch.device("cpu"))
    assert [list(row) for row in cross.cells] == seen.int().tolist()


# --- cells ------------------------------------------------------------------------------------


def test_a_cell_of_several_pairs_has_a_shade() -> None:
    sample = picture("####", "##..", "#.#.", "....")
    cut = grid(sample, query_step=2, key_step=2)
    # 4 and 2 of 4 pairs in the upper cells; 1 and 1 of 4 below.
    assert [list(row) for row in cut.shades] == [[ALL, HALF], [SOME, SOME]]
    assert cut.stands_for == "2 queries by 2 keys"
    # All rows in one: 3, 2, 2 and 1 of 4 pairs.
    assert [list(row) for row in grid(sample, query_step=4, key_step=1).shades] == [[MOST, HALF, HALF, SOME]]


def test_the_last_cells_stand_for_what_is_left() -> None:
    cut = grid(picture("..#", "..#", "###"), query_step=2, key_step=2)
    assert [list(row) for row in cut.shades] == [[NONE, ALL], [ALL, ALL]]


masks = st.integers(1, 9).flatmap(
    lambda width: st.lists(st.text("#.", min_size=width, max_size=width), min_size=1, max_size=9)
)


@given(rows=masks)
def test_areas_cover_exactly_what_is_visible(rows: list[str]) -> None:
    sample = picture(*rows)
    covered = [
        (x, y)
        for area in areas(grid(sample, query_step=1, key_step=1))
        for y in range(area.y, area.y + area.height)
        for x in range(area.x, area.x + area.width)
    ]
    assert sorted(covered) == sorted((x, y) for y, row in enumerate(rows) for x, each in enumerate(row) if each == "#")
    assert len(covered) == sample.visible_pairs


def test_equal_rows_are_one_area() -> None:
    assert len(list(areas(grid(picture("##.", "##.", "..#"), query_step=1, key_step=1)))) == 2


def test_steps_and_numbers_are_round() -> None:
    assert [step_for(pairs, 10) for pairs in (1, 10, 11, 40, 41)] == [1, 1, 2, 4, 8]
    assert [round_up(least) for least in (1, 2, 3, 5, 6, 11, 21, 51)] == [1, 2, 5, 5, 10, 20, 50, 100]
    assert list(ticks(Axis(thing="position", first=0, count=12), 5)) == [0, 5, 10]
    assert list(ticks(Axis(thing="position", first=13, count=2), 1)) == [14]
    assert list(ticks(Axis(thing="position", first=13, count=1), 4)) == [13]
    assert list(ticks(Axis(thing="position", first=11, count=5), 1)) == [15]


# --- characters -------------------------------------------------------------------------------


def test_half_blocks_make_a_pair_a_square() -> None:
    lines = to_text([picture("#..", "##.", "###")], columns=80, alphabet=BLOCKS).splitlines()
    assert lines == [
        "sample: a mask",
        "layers.0.attn",
        "6 of 9 (query, key) pairs visible: 66.67%",
        "queries down: positions 0-2; keys across: positions 0-2",
        "   0 2",
        "  ┌───┐",
        "0 │█▄ │",
        "2 │▀▀▀│",
        "  └───┘",
        "█ visible, blank hidden; of a character's two queries ▀ is the upper, ▄ the lower",
    ]


def test_ascii_takes_two_characters_for_a_pair() -> None:
    lines = to_text([picture("#.", "##")], columns=80, alphabet=ASCII).splitlines()
    assert lines[4:] == ["   0 1", "  +----+", "0 |##..|", "1 |####|", "  +----+", "# visible, . hidden"]


@pytest.mark.parametrize(("alphabet", "all_of_it"), [(BLOCKS, "█"), (ASCII, "#")])
def test_what_is_wider_than_the_terminal_is_summarised(alphabet: object, all_of_it: str) -> None:
    triangle = picture(*("#" * (row + 1) + "." * (99 - row) for row in range(100)))
    text = to_text([triangle], columns=40, alphabet=alphabet)  # type: ignore[arg-type]
    # 40 columns less a margin and the frame hold 100 keys four at a time.
    assert "a character stands for 8 queries by 4 keys" in text
    plot = [line for line in text.splitlines() if re.match(r"^ *[0-9]* [│|]", line)]
    assert len(plot) == 13  # 100 queries by 8
    assert {len(line) for line in plot} == {3 + 1 + 25 + 1}
    assert plot[-1].count(all_of_it) >= 23


def test_no_line_of_a_plot_is_wider_than_the_terminal() -> None:
    for count in (10, 37, 38, 39, 200):
        square = picture(*["#" * count] * count)
        for alphabet in (BLOCKS, ASCII):
            plot = to_text([square], columns=40, alphabet=alphabet).splitlines()[4:-1]
            assert max(len(line) for line in plot if not line.startswith("a character")) <= 40


def test_an_encoding_without_blocks_gets_ascii() -> None:
    assert alphabet_for("utf-8") is BLOCKS
    assert alphabet_for("cp437") is BLOCKS
    assert alphabet_for("latin-1") is ASCII
    assert alphabet_for(None) is ASCII


# --- SVG --------------------------------------------------------------------------------------


def areas_of(svg: str) -> list[list[ET.Element]]:
    """The rectangles of each plot."""
    root = ET.fromstring(svg)
    return [group.findall(f"{SVG}rect") for group in root.iter(f"{SVG}g") if group.get("class") == "cells"]


def test_the_rectangles_of_an_svg_add_up_to_the_visible_pairs() -> None:
    found = drawn(decoder(*(each for each in kinds() if "causal" in each.masks), replace(HEAD, window=5)), 12)
    plots = areas_of(to_svg(found))
    assert len(plots) == len(found) > 8
    for rectangles, each in zip(plots, found, strict=True):
        assert {rectangle.get("class") for rectangle in rectangles} == {"all"}
        covered = sum(int(each.attrib["width"]) * int(each.attrib["height"]) for each in rectangles)
        assert covered == each.visible_pairs


def test_an_svg_says_what_it_shows() -> None:
    sample = replace(picture("#.", "##"), subject="a<b>&c")
    root = ET.fromstring(to_svg([sample]))
    assert root.find(f"{SVG}title").text == "a<b>&c: a mask"  # type: ignore[union-attr]
    assert "3 of 4 (query, key) pairs visible: 75.00%." in root.find(f"{SVG}desc").text  # type: ignore[union-attr, operator]
    assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text  # type: ignore[union-attr, operator]
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert {"a<b>&c: a mask", "layers.0.attn", "keys", "queries", "hidden", "visible", "0", "1"} <= set(texts)
    assert not [each for each in root.iter() if each.tag in (f"{SVG}image", f"{SVG}script", f"{SVG}use")]


def test_a_large_mask_is_drawn_in_cells_and_says_so() -> None:
    triangle = picture(*("#" * (row + 1) + "." * (1023 - row) for row in range(1024)))
    svg = to_svg([triangle])
    assert "a cell stands for 2 queries by 2 keys" in svg
    # The diagonal of 512 cells has 3 of 4 pairs each.
    assert sum(each.get("class") == "most" for each in areas_of(svg)[0]) == 512
    assert len(svg) < 200_000


@given(rows=masks)
def test_everything_stands_on_the_sheet(rows: list[str]) -> None:
    page = sheet([picture(*rows)] * 2)
    upper, lower = page.panels
    assert upper.y + upper.height < min(text.y for text in lower.texts)
    for panel in page.panels:
        assert panel.x + panel.width <= page.width
        assert panel.y + panel.height <= page.height
        assert all(0 <= text.x <= page.width and 0 <= text.y <= page.height for text in panel.texts)
        assert all(0 <= mark.x1 <= mark.x2 <= page.width for mark in panel.marks)


def test_a_single_row_is_no_mere_line() -> None:
    (panel,) = sheet([picture("#" * 300)]).panels
    assert (panel.across, panel.down) == (1, 32)
    (square,) = sheet([picture("#" * 4, *["...."] * 3)]).panels
    assert square.across == square.down == 32


# --- PNG --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        ("#...", "##..", ".##.", "..##"),
        ("#.#.#.#.#",),
        tuple("#" * (row % 60) + "." * (70 - row % 60) for row in range(70)),
    ],
)
def test_the_pixels_of_a_png_are_the_mask(rows: tuple[str, ...]) -> None:
    from PIL import Image

    sample = picture(*rows)
    page = sheet([sample])
    (panel,) = page.panels
    image = Image.open(io.BytesIO(to_png([sample])))
    assert (image.format, image.size) == ("PNG", (page.width * SCALE, page.height * SCALE))
    assert image.getpixel((0, 0)) == rgb(LIGHT.ground)
    for y, row in enumerate(rows):
        for x, each in enumerate(row):
            middle = ((panel.x + (x + 0.5) * panel.across) * SCALE, (panel.y + (y + 0.5) * panel.down) * SCALE)
            found = image.getpixel((int(middle[0]), int(middle[1])))
            assert found == shaded(LIGHT, ALL if each == "#" else NONE), (x, y)


def test_shades_lie_between_hidden_and_visible() -> None:
    assert shaded(LIGHT, NONE) == rgb(LIGHT.hidden)
    assert shaded(LIGHT, ALL) == rgb(LIGHT.visible)
    blues = [shaded(LIGHT, shade)[0] for shade in (NONE, SOME, HALF, MOST, ALL)]
    assert blues == sorted(blues, reverse=True)
    assert len(set(blues)) == 5

"""The catalogue: where specs are found, what a reference may look like, and what an unknown one is told."""

# A row of a table is easier to read on one line.

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from spec_samples import DECODER, ENCODER, edited

from llmprof import catalog
from llmprof.errors import InputError, SpecError
from llmprof.predict.api import parameters
from tests.stopwatch import cpu_seconds

WITH_VARIANTS = edited(DECODER, ("name: small", "name: small\naliases: [Org/Small-1B, tiny]")) + (
    "variants:\n  wide: {d_model: 128}\n  deep: {layers.count: 9}\n"
)


def forget() -> None:
    catalog.root.cache_clear()
    catalog.entries.cache_clear()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with a catalogue of two models and a study."""
    specs = tmp_path / "specs"
    for part, family, name, text in (
        ("models", "zebra", "small", WITH_VARIANTS),
        ("models", "ant", "reader", ENCODER),
        ("studies", "", "question", edited(DECODER, ("name: small", "name: question"))),
    ):
        folder = specs / part / family
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)
    (specs / catalog.MARKER).touch()
    monkeypatch.setattr(catalog, "_PACKAGE", tmp_path / "llmprof")
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()


def labels(*refs: str, **options: object) -> list[str]:
    return [arch.label for arch in catalog.resolve(refs, **options)]  # type: ignore[arg-type]


def test_entries_come_by_family_then_name(house: Path) -> None:
    assert [(entry.family, entry.name) for entry in catalog.entries()] == [
        ("ant", "reader"), ("studies", "question"), ("zebra", "small"),
    ]  # fmt: skip
    assert catalog.entries()[0].load().name == "reader"


def test_the_packaged_specs_come_before_those_beside_the_package(house: Path) -> None:
    assert catalog.root() == house / "specs"
    packaged = house / "llmprof" / "specs"
    packaged.mkdir(parents=True)
    (packaged / catalog.MARKER).touch()
    forget()
    assert catalog.root() == packaged


def test_a_directory_without_the_marker_is_not_ours(house: Path) -> None:
    (house / "specs" / catalog.MARKER).unlink()
    forget()
    with pytest.raises(InputError, match="carries no specs"):
        catalog.find("small")
    assert catalog.find("specs/models/zebra/small.yaml").name == "small"


@pytest.mark.parametrize(
    "ref",
    ["small", "SMALL", "Org/Small-1B", "org/small-1b", "TINY", "specs/models/zebra/small.yaml",
     "./specs/models/zebra/small.yaml", "small:wide", "org/small-1b:deep", "specs/models/zebra/small.yaml:wide", "small:base"],
)  # fmt: skip
def test_references(house: Path, ref: str) -> None:
    assert catalog.find(ref).name == "small"


def test_a_path_without_a_suffix_and_one_with_a_colon(house: Path) -> None:
    (house / "mine").write_text(DECODER)
    (house / "odd:name.yaml").write_text(DECODER)
    assert catalog.find("mine").path == Path("mine")
    assert catalog.find("odd:name.yaml").name == "small"
    assert catalog.split("odd:name.yaml") == ("odd:name.yaml", None)


def test_a_shipped_name_is_not_shadowed_by_a_file_of_that_name(house: Path) -> None:
    (house / "reader").write_text(DECODER)
    assert catalog.find("reader").name == "reader"
    assert catalog.find("./reader").name == "small"


def test_standard_input(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(WITH_VARIANTS.encode())

    monkeypatch.setattr(sys, "stdin", Stdin())
    assert labels("-:wide") == ["small:wide"]


@pytest.mark.parametrize(
    ("refs", "options", "expected"),
    [
        (["small"], {}, ["small"]),
        (["small", "reader"], {}, ["small", "reader"]),
        (["small:deep"], {}, ["small:deep"]),
        (["small"], {"variant": "wide"}, ["small:wide"]),
        (["small"], {"variant": ["base", "deep"]}, ["small", "small:deep"]),
        (["small"], {"variant": []}, ["small"]),
        (["small:wide", "small"], {"variant": "deep"}, ["small:wide", "small:deep"]),
        (["small", "reader"], {"all_variants": True}, ["small", "small:wide", "small:deep", "reader"]),
        (["small:wide"], {"all_variants": True}, ["small:wide"]),
        ([], {}, []),
    ],
)
def test_resolving(house: Path, refs: list[str], options: dict[str, object], expected: list[str]) -> None:
    assert labels(*refs, **options) == expected


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("smal", "no spec is called 'smal'; did you mean small? see `llmprof specs list`"),
        ("quest", "did you mean question?"),
        ("nobody-knows-this", "'nobody-knows-this'; see `llmprof specs list`"),
        ("", "no spec is called ''"),
        ("org/other", "no spec is called 'org/other'"),
        ("small:wdie", "small: no variant 'wdie'; it has wide, deep (did you mean 'wide'?)"),
        ("reader:x", "reader: no variant 'x'; it has no variants"),
        ("small:", "small: no variant ''"),
        (":wide", "no spec is called ':wide'"),
        ("x" * 5000, "no spec is called 'xxx"),
        ("a\0b", "no spec is called"),
    ],
)
def test_what_is_not_known(house: Path, ref: str, words: str) -> None:
    for call in (catalog.find, lambda text: catalog.resolve([text])):
        with pytest.raises(InputError) as caught:
            call(ref)
        assert words in str(caught.value)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("absent.yaml", "no such file"),
        ("./absent", "no such file"),
        ("specs", "a folder"),
        ("a\0.yaml", "cannot be read"),
    ],
)
def test_paths_that_cannot_be_loaded(house: Path, ref: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        catalog.find(ref)


def test_an_alias_in_a_comment_is_not_an_alias(house: Path) -> None:
    path = house / "specs" / "models" / "ant" / "reader.yaml"
    path.write_text("# not my-alias\n" + ENCODER)
    with pytest.raises(InputError):
        catalog.find("my-alias")


# --- the shipped catalogue --------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> tuple[catalog.Entry, ...]:
    forget()
    return catalog.entries()


def test_every_shipped_spec_loads_under_its_own_name(shipped: tuple[catalog.Entry, ...]) -> None:
    assert shipped
    for entry in shipped:
        assert entry.load().name == entry.name, entry.path


def test_no_name_and_no_alias_stands_for_two(shipped: tuple[catalog.Entry, ...]) -> None:
    owners: dict[str, str] = {}
    for entry in shipped:
        for word in {entry.name.lower(), *(alias.lower() for alias in entry.load().aliases)}:
            assert owners.setdefault(word, entry.name) == entry.name, word
    assert len(owners) >= len(shipped)


def test_every_shipped_alias_finds_its_spec(shipped: tuple[catalog.Entry, ...]) -> None:
    for entry in shipped:
        for alias in entry.load().aliases:
            assert catalog.find(alias.upper()).name == entry.name


def test_names_and_aliases_are_stable(shipped: tuple[catalog.Entry, ...]) -> None:
    """`tests/golden/names.csv` pins them: a name or an alias that is gone, or that has come, is a change of that file."""
    with (Path(__file__).parent.parent / "golden" / "names.csv").open(newline="", encoding="utf-8") as file:
        pinned = {row["name"]: row["aliases"] for row in csv.DictReader(file)}
    found = {entry.name: ";".join(entry.load().aliases) for entry in shipped}
    assert pinned.keys() - found.keys() == set(), "a name of the catalogue is gone"
    assert found.keys() - pinned.keys() == set(), "add the new name to tests/golden/names.csv"
    assert {name: found[name] for name in found if found[name] != pinned[name]} == {}


def test_the_notes_say_how_many_there_are(shipped: tuple[catalog.Entry, ...]) -> None:
    notes = Path(__file__).parent.parent.parent / "docs" / "catalogue-notes.md"
    families = [entry.family for entry in shipped if entry.path.parent.parent.name == "models"]
    said = f"There are {len(families)} models of {len(set(families))} families, and {len(shipped) - len(families)} studies."
    assert said in notes.read_text(encoding="utf-8")


def test_every_model_has_the_name_of_its_repository(shipped: tuple[catalog.Entry, ...]) -> None:
    """Among the aliases of a model is its name on the hub, but for those that were never released there."""
    without = {
        entry.name
        for entry in shipped
        if entry.path.parent.parent.name == "models" and not any("/" in alias for alias in entry.load().aliases)
    }
    never_released = {name for name in without if name.startswith(("gpt3-", "palm-", "u-palm", "cogview", "opt-175b"))}
    # llama-2-34b was trained and not released; the first release of ChatGLM-6B is a revision of the second's repository.
    assert without - never_released == {"llama-2-34b", "chatglm-6b-v150528"}


def test_the_whole_catalogue_loads_and_is_counted_within_two_seconds(shipped: tuple[catalog.Entry, ...]) -> None:
    """CPU seconds of this process, so that a busy machine does not fail it: 0.5 of them for 289 specs on 2026-11-30."""

    def counted() -> None:
        forget()
        parameters.cache_clear()
        assert sum(parameters(entry.load().base).total for entry in catalog.entries()) > 10**13

    assert cpu_seconds(counted) < 2.0


def test_the_whole_catalogue_loads_within_a_second(shipped: tuple[catalog.Entry, ...]) -> None:
    assert cpu_seconds(lambda: [entry.load() for entry in shipped]) < 1.0


def test_loading_imports_neither_torch_nor_numpy_nor_the_whole_of_pydantic() -> None:
    code = (
        "import sys; from llmprof import catalog; catalog.entries()[0].load();"
        "print([name for name in ('torch', 'numpy', 'pydantic', 'rich', 'typer', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

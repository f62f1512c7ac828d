"""The tables of tensor names: each target exists in some architecture, and GGUF's names are gguf's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from llmprof import catalog
from llmprof.stored import names_gguf, names_hf
from llmprof.stored.architecture import wanted
from llmprof.stored.fold import fold, together
from llmprof.stored.names import BUFFER, MTP, TASK, TOWER, name_of
from llmprof.stored.reading import Reading, readings
from tests.importing import cases, imported

TABLES: Mapping[str, Mapping[str, str]] = {
    "hf outer": names_hf.OUTER,
    "hf layer": names_hf.LAYER,
    "hf parameters": names_hf.PARAMETERS,
    "gguf outer": names_gguf.OUTER,
    "gguf layer": names_gguf.LAYER,
    "gguf parameters": names_gguf.PARAMETERS,
}


def _bare(path: str) -> str:
    """The path without stack, layer and index: what the tables say."""
    parts = [part for part in path.split(".") if not part.isdigit()]
    return ".".join(part for part in parts if part not in ("layers", "encoder", "decoder"))


@pytest.fixture(scope="module")
def paths() -> set[tuple[str, str]]:
    """Every parameter of every architecture at hand, without its layer."""
    archs = [entry.load().base for entry in catalog.entries() if entry.family != "studies"]
    archs += [imported(config).spec.base for case in cases() for _, config in case.configs()]
    return {(_bare(path), name) for arch in archs for path, name in wanted(arch)}


@pytest.mark.parametrize("table", TABLES)
def test_no_target_is_misspelt(table: str, paths: set[tuple[str, str]]) -> None:
    known = {path for path, _ in paths}
    unknown = {
        path
        for target in TABLES[table].values()
        for suffix in ("weight", None)
        for reading in readings(target, suffix)
        for path, _ in reading.slots
        if _bare(path) not in known
    }
    assert unknown == set()


def test_every_parameter_has_a_name_on_the_hub(paths: set[tuple[str, str]]) -> None:
    """Each leaf that an imported family has can be reached by a table; those of further layers by theirs."""
    reached = {
        (_bare(path), name)
        for table in (names_hf.OUTER, names_hf.LAYER, names_hf.PARAMETERS)
        for target in table.values()
        for suffix in ("weight", "bias", None)
        for reading in readings(target, suffix)
        for path, name in reading.slots
    } | {("rel_bias", "weight")}
    there = {(path, name) for path, name in paths if not path.startswith("mtp.")}
    assert there - reached == set()


def test_gguf_s_names_are_gguf_s() -> None:
    gguf = pytest.importorskip("gguf")
    theirs = set(gguf.TENSOR_NAMES.values())
    ours = {f"blk.{{bid}}.{name}" for name in (*names_gguf.LAYER, *names_gguf.FURTHER)} | set(names_gguf.OUTER)
    sides = {name.replace("enc.", "").replace("dec.", "") for name in theirs}
    assert {name for name in ours if name not in theirs and name not in sides} == set()
    parameters = {f"blk.{{bid}}.{name.removesuffix('.bias')}" for name in names_gguf.PARAMETERS}
    assert parameters <= theirs


def _both(arch: str) -> Iterator[tuple[str, str]]:
    """Names of the hub that gguf's own table knows, and what it makes of them."""
    import gguf

    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    table = gguf.get_tensor_name_map(number, 1)
    for prefix in ("model.layers.0.", "transformer.h.0.", "h.0.", "backbone.layers.0."):
        for name in (*names_hf.LAYER, *names_hf.PARAMETERS):
            found = table.get_name(f"{prefix}{name.replace('.*.', '.')}")
            if found is not None and not name.endswith(("_bias", "dt_bias")):
                yield f"{prefix}{name.replace('.*.', '.0.')}", found


ARCHS = ("llama", "qwen2", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "phi3", "starcoder2", "gpt2", "bloom")
MORE = ("falcon", "mamba", "deepseek2", "gpt-oss", "qwen3next", "olmo2", "glm4", "jamba", "lfm2", "nemotron_h")


UNLIKE = {
    ("ln2", "attn_norm_2"): "a norm of RWKV and of others that are not read; here the name is Falcon's",
    ("post_attention_layernorm", "attn_norm_2"): "likewise",
    ("feed_forward.down_proj", "ffn_up_shexp"): "gguf's map has Llama 4's down_proj in this place too",
}
"""Names at which gguf's table is not followed, and why."""


@pytest.mark.parametrize("arch", [*ARCHS, *MORE])
def test_a_tensor_stands_in_one_place_by_both_of_its_names(arch: str) -> None:
    """gguf maps a name of the hub to one of its own: the readings of the two have to meet."""
    pytest.importorskip("gguf")
    seen, unlike = 0, set()
    for hub, own in _both(arch):
        by_hub, by_own = _readings(hub, "safetensors"), _readings(own, "gguf")
        if not by_hub & by_own:
            unlike.add((hub.partition("0.")[2], own.removeprefix("blk.0.")))
        seen += 1
    assert unlike <= set(UNLIKE)
    assert seen > 5


def _readings(name: str, kind: str) -> set[tuple[str, ...]]:
    """Every set of leaves that a name may stand for, with a suffix and without."""
    found: set[tuple[str, ...]] = set()
    for called in (name, f"{name}.weight"):
        placed = name_of(called, 2, kind)
        for reading in placed.readings if placed is not None else ():
            found.add(tuple(path for path, _ in reading.slots))
    return found


@pytest.mark.parametrize(
    ("name", "rank", "beside"),
    [
        ("model.layers.3.self_attn.rotary_emb.inv_freq", 1, BUFFER),
        ("h.0.attn.bias", 4, BUFFER),
        ("gpt_neox.layers.0.attention.masked_bias", 0, BUFFER),
        ("model.layers.3.mlp.gate.e_score_correction_bias", 1, BUFFER),
        ("bert.embeddings.position_ids", 2, BUFFER),
        ("vision_tower.encoder.layers.0.weight", 2, TOWER),
        ("model.visual.patch_embed.proj.weight", 4, TOWER),
        ("model.multi_modal_projector.linear.weight", 2, TOWER),
        ("thinker.audio_tower.conv1.weight", 3, TOWER),
        ("cls.seq_relationship.weight", 2, TASK),
    ],
)
def test_what_is_no_parameter(name: str, rank: int, beside: str) -> None:
    found = name_of(name, rank, "safetensors")
    assert found is not None
    assert found.beside == beside


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("visualise.weight", "safetensors"),
        ("model.layers.0.visual_gate.weight", "safetensors"),
        ("h.0.attn.bias.weight", "safetensors"),
        ("model.layers.0.self_attn.q_proj.weight", "gguf"),
        ("blk.0.attn_q.weight", "safetensors"),
        ("blk.0.attn_q.scale", "gguf"),
    ],
)
def test_what_no_table_has(name: str, kind: str) -> None:
    assert name_of(name, 2, kind) is None


def test_the_notation() -> None:
    assert readings("attn.q_proj + attn.k_proj | attn.in_proj*", "bias") == (
        Reading((("attn.q_proj", "bias"), ("attn.k_proj", "bias"))),
        Reading((("attn.in_proj", "bias"),), part=True),
    )
    assert readings("ffn.experts:gate", "bias") == (Reading((("ffn.experts", "gate_bias"),)),)
    assert readings("attn.core:sinks", "weight") == (Reading((("attn.core", "sinks"),)),)


def test_an_expert_and_its_layer() -> None:
    found = name_of("model.layers.7.mlp.experts.11.up_proj.weight", 2, "safetensors")
    assert found is not None
    assert (found.layer, found.expert, found.stack) == (7, 11, "")
    assert found.readings == (Reading((("ffn.experts", "up"),)),)


def test_a_further_layer_by_its_name() -> None:
    found = name_of("mtp.layers.0.mlp.up_proj.weight", 2, "safetensors")
    assert found is not None
    assert (found.layer, found.stack) == (0, MTP)
    assert found.readings[0].of_further(0) == Reading((("mtp.layers.0.ffn.up", "weight"),))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.0.b", "a.1.b", "a.2.b"], ["a.{0-2}.b"]),
        (["a.0.b.0", "a.0.b.1", "a.1.b.0", "a.1.b.1"], ["a.{0-1}.b.{0-1}"]),
        (["a.0.b.0", "a.1.b.0", "a.1.b.1"], ["a.0.b.0", "a.1.b.{0-1}"]),
        (["a.0.b", "c.0.b"], ["a.0.b", "c.0.b"]),
        (["a.00.b", "a.1.b"], ["a.00.b", "a.1.b"]),
        (["x", "x"], ["x", "x"]),
        (["a.5.x1.b"], ["a.5.x1.b"]),
    ],
)
def test_names_that_differ_in_numbers_are_one(names: list[str], expected: list[str]) -> None:
    assert [name for name, _ in fold(names, str, lambda _: None)] == expected
    assert sum(len(group) for _, group in fold(names, str, lambda _: None)) == len(names)


def test_several_paths_as_one_text() -> None:
    assert together(["layers.0.attn", "layers.1.attn", "layers.0.attn"]) == "layers.{0-1}.attn"

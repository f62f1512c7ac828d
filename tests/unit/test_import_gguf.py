"""GGUF files as specs, against transformers: the model whose file it is, its config, and transformers' own reading."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf")

from llmprof.errors import SpecError
from llmprof.importing.gguf.keys import shortest
from llmprof.importing.gguf.read import TABLES, config_of, read_gguf_spec
from llmprof.importing.headers.gguf import read_gguf
from llmprof.predict.parameters import parameters
from llmprof.stored.join import join
from llmprof.stored.joined import Kind
from tests.gguf_cases import CASES, Case, build, write
from tests.importing import imported
from tests.small_gguf import small_llama

EACH = [
    pytest.param(case, name, id=f"{case.arch}, {case.model_type}: {name}") for case in CASES for name in case.configs()
]

OWN_NAMES = {
    "gpt2": {"n_ctx", "feed_forward_length"},  # n_positions and n_inner
    "falcon": {"intermediate_size", "num_key_value_heads"},  # ffn_hidden_size and num_kv_heads
    "mamba": {"max_position_embeddings"},  # which nothing bounds
    "mixtral": {"model_type"},  # which transformers reads as a LLaMA, and so without its experts
}
"""Fields that transformers fills and the table does not, by family: by another name, or not at all."""
UNREAD = {"gemma", "deepseek_v2", "deepseek_v3", "gpt_oss", "olmo2", "granite", "gpt_neox"}
"""Families whose files transformers 5.23.0 does not read (gpt-oss: with numpy 2.4)."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Path, int]]:
    """The file of every case and how many parameters its model has."""
    made = {}
    for case in CASES:
        for name, config in case.configs().items():
            folder = tmp_path_factory.mktemp("model")
            model = build(config, case.model_type)
            model.save_pretrained(folder)
            total = sum(p.numel() for p in model.parameters())
            made[case.model_type, name] = write(case, config, folder, folder / "small.gguf"), total
    return made


@pytest.mark.parametrize(("case", "name"), EACH)
def test_a_file_is_the_model_that_it_was_written_of(case: Case, name: str, files: dict[Any, Any]) -> None:
    path, total = files[case.model_type, name]
    found = read_gguf_spec(path)
    assert parameters(found.spec.base).total == total
    joined = join(found.spec.base, read_gguf(path))
    assert joined.explained, joined.items
    assert joined.by_kind[Kind.PARAMETER][1] == total
    assert found.defaults == {}, "what the file does not say is llama.cpp's to say, not a class's"


@pytest.mark.parametrize(("case", "name"), EACH)
def test_a_file_is_the_architecture_of_the_config(case: Case, name: str, files: dict[Any, Any]) -> None:
    path, _ = files[case.model_type, name]
    ours = read_gguf_spec(path).spec.base
    config = {"model_type": case.model_type, **case.configs()[name]}
    if case.model_type == "gpt_oss":
        config["rope_scaling"] = {"rope_type": "yarn", "factor": 32.0}
    theirs = imported(config).spec.base
    assert ours.stacks == theirs.stacks
    assert (ours.d_model, ours.vocab_size, ours.head) == (theirs.d_model, theirs.vocab_size, theirs.head)
    assert ours.tied_embeddings == theirs.tied_embeddings
    if case.model_type not in ("bloom", "falcon"):  # whose configs say nothing of a context that files state
        assert ours.max_context == theirs.max_context


@pytest.mark.parametrize(("case", "name"), EACH)
def test_transformers_reads_the_same_fields(case: Case, name: str, files: dict[Any, Any]) -> None:
    if case.model_type in UNREAD:
        pytest.skip("transformers does not read these files")
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    path, _ = files[case.model_type, name]
    theirs = load_gguf_checkpoint(str(path))["config"]  # type: ignore[no-untyped-call]
    ours, _ = config_of(read_gguf(path))
    del theirs["_model_name_or_path"]
    unlike = {key for key, value in theirs.items() if not _same(ours.get(key), value)}
    assert unlike == OWN_NAMES.get(case.model_type, set())


def _same(ours: Any, theirs: Any) -> bool:
    """Equal; of fp32 in a file we take the shortest number, transformers the nearest in fp64."""
    if isinstance(theirs, float) and isinstance(ours, float):
        return shortest(theirs) == ours
    return bool(ours == theirs)


def test_every_architecture_has_a_case() -> None:
    assert {case.arch for case in CASES} == set(TABLES)


def test_a_tied_llama_by_hand(tmp_path: Path) -> None:
    # 10 x 8 embeddings; 3 x 8 norms; q, o 8 x 8 each; k, v 4 x 8 each; gate, up, down 16 x 8 each
    expected = 80 + 24 + 2 * 64 + 2 * 32 + 3 * 128
    found = read_gguf_spec(small_llama().write(tmp_path / "tiny.gguf"))
    assert parameters(found.spec.base).total == expected == 680
    assert found.spec.base.tied_embeddings
    assert found.spec.name == "tiny"
    assert "eps: 1e-05" in found.text or "eps: 0.00001" in found.text


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"general.architecture": "mammut"}, "general.architecture", "one of bloom"),
        ({"general.architecture": None}, "general.architecture", "missing"),
        ({"llama.attention.sliding_window": 32}, "llama.attention.sliding_window", "may decide a shape"),
        ({"llama.block_count": None}, "llama.block_count", "missing"),
        ({"llama.block_count": 2**31}, "llama.block_count", "the 1 layers that the file has tensors of"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon", "missing"),
        ({"llama.attention.head_count_kv": 2}, "blk.0.attn_k.weight", "2 of keys"),
        ({"llama.attention.key_length": 6, "llama.attention.value_length": 4}, "value_length", "as of the keys"),
        ({"llama.rope.dimension_count": 2}, "llama.rope.dimension_count", "all values of a head"),
        ({"llama.feed_forward_length": 17}, "blk.0.ffn_up.weight", "feed_forward_length"),
        ({"llama.feed_forward_length": [16, 16]}, "", ""),
        ({"llama.vocab_size": 12}, "llama.vocab_size", "token_embd"),
        ({"llama.rope.scaling.type": "odd"}, "rope.scaling.type", "one of none"),
        ({"llama.embedding_length": "8"}, "llama.embedding_length", "whole number"),
        ({"llama.expert_count": 4}, "expert_used_count", "missing"),
        ({"clip.vision": True}, "clip.vision", "may decide a shape"),
    ],
)
def test_what_is_not_understood_stops_the_import(
    changes: dict[str, Any], path: str, words: str, tmp_path: Path
) -> None:
    file = small_llama(**changes).write(tmp_path / "x.gguf")
    if not path:
        assert parameters(read_gguf_spec(file).spec.base).total == 680
        return
    with pytest.raises(SpecError) as caught:
        read_gguf_spec(file)
    assert path in str(caught.value)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_an_output_matrix_counts_and_may_be_a_copy(tmp_path: Path) -> None:
    found = read_gguf_spec(small_llama().tensor("output.weight", "F32", [10, 8]).write(tmp_path / "x.gguf"))
    assert parameters(found.spec.base).total == 680 + 10 * 8
    assert not found.spec.base.tied_embeddings
    assert "does not say whether it is a copy" in found.remarks[0]
    assert found.spec.notes is not None


def test_a_wrong_field_is_said_at_its_key(tmp_path: Path) -> None:
    made = small_llama(12, **{"llama.attention.head_count_kv": 3})  # two heads of queries and three of keys
    with pytest.raises(SpecError, match=r"llama\.attention\.head_count_kv: "):
        read_gguf_spec(made.write(tmp_path / "x.gguf"))


@pytest.mark.parametrize("value", [1e-5, 1e-6, 0.1, 10000.0, 0.0625, 2.5, 1e30])
def test_the_shortest_number_of_an_fp32(value: float) -> None:
    import struct

    assert shortest(struct.unpack("<f", struct.pack("<f", value))[0]) == value


def test_the_shortest_of_what_is_no_fp32() -> None:
    assert shortest(1e300) == 1e300
    assert math.isinf(shortest(math.inf))

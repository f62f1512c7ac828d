"""A file against an architecture: every tensor has one place, and what is wrong is said where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmprof.importing.headers.safetensors import read_safetensors
from llmprof.predict.parameters import parameters
from llmprof.spec.arch import ArchSpec
from llmprof.spec.load import load_text
from llmprof.stored.join import MOST_PADDING, join
from llmprof.stored.joined import Joined, Kind
from tests.released import Llama
from tests.weights import write_safetensors

SPEC = """
name: small
source: {{url: "https://example.org", read: recalled}}
structure: causal-decoder
vocab_size: 512
d_model: 128
max_context: 64
tied_embeddings: {tied}
position: {{kind: rope, theta: 10000}}
layers:
  count: 2
  norm: {{kind: rmsnorm, placement: pre}}
  attention: {{kind: gqa, n_heads: 4, n_kv_heads: 2, head_dim: 32}}
  ffn: {ffn}
"""
DENSE = "{kind: swiglu, d_ff: 256}"
MOE = "{kind: moe, n_experts: 4, top_k: 2, expert: {kind: swiglu, d_ff: 256}}"
RELEASE = Llama(layers=2, d=128, f=256, v=512, q=128, kv=64)
TOTAL = 2 * 512 * 128 + 128 + 2 * (2 * 128 + 2 * 128 * 128 + 2 * 64 * 128 + 3 * 256 * 128)


def arch(*, tied: bool = False, ffn: str = DENSE) -> ArchSpec:
    """The small architecture."""
    return load_text(SPEC.format(tied=str(tied).lower(), ffn=ffn)).base


def joined(tensors: Any, tmp_path: Path, of: ArchSpec | None = None) -> Joined:
    """A release against the architecture; every value and byte of it has to stand in one item."""
    file = read_safetensors(write_safetensors(tmp_path / "x.safetensors", tensors))
    made = join(of or arch(), file)
    assert sum(item.nbytes for item in made.items) == file.nbytes
    assert sum(item.whole for item in made.items) == len(file.tensors)
    assert sum(values for _, values in made.balance()) == made.values
    return made


def kinds(made: Joined) -> dict[str, int]:
    """Kind -> values, without the parameters."""
    return {kind.name: values for kind, (_, values, _) in made.by_kind.items() if kind is not Kind.PARAMETER}


def test_a_plain_release(tmp_path: Path) -> None:
    made = joined(RELEASE.plain(), tmp_path)
    assert made.explained
    assert made.values == made.params_total == TOTAL == parameters(arch()).total
    paths = {item.tensor.name: item.path for item in made.items}
    assert paths["model.layers.1.self_attn.q_proj.weight"] == "layers.1.attn.q_proj"
    assert paths["model.embed_tokens.weight"] == "embed"


@pytest.mark.parametrize("form", ["gptq", "awq", "compressed", "nvfp4", "fp8", "bnb4", "bnb8", "mlx"])
def test_a_quantised_release_has_the_same_parameters(form: str, tmp_path: Path) -> None:
    made = joined(RELEASE.packed(form, group=64), tmp_path)
    assert made.explained, made.items
    assert made.by_kind[Kind.PARAMETER][1] == TOTAL
    assert set(kinds(made)) == {"QUANTISATION"}


@pytest.mark.parametrize(
    ("form", "bits"), [("gptq", 2), ("gptq", 8), ("awq", 8), ("compressed", 8), ("mlx", 2), ("mlx", 8)]
)
def test_other_widths_of_packed_values(form: str, bits: int, tmp_path: Path) -> None:
    made = joined(RELEASE.packed(form, bits=bits, group=64), tmp_path)
    assert made.explained
    assert made.by_kind[Kind.PARAMETER][1] == TOTAL


@pytest.mark.parametrize(
    ("form", "release"),
    [
        ("gptq", "{kind: gptq, bits: 4, group: 64}"),
        ("awq", "{kind: awq, group: 64}"),
        ("fp8", "{kind: fp8-blocks, rows: 128, columns: 128}"),
        ("nvfp4", "{kind: nvfp4}"),
        ("compressed", "{kind: int, bits: 4, group: 64, shape: true}"),
    ],
)
def test_a_release_takes_the_bytes_that_the_spec_states(form: str, release: str, tmp_path: Path) -> None:
    """The prediction of the bytes, from shapes, against the headers, by the names of tensors."""
    text = SPEC.format(tied="false", ffn=DENSE) + f"release: {{dtype: bf16, packing: {release}}}\n"
    made = joined(RELEASE.packed(form, group=64), tmp_path, load_text(text).base)
    assert made.held_bytes == made.stated_bytes
    plain = joined(RELEASE.plain(), tmp_path, load_text(text).base)
    assert plain.explained
    assert plain.held_bytes == 2 * TOTAL != plain.stated_bytes


def test_the_bytes_of_a_gptq_matrix_by_hand(tmp_path: Path) -> None:
    made = joined(RELEASE.packed("gptq", group=64), tmp_path)
    up = next(item for item in made.items if item.tensor.name == "model.layers.0.mlp.up_proj.qweight")
    # 128 inputs in words of eight values for 256 outputs: 16 x 256 words of four bytes
    assert (up.values, up.nbytes, up.path) == (128 * 256, 16 * 256 * 4, "layers.0.ffn.up")


def test_a_copy_of_a_tied_table(tmp_path: Path) -> None:
    made = joined(RELEASE.plain(), tmp_path, arch(tied=True))
    assert made.explained
    assert kinds(made) == {"COPY": 512 * 128}


def test_a_tied_release_with_the_output_matrix_alone(tmp_path: Path) -> None:
    tensors = RELEASE.plain()
    del tensors["model.embed_tokens.weight"]
    made = joined(tensors, tmp_path, arch(tied=True))
    assert made.explained
    assert kinds(made) == {}


def test_buffers(tmp_path: Path) -> None:
    more = {
        "model.rotary_emb.inv_freq": ("F32", [16]),
        "model.layers.0.self_attn.rotary_emb.cos_cached": ("F32", [1, 1, 64, 32]),
        "model.layers.0.self_attn.bias": ("U8", [1, 1, 8, 8]),
        "model.embeddings.position_ids": ("I64", [1, 64]),
        "nothing": ("F32", [0, 128]),
    }
    # a mask is called `attn.bias`: `self_attn.bias` is no name that anybody knows
    made = joined({**RELEASE.plain(), **more}, tmp_path)
    assert kinds(made) == {"BUFFER": 16 + 64 * 32 + 64, "UNEXPLAINED": 64}


def test_rows_of_padding(tmp_path: Path) -> None:
    tensors = RELEASE.plain()
    tensors["model.embed_tokens.weight"] = ("BF16", [576, 128])
    tensors["lm_head.weight"] = ("BF16", [576, 128])
    made = joined(tensors, tmp_path)
    assert made.explained
    assert kinds(made) == {"PADDING": 2 * 64 * 128}
    assert made.by_kind[Kind.PADDING] == (0, 2 * 64 * 128, 2 * 64 * 128 * 2)


@pytest.mark.parametrize("rows", [512 + MOST_PADDING, 511])
def test_what_is_no_padding(rows: int, tmp_path: Path) -> None:
    made = joined(RELEASE.plain() | {"lm_head.weight": ("BF16", [rows, 128])}, tmp_path)
    assert kinds(made) == {"DIFFERS": rows * 128}
    assert [(each.path, each.expected, each.found, each.differs) for each in made.lacking] == [
        ("lm_head", 512 * 128, 0, True)
    ]
    assert not made.explained


def test_another_size_and_other_sides(tmp_path: Path) -> None:
    """A matrix of another size, and one of the same size that has neither side of what it should be."""
    tensors = RELEASE.plain()
    tensors["model.layers.0.self_attn.k_proj.weight"] = ("BF16", [32, 128])
    tensors["model.layers.1.mlp.up_proj.weight"] = ("BF16", [512, 64])
    made = joined(tensors, tmp_path)
    assert [(each.path, each.differs) for each in made.lacking] == [
        ("layers.0.attn.k_proj", True),
        ("layers.1.ffn.up", True),
    ]
    note = next(item.note for item in made.items if item.path == "layers.0.attn.k_proj")
    assert note == "found [32, 128], 4,096 values; expected [64, 128], 8,192 values"


def test_a_transposed_matrix_is_the_same(tmp_path: Path) -> None:
    made = joined(RELEASE.plain() | {"model.layers.0.mlp.up_proj.weight": ("BF16", [128, 256])}, tmp_path)
    assert made.explained


def test_what_is_missing(tmp_path: Path) -> None:
    tensors = RELEASE.plain()
    del tensors["model.layers.1.mlp.down_proj.weight"], tensors["model.norm.weight"]
    made = joined(tensors, tmp_path)
    assert [(each.path, each.name, each.found, each.differs) for each in made.lacking] == [
        ("layers.1.ffn.down", "weight", 0, False),
        ("final_norm", "weight", 0, False),
    ]
    assert dict(made.balance())["of them not in the file"] == -(256 * 128 + 128)
    assert not made.explained


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.2.mlp.up_proj.weight",
        "model.layers.0.mlp.side_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "unheard.of",
        "model.layers.0.mlp.up_proj.qweight",
        "model.layers.0.mlp.other_proj.weight_scale",
        "lm_head.bias",
        "model.layers.999999999.mlp.up_proj.weight",
    ],
)
def test_what_no_table_and_no_architecture_has_is_unexplained(name: str, tmp_path: Path) -> None:
    made = joined(RELEASE.plain() | {name: ("F32", [128, 256])}, tmp_path)
    assert kinds(made) == {"UNEXPLAINED": 128 * 256}
    assert not made.explained


def test_a_parameter_twice(tmp_path: Path) -> None:
    made = joined(RELEASE.plain() | {"transformer.h.0.mlp.up_proj.weight": ("F32", [256, 128])}, tmp_path)
    assert kinds(made) == {"UNEXPLAINED": 256 * 128}


def test_towers_and_heads_of_other_tasks(tmp_path: Path) -> None:
    more = {
        "vision_tower.layers.0.weight": ("F32", [7]),
        "model.visual.blocks.0.attn.qkv.weight": ("F32", [5, 5]),
        "multi_modal_projector.linear_1.bias": ("F32", [3]),
        "vision_tower.layers.0.weight_scale": ("F32", [2]),
        "encoder.layers.0.mlp.up_proj.weight": ("F32", [11]),  # of sound, beside a model of language by that name
        "model.language_model.score.weight": ("F32", [2, 128]),
    }
    renamed = {f"language_model.{name}": entry for name, entry in RELEASE.plain().items()}
    made = joined({**renamed, **more}, tmp_path)
    assert made.explained, [item for item in made.items if item.kind is Kind.UNEXPLAINED]
    assert kinds(made) == {"TOWER": 7 + 25 + 3 + 2 + 11, "TASK": 256}


def experts(name: str = "mlp.experts.{}.{}_proj", router: str = "mlp.gate") -> dict[str, Any]:
    """The small model with four experts in place of each feed-forward."""
    made = {key: entry for key, entry in RELEASE.plain().items() if ".mlp." not in key}
    for i in range(2):
        made[f"model.layers.{i}.{router}.weight"] = ("BF16", [4, 128])
        for e in range(4):
            for part, shape in (("gate", [256, 128]), ("up", [256, 128]), ("down", [128, 256])):
                made[f"model.layers.{i}.{name.format(e, part)}.weight"] = ("BF16", shape)
    return made


def test_experts_one_by_one_and_in_one_tensor(tmp_path: Path) -> None:
    assert joined(experts(), tmp_path, arch(ffn=MOE)).explained
    stacked = {key: entry for key, entry in experts().items() if ".experts." not in key}
    for i in range(2):
        stacked[f"model.layers.{i}.mlp.experts.gate_up_proj"] = ("BF16", [4, 512, 128])
        stacked[f"model.layers.{i}.mlp.experts.down_proj"] = ("BF16", [4, 128, 256])
    made = joined(stacked, tmp_path, arch(ffn=MOE))
    assert made.explained
    assert made.values == joined(experts(), tmp_path, arch(ffn=MOE)).values


def test_an_expert_too_few_and_one_too_many(tmp_path: Path) -> None:
    tensors = experts()
    del tensors["model.layers.0.mlp.experts.3.up_proj.weight"]
    tensors["model.layers.1.mlp.experts.4.up_proj.weight"] = ("BF16", [256, 128])
    made = joined(tensors, tmp_path, arch(ffn=MOE))
    assert [(each.path, each.name, each.expected, each.found) for each in made.lacking] == [
        ("layers.0.ffn.experts", "up", 4 * 256 * 128, 3 * 256 * 128)
    ]
    assert kinds(made) == {"UNEXPLAINED": 256 * 128}
    assert "4 experts" in next(item.note for item in made.items if item.kind is Kind.UNEXPLAINED)


def test_an_expert_of_another_size(tmp_path: Path) -> None:
    tensors = experts() | {"model.layers.0.mlp.experts.3.up_proj.weight": ("BF16", [128, 128])}
    made = joined(tensors, tmp_path, arch(ffn=MOE))
    assert kinds(made) == {"DIFFERS": 128 * 128}
    assert [(each.found, each.differs) for each in made.lacking] == [(3 * 256 * 128, True)]


MTP = SPEC.replace("  ffn: {ffn}", "  main: {{count: 2, ffn: {ffn}}}\nmtp: {{count: 1, like: main}}").replace(
    "  count: 2\n", ""
)


def further(prefix: str) -> dict[str, Any]:
    """A layer behind the last one, with copies of both tables."""
    layer = {
        key.replace("layers.1", "layers.2"): entry
        for key, entry in RELEASE.plain().items()
        if key.startswith("model.layers.1.")
    }
    more = {
        "embed_tokens": [512, 128],
        "enorm": [128],
        "hnorm": [128],
        "eh_proj": [128, 256],
        "shared_head.norm": [128],
        "shared_head.head": [512, 128],
    }
    return layer | {f"{prefix}.{name}.weight": ("BF16", shape) for name, shape in more.items()}


@pytest.mark.parametrize("stated", [True, False])
def test_a_layer_of_further_tokens(stated: bool, tmp_path: Path) -> None:
    """With the layer in the spec every tensor has its place there; without it is one item."""
    spec = load_text(MTP.format(tied="false", ffn=DENSE)).base if stated else arch()
    own = 2 * 128 + 2 * 128 * 128 + 2 * 64 * 128 + 3 * 256 * 128 + 3 * 128 + 128 * 256
    made = joined(RELEASE.plain() | further("model.layers.2"), tmp_path, spec)
    assert made.explained, made.lacking
    assert kinds(made) == {"MTP": own + 2 * 512 * 128}
    assert made.further_expected == (own if stated else 0)
    if stated:
        del (tensors := RELEASE.plain() | further("model.layers.2"))["model.layers.2.eh_proj.weight"]
        lacking = joined(tensors, tmp_path, spec).lacking
        assert [(each.path, each.further) for each in lacking] == [("mtp.join.0.proj", True)]


def test_a_file_without_the_further_layer_says_so(tmp_path: Path) -> None:
    made = joined(RELEASE.plain(), tmp_path, load_text(MTP.format(tied="false", ffn=DENSE)).base)
    assert made.explained
    assert made.notes == ("the file has none of the layers that predict further tokens, which no total counts",)


def test_a_layer_too_many_without_what_joins_it_is_unexplained(tmp_path: Path) -> None:
    more = {"model.layers.2.mlp.up_proj.weight": ("BF16", [256, 128])}
    assert kinds(joined(RELEASE.plain() | more, tmp_path)) == {"UNEXPLAINED": 256 * 128}


def test_a_scale_of_what_is_unexplained_is_unexplained_too(tmp_path: Path) -> None:
    more = {"model.layers.0.mlp.odd.weight": ("F8_E4M3", [4]), "model.layers.0.mlp.odd.weight_scale": ("F32", [1])}
    made = joined(RELEASE.plain() | more, tmp_path)
    assert kinds(made) == {"UNEXPLAINED": 5}


def test_a_packed_matrix_of_no_width_that_exists(tmp_path: Path) -> None:
    """Words that would hold 4 / 3 of the values that the matrix has: nothing is fitted."""
    tensors = RELEASE.packed("compressed", group=64)
    tensors["model.layers.0.mlp.up_proj.weight_packed"] = ("I32", [256, 12])
    made = joined(tensors, tmp_path)
    assert [each.path for each in made.lacking] == ["layers.0.ffn.up"]
    assert not made.explained

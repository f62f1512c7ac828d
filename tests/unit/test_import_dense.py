"""Families of dense decoders: what parameters do not show. Windows, rotations, caps and factors of what is imported.

The same configs, run by transformers on meta, have as many FLOPs and keep as many bytes; a layer with a window keeps as
many rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from llmprof.errors import SpecError
from llmprof.predict.record import count_record
from llmprof.spec.arch import ArchSpec, Gqa, LmHead, NoPosition, Rope
from llmprof.workload import Workload
from tests.importing import cases, imported

FULL, SLIDING = "full_attention", "sliding_attention"
DENSE = frozenset(
    {
        "arcee",
        "cohere",
        "cohere2",
        "cwm",
        "ernie4_5",
        "exaone4",
        "gemma",
        "gemma2",
        "gemma3_text",
        "glm",
        "glm4",
        "granite",
        "granite_swa",
        "helium",
        "hunyuan_v1_dense",
        "hyperclovax",
        "internlm3",
        "iquestcoder",
        "jais2",
        "llama",
        "minicpm3",
        "ministral",
        "ministral3",
        "mistral",
        "nanochat",
        "nemotron",
        "olmo",
        "olmo2",
        "olmo3",
        "persimmon",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder2",
        "vaultgemma",
        "youtu",
    }
)
RUN = [
    pytest.param(config, id=f"{case.model_type}: {name}")
    for case in cases()
    if case.model_type in DENSE
    for name, config in case.configs()
    if name == "as it stands" or "window" in name
    # The classes ask for a window even where no layer has one, and do not run.
    if (case.model_type, name) not in {("gemma2", "windows nowhere"), ("ministral", "no window")}
]


def arch(config: Mapping[str, Any]) -> ArchSpec:
    """The architecture of a config."""
    return imported(config).spec.base


def small(model_type: str) -> dict[str, Any]:
    """The small config of a family."""
    (case,) = (case for case in cases() if case.model_type == model_type)
    return dict(case.configs())["as it stands"]


def windows(of: ArchSpec) -> list[int | None]:
    """The window of each layer."""
    found = []
    for layer in of.stacks[0].layers:
        assert isinstance(layer.attention, Gqa)
        found.append(layer.attention.window)
    return found


def thetas(of: ArchSpec) -> list[float | None]:
    """The base of each layer's rotation; None where nothing is rotated."""
    found: list[float | None] = []
    for layer in of.stacks[0].layers:
        assert isinstance(layer.position, Rope | NoPosition)
        found.append(layer.position.theta if isinstance(layer.position, Rope) else None)
    return found


@pytest.mark.parametrize("config", RUN)
def test_a_config_runs_as_its_class_does(config: dict[str, Any]) -> None:
    import torch
    import transformers
    from torch.utils.flop_counter import FlopCounterMode

    tokens = 70  # more than the windows of 64, of which transformers keeps one row less than a query sees
    built = transformers.AutoConfig.for_model(**deepcopy(config))
    with torch.device("meta"), torch.no_grad():
        model = transformers.AutoModelForCausalLM.from_config(built, attn_implementation="eager").eval()  # type: ignore[no-untyped-call]
        with FlopCounterMode(display=False) as flops:
            kept = model(torch.zeros(1, tokens, dtype=torch.long), use_cache=True).past_key_values
    ours = arch(config)
    record = count_record(ours, Workload(phase="prefill", batch=1, new_tokens=tokens, context=tokens))
    assert record["matmul_flops_dense"] == flops.get_total_flops()
    rows = [layer.keys.shape[-2] for layer in kept.layers]
    seen = [getattr(layer.attention, "window", None) for layer in ours.stacks[0].layers]
    assert rows == [tokens if window is None or window > tokens else window - 1 for window in seen]
    if rows == [tokens] * len(rows):
        assert record["kv_cache_bytes"] == sum(2 * (each.keys.numel() + each.values.numel()) for each in kept.layers)


WINDOWS = [
    # Gemma 2: the first of two; Gemma 3: five of six; Command R7B and OLMo 3: three of four; CWM: all but the first.
    ("gemma2", {}, [64, None, 64, None, 64]),
    ("gemma2", {"layer_types": [SLIDING, FULL, FULL, SLIDING, FULL]}, [64, None, None, 64, None]),
    ("vaultgemma", {}, [64, None, 64, None, 64]),
    ("gemma3_text", {}, [64, 64, 64, 64, 64, None, 64, 64]),
    ("gemma3_text", {"sliding_window_pattern": 3}, [64, 64, None, 64, 64, None, 64, 64]),
    ("cohere2", {}, [64, 64, 64, None, 64]),
    ("olmo3", {}, [64, 64, 64, None, 64]),
    ("exaone4", {}, [64, 64, 64, None, 64]),
    ("cwm", {}, [None, 64, 64, 64, None]),
    ("granite_swa", {}, [None, 64, 64, 64, None]),
    ("ministral", {}, [64, 64, 64, 64, 64]),
    ("qwen2", {"sliding_window": 64, "max_window_layers": 2}, [None] * 5),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2}, [None, None, 64, 64, 64]),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 9}, [None] * 5),
    ("smollm3", {"use_sliding_window": True, "sliding_window": 64}, [None, None, None, 64, None]),
    ("mistral", {}, [64, 64, 64]),
    ("mistral", {"sliding_window": None}, [None] * 3),
    ("mistral", {"sliding_window": 255}, [255] * 3),
    ("mistral", {"sliding_window": 256}, [None] * 3),  # as long as the longest context
    ("phi3", {}, [None] * 3),
    ("starcoder2", {"sliding_window": 64}, [64] * 3),
]


@pytest.mark.parametrize(("model_type", "changes", "expected"), WINDOWS)
def test_the_window_of_each_layer(model_type: str, changes: dict[str, Any], expected: list[int | None]) -> None:
    assert windows(arch(small(model_type) | changes)) == expected


ROTATIONS = [
    ("smollm3", {}, [2e6, 2e6, 2e6, None, 2e6]),
    ("smollm3", {"no_rope_layers": [0, 1, 1, 0, 1]}, [None, 2e6, 2e6, None, 2e6]),
    ("cohere2", {}, [1e4, 1e4, 1e4, None, 1e4]),
    ("exaone4", {}, [1e4, 1e4, 1e4, None, 1e4]),
    ("exaone4", {"sliding_window": None}, [1e4] * 5),
    ("gemma3_text", {}, [1e4, 1e4, 1e4, 1e4, 1e4, 1e6, 1e4, 1e4]),
    ("gemma3_text", {"rope_theta": 5e5, "rope_local_base_freq": 2e4}, [2e4, 2e4, 2e4, 2e4, 2e4, 5e5, 2e4, 2e4]),
    (
        "gemma3_text",
        {"rope_parameters": {FULL: {"rope_theta": 3e5}, SLIDING: {"rope_theta": 3e4}}, "layer_types": [SLIDING] * 8},
        [3e4] * 8,
    ),
    ("olmo3", {}, [5e5] * 5),
    ("granite_swa", {"layer_rope_theta": [0, 10000, 10000, 50000, 0]}, [None, 1e4, 1e4, 5e4, None]),
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}}, [7e5] * 3),
]


@pytest.mark.parametrize(("model_type", "changes", "expected"), ROTATIONS)
def test_the_rotation_of_each_layer(model_type: str, changes: dict[str, Any], expected: list[float | None]) -> None:
    assert thetas(arch(small(model_type) | changes)) == expected


PARTS = [
    ("phi", {}, 8),  # half of 96 / 6 values
    ("phi", {"partial_rotary_factor": 1.0}, None),
    ("phi3", {"hidden_size": 96, "partial_rotary_factor": 0.75}, 12),
    ("stablelm", {}, 4),
    ("nemotron", {}, 8),
    ("persimmon", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}}, 4),
    ("glm", {}, 8),
    ("glm4", {"partial_rotary_factor": 0.25}, 4),
]


@pytest.mark.parametrize(("model_type", "changes", "expected"), PARTS)
def test_the_part_of_a_head_that_is_rotated(model_type: str, changes: dict[str, Any], expected: int | None) -> None:
    position = arch(small(model_type) | changes).stacks[0].layers[0].position
    assert isinstance(position, Rope)
    assert position.rotary_dim == expected


def test_factors_and_caps() -> None:
    multipliers = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.015625}
    granite = arch(small("granite") | multipliers | {"logits_scaling": 8.0})
    layer = granite.stacks[0].layers[0]
    assert isinstance(layer.attention, Gqa)
    assert isinstance(granite.head, LmHead)
    assert (granite.embedding_scale, layer.residual.scale, layer.attention.scale) == (12.0, 0.22, 0.015625)
    assert granite.head.output_scale == 0.125

    gemma = arch(small("gemma2"))
    layer = gemma.stacks[0].layers[0]
    assert isinstance(layer.attention, Gqa)
    assert isinstance(gemma.head, LmHead)
    assert (gemma.embedding_scale, layer.attention.softcap, layer.attention.scale) == (48**0.5, 50.0, 24**-0.5)
    assert gemma.head.softcap == 30.0

    mini = arch(small("minicpm3"))
    assert isinstance(mini.head, LmHead)
    assert (mini.embedding_scale, mini.head.input_scale) == (12.0, 16 / 48)
    assert mini.stacks[0].layers[0].residual.scale == 1.4 / 3**0.5


REFUSED = [
    ("llama", "partial_rotary_factor", 0.5),
    ("llama", "rope_interleaved", True),
    ("llama", "sliding_window", 64),
    ("mistral", "attention_bias", True),
    ("qwen2", "layer_types", [SLIDING] * 5),
    ("qwen2", "layer_types", [FULL] * 4),
    ("qwen2", "layer_types", ["linear_attention"] * 5),
    ("gemma", "use_bidirectional_attention", True),
    ("gemma2", "sliding_window", None),
    ("gemma3_text", "attn_logit_softcapping", 50.0),
    ("cohere2", "use_gated_activation", False),
    ("olmo3", "rope_theta", 10000),
    ("smollm3", "no_rope_layers", [1, 1]),
    ("helium", "head_dim", 16),
    ("exaone4", "sliding_window_pattern", "LLLG"),
    ("internlm3", "qkv_bias", True),
    ("granite_swa", "layer_rope_theta", [1, 2, "x", 3, 4]),
    ("phi3", "lm_head_bias", True),
    ("baichuan", "max_position_embeddings", None),
]


@pytest.mark.parametrize(("model_type", "key", "value"), REFUSED)
def test_what_a_class_does_not_have_is_refused_by_name(model_type: str, key: str, value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        imported(small(model_type) | {key: value})
    named = {problem.path for problem in caught.value.problems} | {problem.found for problem in caught.value.problems}
    other = {"layer_types": "use_sliding_window", "qkv_bias": "bias", "max_position_embeddings": "model_max_length"}
    assert any(key in text or other.get(key, key) in text for text in named), str(caught.value)

"""transformers as a witness: what a cache holds, whose parameters are whose, and ops that torch's counter lacks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmprof.measure.hf.kept import Kept, kept_by
from llmprof.measure.hf.model import CannotTestify, build, head_of
from llmprof.measure.hf.params import by_module, matrices
from llmprof.measure.hf.passes import counted, run


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def test_a_cache_is_counted_by_the_names_of_its_tensors() -> None:
    keys = empty(1, 2, 5, 4)
    layer = SimpleNamespace(keys=keys, values=empty(1, 2, 5, 4), conv_states=[empty(1, 3, 4)], seen=torch.zeros(3))
    cache = SimpleNamespace(layers=[layer, {"keys": keys}], position=empty(5, dtype=torch.long))
    # Two tensors of 40 values in 16 bit, one of them met twice; a state of 12, and three numbers of 4 bytes.
    assert kept_by(cache) == Kept(kv_bytes=2 * 40 * 2, state_bytes=12 * 2 + 3 * 4)


def test_a_plain_nest_is_rows_unless_it_is_called_a_state() -> None:
    nest = ((empty(1, 2, 5, 4), empty(1, 2, 5, 4)),)
    assert kept_by(nest) == Kept(kv_bytes=160, state_bytes=0)
    assert kept_by(nest, name="state") == Kept(kv_bytes=0, state_bytes=160)


def test_what_modules_keep_themselves_counts_too() -> None:
    network = nn.Sequential(nn.Identity())
    network[0].conv1d_state = empty(1, 3, 4)
    assert kept_by((), network) == Kept(kv_bytes=0, state_bytes=24)


class Tied(nn.Module):
    """A head that stands before the table that it shares."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 7)
        self.table = nn.Embedding(7, 4)
        self.head.weight = self.table.weight
        self.nothing = nn.Linear(0, 3, bias=False)


def test_what_is_shared_counts_at_the_table() -> None:
    assert by_module(Tied()) == {"table": 28, "head": 7}
    assert matrices(Tied()) == {"table": 28}


class Solving(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        solved: Tensor = torch.linalg.solve_triangular(a, b, upper=False, unitriangular=True)
        return solved


def test_a_triangular_solve_has_a_formula() -> None:
    network = Solving()
    found = counted(network, lambda: network(empty(2, 3, 3, dtype=torch.float), empty(2, 3, 5, dtype=torch.float)))
    # 3 x 2 / 2 multiply-adds for each of 5 columns, twice.
    assert (found.flops, found.missing) == (2 * 2 * 5 * 3, ())


class Distant(nn.Module):
    def forward(self, a: Tensor) -> Tensor:
        return torch.cdist(a, a) @ a


def test_an_op_without_a_formula_is_named() -> None:
    network = Distant()
    found = counted(network, lambda: network(empty(6, 4, dtype=torch.float)))
    assert found.missing
    assert "cdist" in found.missing[0]


def test_what_a_pass_raises_passes_through() -> None:
    def fails() -> Any:
        raise ZeroDivisionError("planted")

    with pytest.raises(ZeroDivisionError, match="planted"):
        counted(Solving(), fails)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt9"}, "has no class of the model_type gpt9"),
        ({}, "has no class of the model_type None"),
        ({"model_type": ["llama"]}, "has no class of the model_type"),
        ({"model_type": "llama", "hidden_size": "wide"}, "cannot build llama: "),
    ],
)
def test_a_config_that_cannot_be_built_is_no_witness(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CannotTestify, match=message):
        build(config, "causal-lm")


def test_code_of_a_config_is_not_run() -> None:
    """`auto_map` names code in a repository; what is built is the library's own class all the same."""
    small = {
        "vocab_size": 30,
        "hidden_size": 12,
        "intermediate_size": 20,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
    }
    config = {"model_type": "llama", **small, "auto_map": {"AutoModelForCausalLM": "evil--modeling.Evil"}}
    model = build(config, "causal-lm")
    assert type(model.network).__module__ == "transformers.models.llama.modeling_llama"
    assert next(model.network.parameters()).device.type == "meta"
    passes = run(model, tokens=5, batch=2)
    assert passes.kept is not None
    assert passes.kept.kv_bytes == 2 * 2 * 5 * 12 * 2


def test_another_name_of_a_class_is_that_class() -> None:
    small = {
        "vocab_size": 30,
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 3,
        "n_routed_experts": 8,
    }
    model = build({"model_type": "kimi_k2", **small}, "causal-lm")
    assert model.name == "DeepseekV3ForCausalLM"


def test_the_class_has_the_head_of_the_architecture() -> None:
    from llmprof import catalog

    heads = {
        name: head_of(catalog.find(name).arch()) for name in ("gpt2", "t5-small", "bert-base-uncased", "whisper-tiny")
    }
    assert list(heads.values()) == ["causal-lm", "seq2seq-lm", "masked-lm", "speech-seq2seq"]
    assert head_of(catalog.find("bert-base-uncased").arch("pooler")) == "base"

"""A training step divided over devices: what the fullest of them keeps, as figures, record and options."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from llmprof.claims.specs import shipped
from llmprof.cli.parallel_options import parse_division
from llmprof.errors import InputError
from llmprof.objectives import default_objective, training_workload
from llmprof.predict.api import predict
from llmprof.predict.parameters import parameters
from llmprof.predict.tensor import Axes
from llmprof.predict.training.rank_record import KEYS, rank_record, rank_unconfirmed
from llmprof.predict.training.sharded import (
    Division,
    ValueBytes,
    rank_parameters,
    saved_bytes,
    saved_part,
    shard_states,
    states,
    value_bytes,
)
from llmprof.predict.training.step import TrainingStep
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes, Execution, Recompute, Workload
from tests.unit.divided import ROWS, SMALL, trained

MIXED = ValueBytes(weight=2, gradient=2, optimizer=12)
"""16-bit weights and gradients; Adam's two moments and a master copy in fp32."""


def training_step(arch: ArchSpec, tokens: int) -> TrainingStep:
    workload = training_workload(
        arch, default_objective(arch), text=tokens, batch=1, prefix_tokens=None, dtypes=Dtypes()
    )
    return predict(arch, workload, Execution(attention="unfused")).training


def trained_values(step: TrainingStep) -> dict[str, int]:
    return {path: size // 2 for path, size in step.gradient_bytes_at.items()}


# --- ZeRO -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zero", "weight", "gradient", "optimizer"),
    [
        (0, 14, 14, 84),
        (1, 14, 14, 24),  # 7 values in 4 parts: 2 in the fullest, which keeps 2 x 12
        (2, 14, 4, 24),
        (3, 4, 4, 24),
    ],
)
def test_stages_divide_one_thing_more_each(zero: int, weight: int, gradient: int, optimizer: int) -> None:
    made = shard_states(7, Division(zero=zero, data=4), MIXED)  # type: ignore[arg-type]
    assert (made.weight, made.gradient, made.optimizer) == (weight, gradient, optimizer)
    assert made.total == weight + gradient + optimizer


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("spec", ["gpt2", "mixtral-8x7b", "attention-modern:mla-indexer", "bert-base-uncased"])
def test_one_device_keeps_everything(zero: int, spec: str) -> None:
    arch = replace(shipped(spec), pooler=spec == "bert-base-uncased")
    step = training_step(arch, 32)
    made = states(arch, Division(zero=zero), MIXED, trained_values(step))  # type: ignore[arg-type]
    total = parameters(arch).total
    assert (made.parameters, made.weight) == (total, 2 * total)
    assert (made.gradient, made.optimizer) == (step.gradient_bytes, step.optimizer_bytes)


def test_what_is_not_trained_has_neither_gradient_nor_state() -> None:
    arch = replace(shipped("bert-base-uncased"), pooler=True)
    made = states(arch, Division(tensor=4), MIXED, trained_values(training_step(arch, 32)))
    whole = rank_parameters(arch, 4)
    assert made.gradient == 2 * (sum(whole.values()) - (768 * 768 + 768)), "a pooler carries no loss"


def test_zero_goes_over_what_tensor_parallelism_leaves() -> None:
    whole = sum(rank_parameters(SMALL, 4).values())
    made = states(SMALL, Division(zero=3, data=8, tensor=4), MIXED, rank_parameters(SMALL, 1))
    assert made.parameters == whole
    assert made.weight == 2 * -(-whole // 8)
    assert Division(data=8, tensor=4).devices == 32


# --- saved activations -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    path: str
    axes: Axes = field(default_factory=dict)
    nbytes: int = 0


def test_a_device_keeps_its_part_of_an_activation() -> None:
    scores = Kept("layers.0.attn.core", {"b": 2, "k": 8, "t": 32, "s": 32}, 2 * 8 * 32 * 32 * 2)
    rows = Kept("layers.0.attn_norm", ROWS, 2 * 32 * 64 * 2)
    logits = Kept("loss", {"b": 1, "t": 2, "v": 1001}, 4 * 2 * 1001)
    assert saved_part(scores, Division(tensor=4)) == 8192
    assert saved_part(rows, Division(tensor=4)) == 8192, "rows are whole without sequence parallelism"
    assert saved_part(rows, Division(tensor=4, sequence=True)) == 2048
    assert saved_part(logits, Division(tensor=4)) == 4 * 2 * 251
    assert saved_bytes((scores, rows), Division(tensor=8, sequence=True)) == 4096 + 1024
    assert saved_bytes((scores, rows), Division(data=8, zero=3)) == 32768 + 8192, "of its own sequences, all"


# --- the record -------------------------------------------------------------------------------------


def both(arch: ArchSpec, workload: Workload) -> dict[str, TrainingStep]:
    executions: tuple[Literal["fused", "unfused"], ...] = ("fused", "unfused")
    return {name: predict(arch, workload, Execution(attention=name)).training for name in executions}


def test_a_record_without_a_division_has_nothing_in_it() -> None:
    record = rank_record(SMALL, trained(32), None, both(SMALL, trained(32)))
    assert set(record) == set(KEYS)
    assert not any(value is not None for value in record.values())
    assert rank_unconfirmed(record) == {}


def test_the_record_of_a_device() -> None:
    workload = trained(32, dropout=0.1)
    steps = both(SMALL, workload)
    record = rank_record(SMALL, workload, Division(zero=1, data=2, tensor=4, sequence=True), steps)
    values = sum(rank_parameters(SMALL, 4).values())
    saved = {path: [each for each in step.saved if each.axes] for path, step in steps.items()}
    rest = {path: sum(each.nbytes for each in step.saved if not each.axes) for path, step in steps.items()}
    assert rest == {"fused": 3 * 8 + 4, "unfused": 4}, "offsets of a generator, and the sum of the loss' weights"
    seeds = {path: sum(each.nbytes for each in tensors if "words" in each.axes) for path, tensors in saved.items()}
    assert record == {
        "zero_stage": 1,
        "data_parallel": 2,
        "tensor_parallel": 4,
        "sequence_parallel": True,
        "parameters_per_rank": values,
        "weight_bytes_per_rank": 2 * values,
        "gradient_bytes_per_rank": 2 * values,
        "optimizer_bytes_per_rank": 12 * -(-values // 2),
        # All but a few words has heads, width, vocabulary or tokens, and each of them is divided by four.
        **{
            f"saved_bytes_per_rank_{path}": (sum(each.nbytes for each in saved[path]) - seeds[path]) // 4
            + seeds[path]
            + rest[path]
            for path in ("fused", "unfused")
        },
    }
    figures = set(KEYS) - {"zero_stage", "data_parallel", "tensor_parallel", "sequence_parallel"}
    assert set(rank_unconfirmed(record)) == figures


def test_what_no_rule_says_is_absent() -> None:
    arch = shipped("mixtral-8x7b")
    record = rank_record(arch, trained(32), Division(zero=3, data=8), both(arch, trained(32)))
    assert record["saved_bytes_per_rank_fused"] is None
    assert record["optimizer_bytes_per_rank"] == 12 * -(-parameters(arch).total // 8)
    assert "saved_bytes_per_rank_fused" not in rank_unconfirmed(record)


@pytest.mark.parametrize(("dtype", "each"), [("bf16", (2, 2, 12)), ("fp16", (2, 2, 12)), ("fp32", (4, 4, 8))])
def test_bytes_of_a_value(dtype: str, each: tuple[int, int, int]) -> None:
    made = value_bytes(Dtypes(weights=dtype, activations=dtype))  # type: ignore[arg-type]
    assert (made.weight, made.gradient, made.optimizer) == each


# --- the options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "division"),
    [
        ((None, None, None, False), None),
        (("3", "64", None, False), Division(zero=3, data=64)),
        ((None, None, "8", True), Division(tensor=8, sequence=True)),
        (("0", "1Ki", None, False), Division(data=1024)),
    ],
)
def test_options_of_a_division(
    words: tuple[str | None, str | None, str | None, bool], division: Division | None
) -> None:
    assert parse_division(*words, training=True) == division


@pytest.mark.parametrize(
    ("words", "training", "said"),
    [
        (("4", "8", None, False), True, "--zero: found '4'; expected 0, 1, 2 or 3"),
        (("1", None, None, False), True, "--zero 1 divides states over the devices of --data-parallel"),
        ((None, "0", None, False), True, "--data-parallel: found 0; expected at least 1"),
        ((None, None, "x", False), True, "--tensor-parallel: found 'x'"),
        (("1", None, None, False), False, "--zero has no effect: it divides a training step"),
    ],
)
def test_options_that_divide_nothing(
    words: tuple[str | None, str | None, str | None, bool], training: bool, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        parse_division(*words, training=training)


def test_what_spreads_a_pass_of_inference_is_none_of_ours() -> None:
    assert parse_division(None, "2", "8", True, training=False) is None


# --- every tensor of real architectures ---------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["gpt2", "llama-3-8b", "gemma-2-2b", "qwen3-0.6b", "bart-base", "t5-small", "falcon-40b", "bloom-1b1"]
)
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_what_two_devices_have_both(spec: str, recompute: Recompute) -> None:
    """With sequence parallelism nothing that grows with tokens is whole: weights plus one, and a generator's state."""
    arch = shipped(spec)
    workload = training_workload(
        arch,
        default_objective(arch),
        text=64,
        batch=2,
        prefix_tokens=None,
        dtypes=Dtypes(),
        dropout=0.1,
        recompute=recompute,
    )
    division = Division(tensor=2, sequence=True)
    for step in both(arch, workload).values():
        whole = [each for each in step.saved if saved_part(each, division) == each.nbytes]
        assert {tuple(each.axes) for each in whole} <= {(), ("words",), ("d",), ("h",)}
        halved = [each for each in step.saved if each not in whole and each.path != "loss"]  # vocabularies may be odd
        assert all(2 * saved_part(each, division) == each.nbytes for each in halved)

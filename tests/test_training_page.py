"""docs/training.md: its tables are those of the prediction, and its rules of division those of the code."""

from __future__ import annotations

import re

import pytest

from llmprof.claims.papers.shapes import training_pass
from llmprof.claims.specs import shipped
from llmprof.predict.training.sharded import value_bytes
from llmprof.units import format_count
from llmprof.workload import RECOMPUTE, Dtypes, Recompute
from tests.documentation import ROOT

TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("recompute", RECOMPUTE)
def test_the_table_of_recomputation(recompute: Recompute) -> None:
    (row,) = re.findall(rf"^\| {recompute} \| (.+) \|$", TEXT, re.MULTILINE)
    fused, unfused = (
        training_pass(shipped("llama-2-7b"), 2048, fused=fused, recompute=recompute) for fused in (True, False)
    )
    expected = [f"{made.training.saved_bytes:,}" for made in (fused, unfused)]
    expected += [format_count(made.matmul_flops_backward) for made in (fused, unfused)]
    assert row.split(" | ") == expected


def test_the_table_of_bytes_per_parameter() -> None:
    half, single = (value_bytes(Dtypes(weights=dtype, activations=dtype)) for dtype in ("bf16", "fp32"))
    found = {
        first.split(" ")[0]: numbers
        for first, *numbers in re.findall(r"^\| (\S+.*?) \| (\d+) \| (\d+) \|", TEXT, re.MULTILINE)
    }
    assert found["weights"] == [str(half.weight), str(single.weight)]
    assert found["gradients"] == [str(half.gradient), str(single.gradient)]
    assert found["the"] == [str(half.optimizer), str(single.optimizer)]

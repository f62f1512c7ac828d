"""`llmprof profile --tensor-parallel`: what is confirmed of ranks on meta and of real ones, and how faults are heard of."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import Partial

from llmprof.predict.sharding.collectives import Calls
from llmprof.twin import sharded_styles
from llmprof.twin.sharded_move import redistributed
from tests.cli.conftest import Cli
from tests.sharded_specs import HEADER, SPECS

META = ("--device", "meta", "--format", "json")
PREFILL = ("--phase", "prefill", "--context", "8", "--batch", "2")
RESULT_KEYS = [
    "name",
    "variant",
    "verdict",
    "failed_modules",
    "missing",
    "workloads",
    "tensor_parallel",
    "sequence_parallel",
    "pipeline_parallel",
    "data_parallel",
    "expert_parallel",
    "context_parallel",
    "pipeline_layers",
    "ranks",
    "ranks_heard",
    "device",
    "backend",
    "attentions",
    "n_layers",
    "layers_run",
    "kernels",
    "not_applicable",
    "notes",
    "failure",
    "interrupted",
    "rows",
    "timings",
]
ROW_KEYS = [
    "path",
    "quantity",
    "attention",
    "phase",
    "stage",
    "ranks",
    "predicted",
    "measured",
    "witness",
    "verdict",
    "note",
]


@pytest.fixture
def small(tmp_path: Path) -> dict[str, str]:
    """Files of small models, by their name."""
    for name, text in SPECS.items():
        (tmp_path / f"{name}.yaml").write_text(text + HEADER)
    return {name: str(tmp_path / f"{name}.yaml") for name in SPECS}


def at(result: dict[str, Any], path: str, quantity: str, phase: str = "prefill") -> list[tuple[int, int, list[int]]]:
    """(stage, measured, ranks) of the rows of one figure, all of which agree."""
    found = [r for r in result["rows"] if (r["path"], r["quantity"], r["phase"]) == (path, quantity, phase)]
    assert all(row["verdict"] == "AGREES" and row["predicted"] == row["measured"] for row in found)
    return [(row["stage"], row["measured"], row["ranks"]) for row in found]


# --- on meta ----------------------------------------------------------------------------------


def test_the_contract_of_a_result(cli: Cli) -> None:
    done = cli("profile", "gpt2", "--tp", "2", "--context", "16", "--layers", "1", *META)
    assert (done.code, done.err) == (0, "")
    assert list(done.json) == ["schema_version", "environment", "results"]
    (result,) = done.json["results"]
    assert list(result) == RESULT_KEYS
    assert all(list(row) == ROW_KEYS for row in result["rows"])
    assert (result["verdict"], result["ranks"], result["ranks_heard"], result["backend"]) == (
        "confirmed",
        2,
        [0],
        "fake",
    )
    # GPT-2: D 768, V 50257 padded to 50258, 12 heads of 64, F 3072; of 12 layers one was run.
    assert at(result, "embed", "params", "") == [(0, 25_129 * 768, [0])]
    assert at(result, "layers.11.attn.q_proj", "params", "") == [(0, 384 * 768 + 384, [0])]
    assert at(result, "layers.11.attn.o_proj", "params", "") == [(0, 384 * 768 + 768, [0])]
    assert at(result, "layers.7.attn.cache.k", "kv_cache_bytes", "decode") == [(0, 16 * 6 * 64 * 2, [0])]
    assert at(result, "layers.7.ffn.down", "all_reduce_calls") == [(0, 1, [0])]
    assert at(result, "layers.7.ffn.down", "all_reduce_bytes") == [(0, 16 * 768 * 2, [0])]
    assert at(result, "lm_head", "all_gather_bytes", "decode") == [(0, 50_258 * 2, [0])]
    assert at(result, "layers.7.ffn.up", "matmul_flops") == [(0, 2 * 16 * 768 * 1536, [0])]
    assert result["layers_run"] == 1
    assert not any(row["quantity"] == "relative_difference" for row in result["rows"])


def test_every_degree_at_once(cli: Cli, small: dict[str, str]) -> None:
    degrees = ("--tensor-parallel", "2", "--sequence-parallel", "--pipeline-parallel", "2", "--data-parallel", "2")
    done = cli("profile", small["grouped"], *PREFILL, *degrees, *META)
    (result,) = done.json["results"]
    assert (done.code, result["verdict"], result["ranks"], result["ranks_heard"]) == (0, "confirmed", 8, [0, 2])
    assert result["pipeline_layers"] == "2,2"
    # One sequence of 8 tokens of 24 values of two bytes, half of them each rank's.
    assert at(result, "layers.1", "send_bytes") == [(0, 8 * 24 * 2 // 2, [0])]
    assert at(result, "layers.3.attn", "all_gather_bytes") == [(1, 8 * 24 * 2, [2])]
    split = ("--pipeline-layers", "3,1")
    experts = cli("profile", small["experts"], *PREFILL, "--tp", "2", "--expert-parallel", "2", *split, *META)
    (result,) = experts.json["results"]
    assert (result["pipeline_parallel"], result["pipeline_layers"], result["ranks_heard"]) == (2, "3,1", [0, 2])
    assert (experts.code, result["verdict"], result["expert_parallel"]) == (0, "confirmed", 2)
    ring = cli("profile", small["learned"], *PREFILL, "--tp", "2", "--context-parallel", "2", *META)
    (result,) = ring.json["results"]
    assert (ring.code, result["verdict"], result["ranks"]) == (0, "confirmed", 4)
    # Keys and values of 2 sequences, 4 tokens and 2 heads of 8 go once to the other rank.
    assert at(result, "layers.0.attn.core", "send_bytes") == [(0, 2 * 2 * 4 * 2 * 8 * 2, [0])]


def test_lists_of_lengths_and_formats(cli: Cli, small: dict[str, str]) -> None:
    words = ("profile", small["learned"], "--tp", "2", "--device", "meta")
    table = cli(*words, "--context", "8,16", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(table.out)))
    assert (table.code, {row["verdict"] for row in rows}, {row["ranks"] for row in rows}) == (0, {"AGREES"}, {"0"})
    kept = [(r["phase"], int(r["measured"])) for r in rows if r["path"] == "layers.0.attn.cache.k"]
    # tokens, heads, values of each, bytes
    assert kept == [(phase, tokens * 2 * 8 * 2) for tokens in (8, 16) for phase in ("prefill", "decode")]
    text = cli(*words, *PREFILL).out
    assert "learned on 2 ranks: confirmed (" in text
    assert "layers.{0-1}.attn.o_proj   all-reduce   2" in text
    deep = ("profile", small["grouped"], "--pipeline-layers", "3,1", *words[2:])
    marked = cli(*deep, *PREFILL, "--format", "markdown").out
    assert "| layers.{0-3}.attn.o_proj | all-reduce | 4 |" in marked
    assert "tensor 2, pipeline 2 (3,1 layers)" in marked


def test_a_model_without_a_fused_kernel_is_confirmed_without_it(cli: Cli, small: dict[str, str]) -> None:
    done = cli("profile", small["sandwich"], *PREFILL, "--tp", "2", *META)
    assert (done.code, done.json["results"][0]["verdict"]) == (3, "unconfirmed")
    assert {r["quantity"] for r in done.json["results"][0]["rows"] if r["verdict"] == "UNMEASURED"} == {
        "hbm_bytes",
        "peak_live_bytes",
    }
    assert cli("profile", small["sandwich"], *PREFILL, "--tp", "2", "--attention", "unfused", *META).code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--tp", "3"), 2, "does not divide n_heads (8) of grouped; use one of: 1, 2, 4, 8"),
        (("--tp", "2", "--sequence-parallel"), 2, "grouped in decode: sequence parallelism over 2 ranks"),
        (("--pipeline-layers", ""), 2, "expected the layers of each stage"),
        (("--pipeline-parallel", "5"), 2, "more stages than the 4 layers of grouped; use at most 4"),
        (("--pipeline-layers", "2,1"), 2, "all together the 4 layers of grouped (these are 3), such as 2,2"),
        (("--pipeline-parallel", "2", "--layers", "2"), 2, "--layers has no effect beside --pipeline-parallel"),
        (("--tp", "0"), 2, "--tensor-parallel: found 0"),
        (("--tp", "2", "--counters", "ncu"), 2, "--counters has no effect on a pass that is spread over ranks"),
        (("--tp", "2", "--device-spec", "h200"), 2, "--device-spec has no effect"),
        (("--tp", "2", "--phase", "train"), 2, "--tensor-parallel has no effect"),
        (("--no-compare",), 2, "--compare has no effect"),
        (("--rank-timeout", "5"), 2, "--rank-timeout has no effect"),
        (("--tp", "2", "--rank-timeout", "0"), 2, "--rank-timeout: found 0"),
        (("--tp", "2", "--rank-timeout", "soon"), 2, "--rank-timeout: found 'soon'"),
        (("--tp", "2", "--device", "cuda:0"), 2, "use --device cuda, and CUDA_VISIBLE_DEVICES"),
    ],
)
def test_what_cannot_be(cli: Cli, small: dict[str, str], words: tuple[str, ...], code: int, message: str) -> None:
    done = cli("profile", small["grouped"], "--context", "8", "--device", "meta", *words)
    assert (done.code, done.out) == (code, "")
    assert message in done.err


def test_more_ranks_than_gpus(cli: Cli, small: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmprof.measure.device.resolve_device", lambda *_, **__: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    done = cli("profile", small["grouped"], "--context", "8", "--tp", "2")
    assert (done.code, done.out) == (3, "")
    assert "2 ranks need a GPU each, and there is 1; use fewer ranks, --device cpu (gloo), or --device meta" in done.err


def test_what_does_not_fit_is_refused_before_it_starts(
    cli: Cli, small: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmprof.measure.device.free_bytes", lambda _: 1000)
    done = cli("profile", small["grouped"], *PREFILL, "--tp", "2", "--device", "cpu")
    assert (done.code, done.out) == (3, "")
    assert "to be built on 2 ranks of one memory, where 1000 B is free" in done.err


# --- faults of one of the halves --------------------------------------------------------------


def test_a_sum_that_the_twin_forgets_is_found(cli: Cli, small: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(x: Tensor, mesh: Any, have: Any, want: Any) -> Tensor:
        return x if have == Partial() else redistributed(x, mesh, have, want)

    monkeypatch.setattr(sharded_styles, "redistributed", forgetful)
    done = cli("profile", small["grouped"], *PREFILL, "--tp", "2", "--device", "meta")
    assert done.code == 1
    assert "grouped on 2 ranks: failed" in done.out
    assert "layers.{0-3}.attn.o_proj   all-reduce   4   1 / 0" in done.out


def test_a_wrong_placement_of_the_twin_is_found(
    cli: Cli, small: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded_styles, "LOGITS", Partial())
    done = cli("profile", small["grouped"], *PREFILL, "--tp", "2", *META)
    assert done.code == 1
    assert done.json["results"][0]["failed_modules"] == ["lm_head"]


def test_a_call_that_the_prediction_forgets_is_found(
    cli: Cli, small: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Calls, "of_head", lambda self: iter(()))
    done = cli("profile", small["grouped"], *PREFILL, "--tp", "2", *META)
    assert done.code == 1
    (result,) = done.json["results"]
    assert "lm_head" in result["failed_modules"]
    (row,) = (r for r in result["rows"] if r["quantity"] == "all_gather_calls")
    assert (row["predicted"], row["measured"], row["verdict"]) == (0, 1, "DIFFERS")

"""`llmprof profile --tensor-parallel` on real ranks: those that it starts, and those of the user's own torchrun."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from llmprof.cli import messages
from llmprof.measure.sharded import started
from tests import faulty_ranks
from tests.cli.conftest import Cli
from tests.sharded_specs import HEADER, SPECS

PREFILL = ("--phase", "prefill", "--context", "8", "--batch", "2")


@pytest.fixture
def small(tmp_path: Path) -> dict[str, str]:
    """Files of small models, by their name."""
    for name, text in SPECS.items():
        (tmp_path / f"{name}.yaml").write_text(text + HEADER)
    return {name: str(tmp_path / f"{name}.yaml") for name in SPECS}


REAL = ("--tp", "2", "--device", "cpu", "--attention", "unfused", "--dtype", "fp32", "--format", "json")


def differences(result: dict[str, Any]) -> dict[str, tuple[str, float]]:
    """Verdict and size of every comparison with the unsharded model, by tensor."""
    rows = [row for row in result["rows"] if row["quantity"] == "relative_difference"]
    return {row["path"]: (row["verdict"], row["measured"]) for row in rows}


def test_two_real_ranks(cli: Cli, small: dict[str, str]) -> None:
    done = cli("profile", small["grouped"], small["experts"], small["states"], *PREFILL, *REAL, "--seconds", "0")
    assert (done.code, done.err) == (0, "")
    for result in done.json["results"]:
        assert (result["verdict"], result["ranks_heard"], result["backend"]) == ("confirmed", [0, 1], "gloo")
        assert {tuple(row["ranks"]) for row in result["rows"]} == {(0, 1)}
        found = differences(result)
        kept = ("kv_cache_bytes", "recurrent_state_bytes")
        assert set(found) == {"logits", *(row["path"] for row in result["rows"] if row["quantity"] in kept)}
        assert len(found) == 1 + 4 * 2  # keys and values, or a convolution and a core, of each layer
        assert all(verdict == "AGREES" and size < 1e-5 for verdict, size in found.values())
        assert any(size > 0 for _, size in found.values())  # other sums: they were really taken apart


def test_experts_of_which_one_rank_has_more_and_a_pass_that_both_time(cli: Cli, small: dict[str, str]) -> None:
    """Two tokens of two experts each: the first four of eight experts, all on the first rank."""
    words = ("--phase", "decode", "--context", "8", "--batch", "2", "--data-parallel", "2", "--expert-parallel", "2")
    done = cli("profile", small["experts"], *words, *REAL[2:], "--seconds", "2")
    (result,) = done.json["results"]
    assert (done.code, result["verdict"]) == (0, "confirmed")
    rows = [r for r in result["rows"] if (r["path"], r["quantity"]) == ("layers.1.ffn.experts", "matmul_flops")]
    assert [(row["ranks"], row["measured"], row["verdict"]) for row in rows] == [
        ([0], 2 * 4 * 3 * 24 * 16, "AGREES"),
        ([1], 0, "BELOW_BOUND"),
    ]
    assert differences(result)["logits"][0] == "AGREES"
    (timing,) = result["timings"]
    assert timing["clock"] == "perf_counter_ns, the slowest of 2 ranks"
    assert timing["warm"]["n"] >= 1  # as many as the seconds allow: no more is said of a slow machine
    assert timing["warm"]["median_ns"] > 0


def test_a_wrong_part_is_found_and_a_killed_rank_heard_of(
    cli: Cli, small: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(started, "_be_rank", faulty_ranks.wrong_part_then_killed)
    done = cli("profile", small["grouped"], small["learned"], *PREFILL, *REAL, "--seconds", "0")
    wrong, killed = done.json["results"]
    assert (done.code, wrong["verdict"], killed["verdict"]) == (1, "failed", "unconfirmed")
    assert {row["quantity"] for row in wrong["rows"] if row["verdict"] != "AGREES"} == {"relative_difference"}
    assert differences(wrong)["logits"][0] == "DIFFERS"
    reason = "rank 1 of 2 was killed by SIGKILL (the system's out-of-memory killer does that) while counting learned, "
    assert killed["failure"] == f"{reason}prefill, unfused attention"
    assert killed["missing"][:2] == ["rank 0", "rank 1"]
    assert f"learned: {reason}" in done.err


def test_ctrl_c_ends_all_ranks_and_keeps_what_there_is(
    cli: Cli, small: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not TMPDIR: sockets of processes would be there too, whose paths have to be short.
    monkeypatch.setattr(
        started, "tempfile", SimpleNamespace(TemporaryDirectory=partial(TemporaryDirectory, dir=tmp_path))
    )
    monkeypatch.setattr(started, "_be_rank", faulty_ranks.interrupting)
    done = cli("profile", small["grouped"], small["learned"], *PREFILL, *REAL, "--seconds", "0")
    whole, cut = done.json["results"]
    assert (done.code, whole["verdict"], cut["verdict"], cut["interrupted"]) == (130, "confirmed", "unconfirmed", True)
    (note,) = tmp_path.glob("llmprof-ranks-*.pid")
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    assert list(tmp_path.glob("llmprof-ranks-*")) == [note]


def test_ranks_that_hang_say_where(cli: Cli, small: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(started, "_be_rank", faulty_ranks.hanging)
    done = cli("profile", small["learned"], *PREFILL, *REAL, "--seconds", "0", "--rank-timeout", "900")
    assert done.code == 3
    failure = done.json["results"][0]["failure"]
    at_work = "counting learned, prefill, unfused attention, at"
    assert failure.startswith(f"rank 1 of 2 did not finish a step within 900 s: rank 0 was {at_work} ")
    assert f"; rank 1 was {at_work} faulty_ranks.py:" in failure


# --- the ranks of the user's own torchrun -----------------------------------------------------


def torchrun(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    """Be one of `world` ranks; one that is alone finds a port by itself."""
    values = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "localhost", "MASTER_PORT": 0}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(messages, "_silent", False)


def test_a_rank_of_torchrun_joins_its_group(cli: Cli, small: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun(monkeypatch, 0, 1)
    monkeypatch.setattr(started, "run_on_started", None)
    done = cli("profile", small["learned"], *PREFILL, "--tp", "1", *REAL[2:], "--seconds", "0")
    (result,) = done.json["results"]
    assert (done.code, done.err, result["verdict"], result["ranks_heard"]) == (0, "", "confirmed", [0])
    assert differences(result)["logits"] == ("AGREES", 0)
    assert not dist.is_initialized()


@pytest.mark.parametrize(("rank", "heard"), [(0, True), (1, False)])
def test_the_first_rank_of_torchrun_speaks_for_all(
    cli: Cli, small: dict[str, str], monkeypatch: pytest.MonkeyPatch, rank: int, heard: bool
) -> None:
    torchrun(monkeypatch, rank, 2)
    done = cli("profile", small["learned"], *PREFILL, "--tp", "4", "--device", "cpu")
    assert (done.code, done.out) == (2, "")
    assert ("torchrun started 2 ranks, and these degrees need 4; start as many" in done.err) is heard
    assert bool(done.err) is heard
    done = cli("profile", small["learned"], *PREFILL, "--tp", "2", "--device", "meta")
    assert (done.code, "run it without torchrun" in done.err) == (2, heard)

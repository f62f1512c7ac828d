"""`profile --device-spec`: what reaches the memory of a device, confirmed by a simulated cache."""

from __future__ import annotations

from llmprof import catalog
from llmprof.device import find
from llmprof.ledger import Verdict
from llmprof.predict.api import predict
from llmprof.profiling.dram import REREAD, rows
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.twin.build import build
from llmprof.workload import Execution, Workload
from tests.cli.conftest import Cli

META = ("profile", "gpt2", "--device", "meta", "--context", "64", "--no-referees", "--counters", "none")


def test_dram_and_compulsory_bytes_are_confirmed_module_by_module(cli: Cli) -> None:
    done = cli(*META, "--device-spec", "h200", "--format", "json")
    assert done.code == 0
    found = [row for row in done.json["results"][0]["rows"] if row["witness"] == "simulated cache of h200"]
    assert {row["quantity"] for row in found} == {"dram_bytes", "compulsory_bytes"}
    assert {(row["phase"], row["attention"]) for row in found} == {
        (phase, attention) for phase in ("prefill", "decode") for attention in ("fused", "unfused")
    }
    assert {row["verdict"] for row in found} == {"AGREES"}
    moved = {
        row["quantity"]: row["measured"]
        for row in found
        if (row["path"], row["phase"], row["attention"]) == ("layers.0.attn.q_proj", "decode", "fused")
    }
    # The matrix [768, 768] and the bias [768] come from memory; the row of queries never reaches it.
    assert moved == {"dram_bytes": (768 * 768 + 768) * 2, "compulsory_bytes": (768 * 768 + 768) * 2}


def test_the_table_says_who_measured(cli: Cli) -> None:
    done = cli(*META, "--phase", "decode", "--attention", "fused", "--device-spec", "h200")
    assert done.code == 0
    assert "compulsory bytes, DRAM bytes: simulated cache of h200." in done.out


def test_what_no_kernel_here_reads_stays_unmeasured(cli: Cli) -> None:
    done = cli(*META, "--phase", "decode", "--attention", "fused", "--dtype", "bf16", "--kv-dtype", "int8",
               "--device-spec", "h200", "--format", "json")  # fmt: skip
    found = [row for row in done.json["results"][0]["rows"] if row["quantity"] == "dram_bytes"]
    assert {row["verdict"] for row in found} == {"UNMEASURED"}
    assert all("int8 cache" in row["note"] for row in found)
    assert done.code == 3


def test_what_a_kernel_reads_again_is_seen_by_no_cache_of_whole_tensors() -> None:
    """One KV head of 128 Ki rows is 32 MiB of K and V; two are in flight, more than an A100's 40 MB."""
    (whole,) = catalog.resolve(["llama-3.2-1b"])
    arch = slice_arch(whole, smallest_slice(whole)).arch
    work = Workload(phase="prefill", batch=1, new_tokens=131_072, context=131_072, logits="last")
    found = rows(
        predict(arch, work, Execution(attention="fused")),
        find("a100-40gb"),
        build(arch, dtypes=work.dtypes, device="meta"),
    )
    by_key = {(row.path, row.quantity): row for row in found}
    core = by_key["layers.0.attn.core", "dram_bytes"]
    assert (core.verdict, core.measured, core.note) == (Verdict.UNMEASURED, None, REREAD)
    others = [row for row in found if row is not core]
    assert {row.verdict for row in others} == {Verdict.AGREES}


def test_sdpa_math_has_no_witness_of_what_reaches_memory(cli: Cli) -> None:
    done = cli(*META, "--phase", "prefill", "--attention", "unfused", "--unfused-reference", "sdpa-math",
               "--device-spec", "h200", "--format", "json")  # fmt: skip
    verdicts = {(row["quantity"], row["verdict"]) for row in done.json["results"][0]["rows"]}
    assert {("dram_bytes", "UNMEASURED"), ("compulsory_bytes", "AGREES")} <= verdicts
    assert ("dram_bytes", "AGREES") not in verdicts
    assert done.code == 3


def test_a_device_without_a_cache_is_refused(cli: Cli) -> None:
    done = cli(*META, "--device-spec", "gb200")
    assert done.code == 2
    assert "the size of the last-level cache of gb200 is not known" in done.err
    assert done.out == ""

"""Ranks on GPUs, over NCCL: what each holds, runs on its own kernels, sends and computes is what is predicted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.gpu

SPEC = """
name: small
source: {url: https://example.org}
structure: causal-decoder
d_model: 256
vocab_size: 1001
max_context: 512
tied_embeddings: false
position: {kind: rope, theta: 10000}
layers:
  count: 2
  norm: {kind: rmsnorm, placement: pre}
  attention: {kind: gqa, n_heads: 8, n_kv_heads: 4, head_dim: 64}
  ffn: {kind: swiglu, d_ff: 512}
"""


def profile(folder: Path, *words: str) -> tuple[int, Any, str]:
    """The exit code of a command line in a process of its own, its JSON and its messages."""
    (folder / "small.yaml").write_text(SPEC)
    command = (sys.executable, "-m", "llmprof", "profile", str(folder / "small.yaml"), "--context", "128", *words)
    done = subprocess.run((*command, "--format", "json"), capture_output=True, text=True, check=False, env=os.environ)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        (1, ("--tp", "1")),
        (2, ("--tp", "2", "--attention", "fused,unfused")),
        (2, ("--pipeline-parallel", "2")),
        (2, ("--context-parallel", "2", "--phase", "prefill", "--attention", "fused")),
        (4, ("--tp", "2", "--sequence-parallel", "--pipeline-parallel", "2", "--phase", "prefill")),
    ],
)
def test_ranks_of_nccl(tmp_path: Path, ranks: int, words: tuple[str, ...]) -> None:
    there = torch.cuda.device_count()
    if there < ranks:
        code, payload, said = profile(tmp_path, "--device", "cuda", *words)
        assert (code, payload) == (3, None)
        assert f"{ranks} ranks need a GPU each, and there {'is' if there == 1 else 'are'} {there};" in said
        return
    code, payload, said = profile(tmp_path, "--device", "cuda", "--seconds", "1", *words)
    assert (code, said) == (0, "")
    (result,) = payload["results"]
    assert (result["verdict"], result["backend"], result["ranks_heard"]) == ("confirmed", "nccl", list(range(ranks)))
    assert {row["quantity"] for row in result["rows"]} >= {"hbm_bytes", "peak_live_bytes", "relative_difference"}
    assert all(timing["clock"].startswith("cuda events") for timing in result["timings"])

"""Bytes, FLOPs, parameters and peak of a token table of its own width, by hand (docs/reference-options.md, section 4).

B = 2, T = 3, d_model D = 24, width W = 10, V = 37, bf16 (e = 2).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from option_archs import ENCODER_WIDTH
from twin_archs import decoder, layer

from llmprof.ledger import Ledger
from llmprof.measure.run import measure
from llmprof.measure.training import measure_training
from llmprof.objectives import training_workload
from llmprof.spec.arch import ArchSpec
from llmprof.twin.build import build
from llmprof.workload import Dtypes, Execution, Logits, Workload

B, T, D, W, V, e = 2, 3, 24, 10, 37, 2
N = B * T
NARROW = decoder(layer(), embedding_width=W)
UNFUSED = Execution(attention="unfused")


def counted(
    arch: ArchSpec = NARROW,
    *,
    logits: Logits = "all",
    batch: int = B,
    new: int = T,
    dtypes: Dtypes = Dtypes(),  # noqa: B008  # frozen
) -> Ledger:
    load = Workload(phase="prefill", batch=batch, new_tokens=new, context=new, logits=logits, dtypes=dtypes)
    return measure(build(arch, dtypes=dtypes), load, UNFUSED).ledger


def test_bytes_of_a_prefill() -> None:
    found = counted()
    assert found.at("embed", "hbm_bytes") == 8 * N + 2 * N * W * e
    assert found.at("embed_proj", "hbm_bytes") == (N * W + W * D + N * D) * e
    assert found.at("head.proj", "hbm_bytes") == (N * D + D * W + N * W) * e
    assert found.at("lm_head", "hbm_bytes") == (N * W + W * V + N * V) * e


@pytest.mark.parametrize(("batch", "new", "moved"), [(2, 3, True), (1, 3, False), (2, 1, False)])
def test_the_last_rows_are_taken_once(batch: int, new: int, moved: bool) -> None:
    """Before the matrix and moved there, where there are several sequences of several tokens; the head moves none."""
    found = counted(logits="last", batch=batch, new=new)
    rows = 2 * batch * D * e if moved else 0
    assert found.at("head.proj", "hbm_bytes") == rows + (batch * D + D * W + batch * W) * e
    assert found.at("lm_head", "hbm_bytes") == (batch * W + W * V + batch * V) * e
    assert found.at("head.proj", "matmul_flops") == 2 * batch * D * W
    assert found.at("lm_head", "matmul_flops") == 2 * batch * W * V


def test_without_logits_neither_launches() -> None:
    found, wanted = counted(logits="none"), counted()
    for path in ("head.proj", "lm_head"):
        assert found.at(path, "hbm_bytes") == 0
        assert found.at(path, "matmul_flops") == 0
        assert found.at(path, "params") == wanted.at(path, "params")
    assert found.at("embed_proj", "hbm_bytes") == wanted.at("embed_proj", "hbm_bytes")


def test_weights_in_another_dtype_are_cast() -> None:
    """The two matrices as a whole and first of all; of the table the rows that were gathered."""
    mixed = Dtypes(weights="fp32", activations="bf16", kv_cache="bf16")
    found = counted(dtypes=mixed)
    assert found.at("embed", "hbm_bytes") == 8 * N + 2 * N * W * 4 + N * W * (4 + e)
    assert found.at("embed_proj", "hbm_bytes") == W * D * (4 + e) + (N * W + W * D + N * D) * e
    assert found.at("head.proj", "hbm_bytes") == D * W * (4 + e) + (N * D + D * W + N * W) * e


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_and_contractions(tied: bool) -> None:
    found = counted(replace(NARROW, tied_embeddings=tied))
    assert found.at("embed", "params") == 37 * 10
    assert found.at("embed_proj", "params") == 24 * 10
    assert found.at("head.proj", "params") == 10 * 24
    assert found.at("lm_head", "params") == (0 if tied else 37 * 10)
    assert found.at("embed", "matmul_flops") == 0
    assert found.at("embed_proj", "matmul_flops") == 2 * 6 * 10 * 24
    assert found.at("head.proj", "matmul_flops") == 2 * 6 * 24 * 10
    assert found.at("lm_head", "matmul_flops") == 2 * 6 * 10 * 37


@pytest.mark.parametrize(
    ("form", "stored"),
    [
        ("fp8", (24 * 10 + 4, 10 * 24 + 4)),
        ("int8", (24 * (10 + 2), 10 * (24 + 2))),
        # Groups of 16: 5 bytes and one scale to a row of 10 values, 12 bytes and two scales to one of 24.
        ("int4", (24 * (5 + 2), 10 * (12 + 2 * 2))),
    ],
)
def test_what_is_stored_packed(form: str, stored: tuple[int, int]) -> None:
    dtypes = Dtypes(weights=form, activations="bf16", kv_cache="bf16", group_size=16)  # type: ignore[arg-type]
    found = counted(dtypes=dtypes)
    assert (found.at("embed_proj", "weight_bytes"), found.at("head.proj", "weight_bytes")) == stored
    assert found.at("embed", "weight_bytes") == found.at("lm_head", "weight_bytes") == V * W * e
    assert found.at("embed_proj", "params") == W * D


@pytest.mark.parametrize("logits", ["all", "last"])
def test_behind_the_matrix_the_hidden_state_is_dead(logits: Logits) -> None:
    """With 4,000 tokens to choose from the peak is at the output matrix: it has narrow rows and the logits beside
    constants (ids, cos and sin of T rows of h = 8, a mask with rows of 8)."""
    found = counted(replace(NARROW, vocab_size=4000), logits=logits)
    constants = 8 * N + 2 * T * 8 * e + T * 8 * e
    rows = N if logits == "all" else B
    assert found.at("", "peak_live_bytes") == constants + rows * W * e + rows * 4000 * e


def test_a_training_pass_projects_the_rows_with_loss() -> None:
    """masked-lm of 20 tokens: (3 * 20 + 10) / 20 = 3 positions of each of 2 sequences. Backward costs twice as much."""
    load = training_workload(ENCODER_WIDTH, "masked-lm", text=20, batch=2, prefix_tokens=None, dtypes=Dtypes())
    found = measure_training(build(ENCODER_WIDTH, dtypes=Dtypes()), load, UNFUSED, text=20).ledger
    assert found.at("head.proj", "matmul_flops") == 2 * 6 * 24 * 10
    assert found.at("head.proj", "hbm_bytes") == (6 * D + D * W + 6 * W) * e
    assert found.at("lm_head", "matmul_flops") == 2 * 6 * 10 * 37
    assert found.at("embed_proj", "matmul_flops") == 2 * 40 * 10 * 24

"""The training pass: rows with loss, logits, the loss itself, and what is not kept, by hand.

The small model: d 8, 2 heads of 2 (so queries of width 4), a SwiGLU of 6, vocabulary 10, one layer. For N rows its
projections take 4 x 2 N 8 4 = 256 N FLOPs, its feed-forward 3 x 2 N 8 6 = 288 N, the output matrix 2 m 8 10 = 160 m for m
rows with loss, and one product of an attention core 2 x 2 heads x queries x keys x 2, for each sequence.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.errors import InputError
from llmprof.objectives import training_workload
from llmprof.predict.api import Prediction, predict
from llmprof.spec.arch import (
    ArchSpec,
    Attention,
    Compressed,
    Differential,
    Gqa,
    Linear,
    LmHead,
    MlmHead,
    NoHead,
    Performer,
    Sliding,
    Sparse,
    TalkingHeads,
)
from llmprof.workload import Dtypes, Execution, Objective
from tests.predict_samples import FP32, FUSED, UNFUSED, arch, at, gpt2, kinds, layer, prefill, run, single, stack

HEADS = Gqa(n_heads=2, n_kv_heads=2, head_dim=2)


def trained(
    spec: ArchSpec,
    objective: Objective,
    text: int,
    *,
    batch: int = 1,
    prefix: int | None = None,
    dtypes: Dtypes | None = None,
    execution: Execution = UNFUSED,
) -> Prediction:
    """The prediction of a training pass, unfused unless told otherwise."""
    workload = training_workload(
        spec, objective, text=text, batch=batch, prefix_tokens=prefix, dtypes=dtypes or Dtypes()
    )
    return predict(spec, workload, execution)


def both(spec: ArchSpec, objective: Objective, text: int, **options: int) -> tuple[Prediction, Prediction]:
    """Unfused, then fused."""
    unfused = trained(spec, objective, text, **options)  # type: ignore[arg-type]
    return unfused, predict(spec, unfused.workload, FUSED)


def two_stacks() -> ArchSpec:
    """One encoder layer and one decoder layer of the small model."""
    encoder = stack([layer(HEADS)], prefix="encoder.", mask="bidirectional")
    decoder = stack([layer(HEADS, cross=HEADS)], prefix="decoder.")
    return arch(encoder, decoder, d=8, v=10, structure="encoder-decoder")


# --- each objective by hand ---------------------------------------------------------------------------


def test_causal_lm_makes_logits_of_every_position() -> None:
    unfused, fused = both(single(HEADS), "causal-lm", 5, batch=2)
    # N = 10: 2560 + 2880; two products of 2 sequences x 2 x 2 x 5 x 5 x 2 = 400; 10 rows of logits: 1600
    assert unfused.cost.matmul_flops == fused.cost.matmul_flops == 2560 + 2880 + 2 * 400 + 1600
    assert unfused.matmul_flops_backward == 2 * 7840
    assert fused.matmul_flops_backward == 2 * 7840 + 400, "the scores are computed once more"
    ledger = unfused.ledger
    assert ledger.at("", "matmul_flops_backward") == 15680
    assert ledger.at("lm_head", "logits_bytes") == 2 * 5 * 10 * 2
    assert ledger.at("loss", "loss_tokens") == 2 * 5
    assert "loss_rows" not in ledger.paths()


def test_prefix_lm_makes_logits_from_the_last_of_the_prefix_on() -> None:
    unfused, fused = both(single(HEADS, mask="prefix"), "prefix-lm", 6, prefix=2)
    # N = 6: 1536 + 1728; two products of 2 x 2 x 6 x 6 x 2 = 288; 5 rows of logits: 800
    assert unfused.cost.matmul_flops == fused.cost.matmul_flops == 1536 + 1728 + 2 * 288 + 800
    assert unfused.matmul_flops_backward == 2 * 4640
    assert fused.matmul_flops_backward == 2 * 4640 + 288
    assert unfused.ledger.at("lm_head", "logits_bytes") == 5 * 10 * 2
    assert unfused.ledger.at("loss", "loss_tokens") == 5
    assert at(unfused, "loss_rows") == 8 * 5 + 2 * (5 * 8 * 2)


def test_a_prefix_of_at_most_one_token_selects_no_rows() -> None:
    for prefix in (0, 1):
        prediction = trained(single(HEADS, mask="prefix"), "prefix-lm", 6, prefix=prefix)
        assert "loss_rows" not in prediction.ledger.paths()
        assert prediction.ledger.at("loss", "loss_tokens") == 6


def test_blank_infilling_makes_logits_of_part_b() -> None:
    unfused, fused = both(single(HEADS, mask="prefix"), "blank-infilling", 10)
    # 2 of 10 tokens in one run: part A of 9, part B of 3, N = 12: 3072 + 3456; products of 2 x 2 x 12 x 12 x 2 = 1152
    assert unfused.cost.matmul_flops == 3072 + 3456 + 2 * 1152 + 3 * 160
    assert unfused.matmul_flops_backward == 2 * 9312
    assert fused.matmul_flops_backward == 2 * 9312 + 1152
    assert unfused.ledger.at("lm_head", "logits_bytes") == 3 * 10 * 2
    assert unfused.ledger.at("loss", "loss_tokens") == 3


def test_masked_lm_selects_rows_before_the_whole_head() -> None:
    spec = replace(single(HEADS, mask="bidirectional"), head=MlmHead(), pooler=True)
    unfused, fused = both(spec, "masked-lm", 20, batch=2)
    # N = 40: 10240 + 11520; products of 2 x 2 x 2 x 20 x 20 x 2 = 6400; m = 3 of 20, so 6 rows: 6 x (2 x 8 x 8) + 6 x 160
    assert unfused.cost.matmul_flops == 10240 + 11520 + 2 * 6400 + 768 + 960
    assert unfused.matmul_flops_backward == 2 * 36288
    assert fused.matmul_flops_backward == 2 * 36288 + 6400
    ledger = unfused.ledger
    assert ledger.at("lm_head", "logits_bytes") == 6 * 10 * 2
    assert ledger.at("loss", "loss_tokens") == 6
    assert ledger.at("loss_rows", "hbm_bytes") == 8 * 6 + 2 * (6 * 8 * 2)
    assert ledger.at("head.dense", "matmul_flops") == 768
    assert ledger.at("head.act", "hbm_bytes") == 2 * (6 * 8 * 2)
    paths = ledger.paths()
    assert paths.index("loss_rows") + 1 == paths.index("head.dense")
    assert paths[-1] == "loss"


def test_a_pooler_carries_no_loss() -> None:
    spec = replace(single(HEADS, mask="bidirectional"), pooler=True)
    ledger = trained(spec, "masked-lm", 20).ledger
    assert ledger.at("pooler", "hbm_bytes") == ledger.at("pooler", "matmul_flops") == 0
    assert ledger.at("pooler", "params") == 8 * 8 + 8


def test_span_corruption_runs_both_stacks() -> None:
    unfused, fused = both(two_stacks(), "span-corruption", 8)
    # 1 of 8 tokens in one run: M = 9, T = 3. Encoder: 256 x 9 + 288 x 9, products of 2 x 2 x 9 x 9 x 2 = 648
    encoder = 2304 + 2592 + 2 * 648
    # Decoder: 256 x 3 + 288 x 3, products of 2 x 2 x 3 x 3 x 2 = 72; cross: q, o of 3 rows, k, v of 9; of 2 x 2 x 3 x 9 x 2
    decoder = 768 + 864 + 2 * 72 + (2 * 64 * 3 + 2 * 64 * 9) + 2 * 216
    assert unfused.cost.matmul_flops == encoder + decoder + 3 * 160
    assert unfused.matmul_flops_backward == 2 * 10416
    assert fused.matmul_flops_backward == 2 * 10416 + 648 + 72 + 216
    assert unfused.ledger.at("lm_head", "logits_bytes") == 3 * 10 * 2
    assert unfused.ledger.at("loss", "loss_tokens") == 3
    assert "loss_rows" not in unfused.ledger.paths(), "all of the decoder's positions carry loss"


# --- the loss -----------------------------------------------------------------------------------------


def test_the_loss_kernel_by_kernel() -> None:
    prediction = trained(single(HEADS), "causal-lm", 5, batch=2)
    assert kinds(prediction, "loss") == ["cast", "_log_softmax", "nll_loss_forward"]
    # 100 logits: 2 bytes in, 4 out; 4 in, 4 out; 10 targets, 10 entries that are picked, the mean and the total weight
    assert at(prediction, "loss") == (200 + 400) + (400 + 400) + (8 * 10 + 4 * 10 + 4 + 4)


@pytest.mark.parametrize("dtypes", [FP32, replace(FP32, activations="tf32")])
def test_fp32_logits_are_not_cast(dtypes: Dtypes) -> None:
    prediction = trained(single(HEADS), "causal-lm", 5, batch=2, dtypes=dtypes)
    assert kinds(prediction, "loss") == ["_log_softmax", "nll_loss_forward"]
    assert at(prediction, "loss") == (400 + 400) + (8 * 10 + 4 * 10 + 4 + 4)
    assert prediction.logits_bytes == 400


def test_the_logits_are_those_after_the_cap() -> None:
    spec = replace(single(HEADS), head=LmHead(softcap=30.0, input_scale=0.5))
    assert trained(spec, "causal-lm", 5).logits_bytes == 5 * 10 * 2


# --- without a cache ----------------------------------------------------------------------------------


def test_the_ledger_has_no_cache() -> None:
    for prediction in both(two_stacks(), "span-corruption", 8):
        quantities = {entry.quantity for entry in prediction.ledger}
        assert quantities == {
            "params",
            "weight_bytes",
            "matmul_flops",
            "matmul_flops_causal",
            "hbm_bytes",
            "logits_bytes",
            "loss_tokens",
            "matmul_flops_backward",
            "hbm_bytes_backward",
            "peak_live_bytes",
            "saved_bytes",
            "gradient_bytes",
            "optimizer_bytes",
            "optimizer_peak_bytes",
            "hbm_bytes_optimizer",
        }
        for path in ("decoder.layers.0.attn.cache", "decoder.layers.0.cross_attn.cache"):
            assert prediction.ledger.at(path, "hbm_bytes") == 0


def test_a_decoder_reads_its_keys_fresh() -> None:
    def core(spec: ArchSpec, objective: Objective) -> list[str]:
        return kinds(trained(spec, objective, 5, batch=2), "layers.0.attn.core")

    # q, k and v are transposes of [B, T, H, h], which two sequences of several tokens cannot be viewed out of.
    assert core(single(HEADS), "causal-lm") == ["clone", "clone", "baddbmm", "softmax", "clone", "bmm", "clone"]
    assert kinds(run(single(HEADS), prefill(5, batch=2)), "layers.0.attn.core").count("clone") == 2


def test_the_source_is_read_fresh_too() -> None:
    prediction = trained(two_stacks(), "span-corruption", 8, batch=2)
    assert kinds(prediction, "decoder.layers.0.cross_attn.core").count("clone") == 4
    assert kinds(prediction, "decoder.layers.0.cross_attn.cache") == []


def test_everything_before_the_head_is_the_inference_pass() -> None:
    training, inference = trained(gpt2(), "causal-lm", 16).ledger, run(gpt2(), prefill(16)).ledger
    different = {
        entry.path.rsplit(".", 1)[-1]
        for entry in inference
        if entry.quantity == "hbm_bytes" and training.at(entry.path, "hbm_bytes") != entry.value
    }
    assert different == {"cache"}
    assert all(
        training.at(entry.path, entry.quantity) == entry.value
        for entry in inference
        if entry.quantity in ("params", "weight_bytes", "matmul_flops")
    )


CAUSAL_KINDS: tuple[Attention, ...] = (
    HEADS,
    Linear(n_heads=2, head_dim=2, chunk=2),
    Performer(n_heads=2, head_dim=2, chunk=2, n_features=3),
    Sparse(n_heads=2, head_dim=2, block=2, pattern=Sliding(window=2)),
    Compressed(n_heads=2, head_dim=2, factor=3, method="conv"),
    TalkingHeads(n_heads=2, head_dim=2),
    Differential(n_heads=2, head_dim=2, lambda_init=0.8),
)


@pytest.mark.parametrize("execution", [UNFUSED, FUSED], ids=["unfused", "fused"])
@pytest.mark.parametrize("attention", CAUSAL_KINDS, ids=[attention.kind for attention in CAUSAL_KINDS])
def test_a_causal_stack_runs_its_own_algorithm_and_keeps_nothing(attention: Attention, execution: Execution) -> None:
    def launched(prediction: Prediction) -> list[tuple[str, str]]:
        inside = [(op.path, op.kind) for op in prediction.ops if ".attn." in op.path]
        return [(path, kind) for path, kind in inside if not path.endswith(".cache") and kind != "copy_"]

    # One sequence, whose keys are as contiguous fresh as from a cache.
    training = trained(single(attention), "causal-lm", 5, execution=execution)
    inference = run(single(attention), prefill(5), execution)
    assert launched(training) == launched(inference)
    assert training.ledger.total("matmul_flops") == inference.ledger.total("matmul_flops")
    assert "kv_cache_bytes" not in {entry.quantity for entry in training.ledger}
    assert "copy_" not in {op.kind for op in training.ops}
    leaves = {entry.path for entry in inference.ledger if entry.quantity == "params"}
    assert {entry.path for entry in training.ledger if entry.quantity == "params"} == leaves | {"loss"}


def test_a_window_cuts_no_keys_off_a_whole_sequence() -> None:
    prediction = trained(single(replace(HEADS, window=2)), "causal-lm", 5)
    assert prediction.ledger.at("layers.0.attn.core", "matmul_flops") == 2 * (2 * 2 * 5 * 5 * 2)


def test_a_model_without_a_head_is_refused() -> None:
    workload = trained(single(HEADS), "causal-lm", 5).workload
    with pytest.raises(InputError, match="no head"):
        predict(replace(single(HEADS), head=NoHead()), workload, FUSED)

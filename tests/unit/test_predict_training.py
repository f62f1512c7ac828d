"""A training step as predicted: totals, saved tensors by leaf, the optimiser, what is computed again, what has no rule.

The small model: d 8, one layer of 2 heads of 4, vocabulary 10, 6 tokens of text, batch 2, bf16. A row tensor is
2 x 6 x 8 x 2 = 192 bytes, scores are 2 x 2 x 6 x 6 x 2 = 288.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.errors import InputError
from llmprof.objectives import default_objective, training_workload
from llmprof.predict.api import Prediction, predict
from llmprof.predict.backward import backward_flops
from llmprof.predict.leaves import model_leaves
from llmprof.spec.arch import (
    ArchSpec,
    Glu,
    Gqa,
    LayerNorm,
    Mlp,
    Moe,
    RmsNorm,
    Rope,
    T5Bias,
)
from llmprof.spec.slice import slice_arch, smallest_slice
from llmprof.training_rules import without_rule
from llmprof.workload import Dtypes, Execution, Recompute
from tests.confirming import catalogued
from tests.predict_samples import FP32, FUSED, UNFUSED, arch, bert_base, layer, prefill, run, stack, t5_small
from tests.structures import one_of_each

B, T, D, V = 2, 6, 8, 10
ROW = B * T * D * 2
SCORES = B * 2 * T * T * 2
HEADS = Gqa(n_heads=2, n_kv_heads=2, head_dim=4)


def model(layers: int = 1, *, tied: bool = True, **options: object) -> ArchSpec:
    block = layer(options.pop("attention", HEADS), Mlp(kind="relu", d_ff=16), norm=LayerNorm(), **options)  # type: ignore[arg-type]
    return arch(stack([block] * layers), d=D, v=V, tied=tied)


def step(
    spec: ArchSpec,
    execution: Execution = UNFUSED,
    *,
    text: int = T,
    batch: int = B,
    recompute: Recompute = "none",
    dropout: float = 0.0,
    dtypes: Dtypes | None = None,
) -> Prediction:
    workload = training_workload(
        spec,
        default_objective(spec),
        text=text,
        batch=batch,
        prefix_tokens=None,
        dtypes=dtypes or Dtypes(),
        recompute=recompute,
        dropout=dropout,
    )
    return predict(spec, workload, execution)


def saved_at(prediction: Prediction) -> dict[str, int]:
    return {path: size for path, size in prediction.training.saved_bytes_at.items() if size}


# --- what is saved ---------------------------------------------------------------------------------------


STATISTICS = 2 * B * T * 4
LOSS = B * T * V * 4 + 4


def test_what_every_leaf_of_a_layer_saves() -> None:
    made = step(model())
    assert saved_at(made) == {
        "layers.0.attn_norm": ROW + STATISTICS,  # x, which the embedding made
        "layers.0.attn.q_proj": ROW,  # its input, which k_proj and v_proj save again
        "layers.0.attn.core": 3 * ROW + SCORES,  # q, k and v as they are multiplied, the probabilities
        "layers.0.attn.o_proj": ROW,
        "layers.0.ffn_norm": ROW + STATISTICS,
        "layers.0.ffn.up": ROW,
        "layers.0.ffn.act": 2 * ROW,  # 16 wide: relu saves its result
        "lm_head": ROW,
        "loss": LOSS,
    }
    assert made.training.saved_bytes == sum(saved_at(made).values())
    by_kind = {(each.path, each.kind, each.name) for each in made.training.saved}
    assert ("layers.0.ffn.act", "relu", "relu") in by_kind
    assert all(each.nbytes == each.format.nbytes(each.axes) for each in made.training.saved)


def test_a_fused_core_saves_no_scores_and_is_the_first_to_save_its_output() -> None:
    unfused, fused = saved_at(step(model())), saved_at(step(model(), FUSED))
    # q, k, v, o, the log-sum-exp of 2 heads, 24 bytes of random state; head_dim 4 is no multiple of 8: "none", as flash
    assert fused["layers.0.attn.core"] == 4 * ROW + B * 2 * T * 4 + 24
    assert "layers.0.attn.o_proj" not in fused
    assert set(fused) == set(unfused) - {"layers.0.attn.o_proj"}


def test_every_call_of_a_layer_saves_its_own() -> None:
    one, three = saved_at(step(model())), saved_at(step(model(3)))
    for index in range(3):
        for path, size in one.items():
            if path.startswith("layers.0."):
                assert three[path.replace(".0.", f".{index}.", 1)] == size
    assert sum(three.values()) - sum(one.values()) == 2 * sum(v for k, v in one.items() if k.startswith("layers."))


def test_an_output_gate_saves_both_of_its_factors() -> None:
    for gate, values in (("value", B * T * D), ("head", B * T * 2)):
        kept = saved_at(step(model(attention=replace(HEADS, output_gate=gate))))  # type: ignore[arg-type]
        assert kept["layers.0.attn.gate"] == ROW + 2 * values  # what the core made, and the sigmoid
        assert kept["layers.0.attn.o_proj"] == ROW
        assert "layers.0.attn.gate_proj" not in kept, "q_proj has saved the same input"


def test_saved_bytes_stand_at_every_leaf() -> None:
    made = step(model())
    entries = {entry.path for entry in made.ledger if entry.quantity == "saved_bytes"}
    assert entries == {*model_leaves(model()), "loss"}
    assert made.ledger.total("saved_bytes") == made.training.saved_bytes


def test_a_bias_of_the_stack_is_saved_once_by_the_first_core_that_reads_it() -> None:
    biased = model(2, attention=replace(HEADS, scale=1.0), position=T5Bias(n_buckets=4, max_distance=8))
    unfused, fused = saved_at(step(biased)), step(biased, FUSED)
    assert unfused["layers.0.attn.core"] == unfused["layers.1.attn.core"] == 3 * ROW + SCORES
    # head_dim 4: no kernel fits. 8 does: efficient reads the bias, in rows of 8.
    wide = model(2, attention=replace(HEADS, head_dim=8, scale=1.0), position=T5Bias(n_buckets=4, max_distance=8))
    kept = saved_at(step(wide, FUSED))
    assert kept["layers.0.attn.core"] - kept["layers.1.attn.core"] == 2 * T * 8 * 2
    assert fused.kernel == "none"


# --- gradients and the optimiser -------------------------------------------------------------------------


def test_gradients_and_states_stand_where_parameters_do() -> None:
    made = step(model())
    gradients = {path: size for path, size in made.training.gradient_bytes_at.items() if size}
    assert gradients == {
        "embed": V * D * 2,
        "layers.0.attn_norm": 2 * D * 2,
        **{f"layers.0.attn.{name}": D * D * 2 for name in ("q_proj", "k_proj", "v_proj", "o_proj")},
        "layers.0.ffn_norm": 2 * D * 2,
        "layers.0.ffn.up": 16 * D * 2,
        "layers.0.ffn.down": 16 * D * 2,
    }
    n = V * D + 4 * D + 4 * D * D + 2 * 16 * D
    assert made.training.gradient_bytes == 2 * n
    assert made.training.optimizer_bytes == 12 * n
    assert made.training.optimizer_peak_bytes == (2 + 4) * n
    assert made.training.hbm_bytes_optimizer == 12 + 40 * n
    whole = step(model(), dtypes=FP32).training
    assert (whole.gradient_bytes, whole.optimizer_bytes, whole.optimizer_peak_bytes) == (4 * n, 8 * n, 4 * n)
    assert whole.hbm_bytes_optimizer == 12 + 28 * n


def test_an_untied_matrix_has_a_gradient_of_its_own_and_a_pooler_none() -> None:
    untied = step(model(tied=False)).training
    assert untied.gradient_bytes_at["lm_head"] == untied.gradient_bytes_at["embed"] == V * D * 2
    assert step(bert_base(pooler=True), text=32).training.gradient_bytes_at["pooler"] == 0


def test_two_gradients_of_a_tied_table_are_added() -> None:
    tied, untied = (step(model(tied=tied)).training for tied in (True, False))
    assert tied.hbm_bytes_backward - untied.hbm_bytes_backward == 3 * V * D * 2


# --- traffic ---------------------------------------------------------------------------------------------


def test_the_backward_of_a_model_without_layers_by_hand() -> None:
    """Embedding, output matrix, loss: every kernel of backward."""
    bare = replace(model(tied=False), stacks=(stack([layer(HEADS)] * 0),))
    rows, logits = B * T, B * T * V
    assert step(bare).training.hbm_bytes_backward == sum(
        (
            4,  # ones_like
            4 + 4 + 8 * rows + 4 * logits + 4 * rows,  # nll_loss_backward: zeros, then the entries
            8 * logits + 4 * logits,  # _log_softmax_backward_data
            4 * logits + 2 * logits,  # cast
            2 * logits + ROW + V * D * 2,  # dW
            2 * logits + V * D * 2 + ROW,  # dX
            8 * rows + 2 * ROW + V * D * 2 + ROW,  # embedding_dense_backward
        )
    )


ARCHS = one_of_each(a for a in catalogued() if a.head.kind != "none")
DENSE = [slice_arch(a, smallest_slice(a)).arch for a in ARCHS if without_rule(a) is None]


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_the_contractions_of_the_walk_are_those_of_the_count(recompute: Recompute) -> None:
    """Two ways to the FLOPs of backward: the kernels that rules launch, and the analysis of contractions alone."""
    assert len(DENSE) > 40
    for spec in DENSE:
        for execution in (FUSED, UNFUSED):
            made = step(spec, execution, text=12, recompute=recompute)
            program, walked = made.program, made.training
            counted = backward_flops(program.items, program.returned)
            assert walked.matmul_flops - walked.matmul_flops_recomputed == counted, (spec.label, execution)
            assert made.matmul_flops_backward == walked.matmul_flops
            assert walked.peak_live_bytes > walked.gradient_bytes
            assert walked.peak_live_bytes > walked.saved_bytes


def test_everything_grows_evenly_with_depth() -> None:
    for execution in (FUSED, UNFUSED):
        for recompute in ("none", "selective", "full"):
            made = [step(model(n, position=Rope(theta=1e4)), execution, recompute=recompute) for n in (2, 3, 4)]
            for figure in ("hbm_bytes_backward", "saved_bytes", "peak_live_bytes", "gradient_bytes"):
                two, three, four = (getattr(each.training, figure) for each in made)
                assert four - three == three - two > 0, (figure, execution, recompute)


# --- computed again --------------------------------------------------------------------------------------


def test_selective_saves_what_cores_read_and_runs_them_again() -> None:
    none, selective = step(model()), step(model(), recompute="selective")
    assert saved_at(selective) == {**saved_at(none), "layers.0.attn.core": 3 * ROW}
    core = sum(op.read_bytes + op.write_bytes for op in none.ops if op.path.endswith(".core"))
    assert selective.training.hbm_bytes_backward - none.training.hbm_bytes_backward == core
    assert selective.training.matmul_flops_recomputed == 2 * 2 * B * 2 * T * T * 4
    assert selective.cost == none.cost


def test_full_saves_the_input_of_each_layer_and_runs_it_again() -> None:
    none, full = step(model(2)), step(model(2), recompute="full")
    assert saved_at(full) == {"layers.0": ROW, "layers.1": ROW, "lm_head": ROW, "loss": LOSS}
    layers = sum(op.count * (op.read_bytes + op.write_bytes) for op in none.ops if op.path.startswith("layers."))
    assert full.training.hbm_bytes_backward - none.training.hbm_bytes_backward == layers
    assert full.training.peak_live_bytes < none.training.peak_live_bytes
    assert {entry.path for entry in full.ledger if entry.quantity == "saved_bytes"} >= {"layers.0", "layers.1"}


def test_a_decoder_that_is_run_again_saves_its_memory_and_its_bias_once() -> None:
    full = step(t5_small(), recompute="full", text=40)
    kept = {path: size for path, size in saved_at(full).items() if path.startswith("decoder.layers")}
    rows = full.workload.new_tokens * 512 * 2 * B
    source = full.workload.source_tokens * 512 * 2 * B
    bias = 8 * full.workload.new_tokens * 8 * -(-full.workload.new_tokens // 8) * 2
    assert kept["decoder.layers.0"] == rows + source + bias
    assert kept["decoder.layers.1"] == rows


# --- dropout ---------------------------------------------------------------------------------------------


def test_dropout_has_leaves_of_its_own_and_a_mask_in_the_unfused_core() -> None:
    none, dropped = step(model()), step(model(), dropout=0.1)
    values, pairs = ROW // 2, SCORES // 2
    more = {path: size - saved_at(none).get(path, 0) for path, size in saved_at(dropped).items()}
    assert {path: size for path, size in more.items() if size} == {
        "embed_dropout": values,
        "layers.0.attn_dropout": values,
        "layers.0.ffn_dropout": values,
        "layers.0.attn.core": pairs + SCORES,  # the mask, and the dropped probabilities beside the others
    }
    fused = saved_at(step(model(), FUSED, dropout=0.1))
    assert fused["layers.0.attn.core"] == saved_at(step(model(), FUSED))["layers.0.attn.core"]
    assert dropped.cost.hbm_bytes - none.cost.hbm_bytes == 3 * (2 * ROW + values) + 2 * SCORES + pairs
    both = [step(model(), execution, dropout=0.1) for execution in (FUSED, UNFUSED)]
    assert both[0].cost.vector_flops == both[1].cost.vector_flops
    assert both[0].cost.vector_flops - step(model(), FUSED).cost.vector_flops == 4 * (3 * values + pairs)
    leaves = [entry.path for entry in dropped.ledger if entry.quantity == "params"]
    assert leaves.index("layers.0.attn_dropout") + 1 == leaves.index("layers.0.attn_residual")


# --- what has no rule ------------------------------------------------------------------------------------


WALKED = {"hbm_bytes_backward", "saved_bytes", "peak_live_bytes"}


def test_what_no_rule_says_is_absent_and_says_why() -> None:
    experts = arch(
        stack([layer(HEADS, Moe(n_experts=4, top_k=2, expert=Glu(kind="swiglu", d_ff=6)), norm=RmsNorm())]), d=D, v=V
    )
    mixed = Dtypes(weights="fp32", activations="bf16", kv_cache="bf16")
    cpu = Execution(attention="fused", kernels="cpu")
    for made, why in (
        (step(experts), "layers.0: a feed-forward of kind moe"),
        (step(model(), dtypes=mixed), "weights are fp32 and activations bf16"),
        (step(model(), cpu, dropout=0.1), "the fused kernel of the CPU drops nothing"),
    ):
        assert set(made.training.unpredicted) == WALKED
        assert all(reason.startswith(why) for reason in made.training.unpredicted.values())
        quantities = {entry.quantity for entry in made.ledger}
        assert not quantities & WALKED
        assert {"gradient_bytes", "optimizer_bytes", "hbm_bytes_optimizer", "matmul_flops_backward"} <= quantities
        with pytest.raises(AssertionError):
            _ = made.training.saved
        with pytest.raises(AssertionError):
            _ = made.peak_live_bytes
    assert step(model()).training.unpredicted == {}


def test_what_no_rule_is_about_is_neither_dropped_nor_computed_again() -> None:
    clamped = arch(stack([layer(HEADS, Glu(kind="swiglu-clamped", d_ff=6, beta=1.7, limit=7.0))]), d=D, v=V)
    mixed = Dtypes(weights="fp32", activations="bf16", kv_cache="bf16")
    with pytest.raises(InputError, match="cannot be trained with recompute full: layers"):
        step(clamped, recompute="full")
    with pytest.raises(InputError, match=r"cannot be trained with dropout 0\.1: weights are fp32 and activations bf16"):
        step(model(), dropout=0.1, dtypes=mixed)
    tf32 = Dtypes(weights="fp32", activations="tf32", kv_cache="tf32")
    assert step(model(), recompute="full", dtypes=tf32).training.unpredicted == {}


def test_inference_has_no_training_step() -> None:
    with pytest.raises(AssertionError, match="prefill"):
        _ = run(model(), prefill(4)).training

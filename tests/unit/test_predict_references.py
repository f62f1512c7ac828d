"""The named unfused references by hand: kernels of a core, their bytes, and the cores that have none.

Shapes: 6 query heads on 2 KV heads (g = 3), head_dim 8, bf16, four tokens at once, unless said otherwise.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.errors import InputError
from llmprof.predict.api import Prediction, predict
from llmprof.predict.reference import NoReference
from llmprof.spec.arch import Alibi, ArchSpec, Gqa, Mla, RmsNorm, Rope, T5Bias
from llmprof.workload import Dtypes, Execution, Workload
from tests.predict_samples import FP32, arch, at, decode, kinds, layer, llama_3_8b, prefill, single, stack, t5_small

CORE = "layers.0.attn.core"
GQA = Gqa(n_heads=6, n_kv_heads=2, head_dim=8)
MHA = replace(GQA, n_heads=2)
FP16 = Dtypes(weights="fp16", activations="fp16", kv_cache="fp16")
Q, KV1, W, SCORES, ROWS = 4 * 6 * 8 * 2, 4 * 2 * 8 * 2, 6 * 4 * 4 * 2, 6 * 4 * 4, 6 * 4
MASK = 4 * 4 * 2


def run(spec: ArchSpec, workload: Workload, reference: str = "hf-eager") -> Prediction:
    return predict(spec, workload, Execution(attention="unfused", reference=reference))  # type: ignore[arg-type]


# --- hf-eager -----------------------------------------------------------------------------------


def test_transformers_eager_attention() -> None:
    found = run(single(GQA), prefill(4))
    expected = ["clone", "clone", "bmm", "mul", "add", "cast", "softmax", "cast", "bmm", "clone"]
    assert kinds(found, CORE) == expected
    expand = KV1 + 3 * KV1
    scores = (Q + 3 * KV1 + W) + 2 * W + (W + MASK + W)
    softmax = (W + 4 * SCORES) + 8 * SCORES + (4 * SCORES + W)
    assert at(found, CORE) == 2 * expand + scores + softmax + (W + 3 * KV1 + Q) + 2 * Q
    assert found.kernels == ("hf-eager",)


def test_the_mask_is_one_for_each_sequence_and_there_in_decode() -> None:
    # Two sequences, one token at 5: rows of 5 keys. No clone of q, and the mask hides nothing.
    found = run(single(MHA), decode(5, batch=2))
    assert kinds(found, CORE) == ["bmm", "mul", "add", "cast", "softmax", "cast", "bmm"]
    q, kv1, w = 2 * 2 * 8 * 2, 2 * 5 * 2 * 8 * 2, 2 * 2 * 5
    scores = (q + kv1 + 2 * w) + 4 * w + (4 * w + 2 * 5 * 2)
    assert at(found, CORE) == scores + (2 + 4 + 8 + 4 + 2) * w + (2 * w + kv1 + q)


def test_fp16_casts_within_the_softmax_and_fp32_not_at_all() -> None:
    half, single_precision = run(single(GQA), prefill(4, dtypes=FP16)), run(single(GQA), prefill(4, dtypes=FP32))
    assert kinds(half, CORE)[5:8] == ["softmax", "cast", "bmm"]
    assert kinds(single_precision, CORE)[5:7] == ["softmax", "bmm"]
    bf16 = at(run(single(GQA), prefill(4)), CORE)
    assert bf16 - at(half, CORE) == 2 * 4 * SCORES
    on_cpu = predict(
        single(GQA),
        prefill(4, dtypes=FP16),
        Execution(attention="unfused", reference="hf-eager", kernels="cpu"),
    )
    assert at(on_cpu, CORE) == bf16


def test_a_soft_cap_is_three_kernels_into_new_tensors() -> None:
    plain, capped = run(single(GQA), prefill(4)), run(single(replace(GQA, softcap=20.0)), prefill(4))
    assert kinds(capped, CORE)[2:8] == ["bmm", "mul", "div", "tanh", "mul", "add"]
    assert at(capped, CORE) - at(plain, CORE) == 3 * 2 * W


def test_sinks_are_a_further_column_without_casts() -> None:
    found = run(single(replace(GQA, sinks=True)), prefill(4))
    assert kinds(found, CORE)[4:] == ["add", "cat", "max", "sub", "softmax", "bmm", "clone"]
    joined = ROWS * 5 * 2
    softmax = (W + 12 + joined) + (joined + 2 * ROWS + 8 * ROWS) + (joined + 2 * ROWS + joined) + 2 * joined
    around = 2 * 4 * KV1 + (Q + 3 * KV1 + W) + 2 * W + (2 * W + MASK) + (W + 3 * KV1 + Q) + 2 * Q
    assert at(found, CORE) == around + softmax


def test_only_a_bidirectional_mask_is_left_out() -> None:
    def masked(spec: ArchSpec, workload: Workload) -> bool:
        return "add" in kinds(run(spec, workload), CORE)

    assert not masked(single(GQA, mask="bidirectional"), prefill(4))
    assert masked(single(replace(GQA, window=2), mask="bidirectional"), prefill(4))
    assert masked(single(GQA, mask="prefix"), prefill(4, prefix=4))
    source = arch(
        stack([layer(GQA)], prefix="encoder.", mask="bidirectional"),
        stack([layer(GQA, cross=GQA)], prefix="decoder."),
        d=24,
        v=11,
        structure="encoder-decoder",
    )
    assert "add" not in kinds(run(source, prefill(4, source=5)), "decoder.layers.0.cross_attn.core")
    assert "add" in kinds(run(source, prefill(4, source=5)), "decoder.layers.0.attn.core")


# --- sdpa-math ----------------------------------------------------------------------------------


def test_torch_math_attention() -> None:
    found = run(single(GQA), prefill(4), "sdpa-math")
    flag = ["ones", "tril", "scalar_tensor", "scalar_tensor", "where"]
    safe = ["softmax", "isneginf", "all", "scalar_tensor", "where"]
    expected = [
        *["cast"] * 3,
        "mul",
        *flag,
        "clone",
        "clone",
        "mul",
        "bmm",
        "add_",
        *safe,
        "cast",
        "bmm",
        "cast",
        "clone",
    ]
    assert kinds(found, CORE) == expected
    q, kv, x, w = 4 * 6 * 8, 4 * 2 * 8, 4 * 6 * 8, SCORES
    into_fp32 = 6 * (q + 2 * kv) + 8 * q
    made = 16 + 2 * 16 + 8 + (16 + 8 + 64)
    scores = 2 * (4 * kv + 4 * x) + 8 * x + (4 * q + 4 * x + 4 * w) + (8 * w + 64)
    softmax = 8 * w + 5 * w + (w + ROWS) + 4 + (ROWS + 4 + 8 * w) + 6 * w
    assert at(found, CORE) == into_fp32 + made + scores + softmax + (4 * w + 4 * x + 4 * q) + 6 * q + 4 * q


def test_a_mask_that_no_flag_makes_is_read_as_it_is() -> None:
    # Four tokens of a window of 2, and three of four tokens: [t, s] in bf16, added to scores in fp32.
    for spec, workload in ((single(replace(GQA, window=2)), prefill(4)), (single(GQA), prefill(3, context=4))):
        found = run(spec, workload, "sdpa-math")
        assert "tril" not in kinds(found, CORE)
        t, s = workload.new_tokens, workload.context
        added = next(op for op in found.ops if op.path.endswith("core") and op.kind == "add_")
        assert (added.read_bytes, added.write_bytes) == (4 * 6 * t * s + 2 * t * s, 4 * 6 * t * s)
    alibi = run(single(GQA, position=Alibi()), prefill(4), "sdpa-math")
    added = next(op for op in alibi.ops if op.kind == "add_")
    assert added.read_bytes == 4 * SCORES + 2 * SCORES


def test_fp32_is_not_cast() -> None:
    found = run(single(MHA, mask="bidirectional"), prefill(4, dtypes=FP32), "sdpa-math")
    assert "cast" not in kinds(found, CORE)
    assert kinds(found, CORE)[:3] == ["mul", "mul", "bmm"]
    # Two sequences: q, k and v are transposes that no view can flatten.
    assert (
        kinds(run(single(MHA, mask="bidirectional"), prefill(4, batch=2, dtypes=FP32), "sdpa-math"), CORE).count(
            "clone"
        )
        == 4
    )


# --- figures ------------------------------------------------------------------------------------


def test_one_layer_of_llama_3_8b_at_4096() -> None:
    """The core of one layer, one sequence, bf16: 4.6, 17.5 and 24.8 GB, and the figures that circulate for them.

    4.58 GB is lean-eager without the mask and with a scaled q in its place, and without the copy of the output; 17.43
    hf-eager without that copy; 17.26 sdpa-math without it and with its safe softmax as one kernel.
    """
    core = {name: at(run(llama_3_8b(), prefill(4096), name), CORE) for name in ("lean-eager", "hf-eager", "sdpa-math")}
    assert core == {"lean-eager": 4_613_734_400, "hf-eager": 17_498_636_288, "sdpa-math": 24_847_319_064}
    copy = q_and_back = 2 * 4096 * 4096 * 2
    mask = 4096 * 4096 * 2
    w, rows = 32 * 4096 * 4096, 32 * 4096
    assert core["lean-eager"] - copy - mask + q_and_back == 4_580_179_968
    assert core["hf-eager"] - copy == 17_431_527_424
    assert core["sdpa-math"] - copy - (14 * w + 2 * rows + 8) == 17_263_755_280
    fused = predict(llama_3_8b(), prefill(4096), Execution(attention="fused"))
    # q and output, keys and values of 8 heads, the log-sum-exp, 24 bytes of random state: 0.084 GB.
    assert at(fused, CORE) == q_and_back + 2 * 4096 * 1024 * 2 + 4 * rows + 24
    assert round(at(fused, CORE) / 1e9, 3) == 0.084


# --- what has no list ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "reference", "message"),
    [
        (single(GQA, position=Alibi()), "hf-eager", r"^layers\.0\.attn: hf-eager has no op list for ALiBi"),
        (t5_small(), "hf-eager", r"^encoder\.layers\.0\.attn: hf-eager has no op list for a T5 bias"),
        (single(replace(GQA, softcap=9.0)), "sdpa-math", r"^layers\.0\.attn: .* a soft cap .* use .* lean-eager$"),
        (single(replace(GQA, sinks=True)), "sdpa-math", r"for sinks"),
        (
            single(
                Mla(n_heads=2, kv_rank=4, nope_dim=4, rope_dim=4, value_dim=4, norm=RmsNorm()),
                position=Rope(theta=1e4),
            ),
            "sdpa-math",
            r"attention of kind mla",
        ),
    ],
)
def test_a_core_without_a_list_is_refused(spec: ArchSpec, reference: str, message: str) -> None:
    work = prefill(4, source=4 if len(spec.stacks) > 1 else 0)
    with pytest.raises(NoReference, match=message):
        run(spec, work, reference)
    fused = Execution(attention="fused", reference=reference)  # type: ignore[arg-type]
    assert predict(spec, work, fused).cost.hbm_bytes  # a reference has no effect on fused cores


def test_t5_reaches_torch_as_a_mask_per_head() -> None:
    assert isinstance(t5_small().main.layers[0].position, T5Bias)
    found = run(t5_small(), prefill(4, source=4), "sdpa-math")
    added = [op for op in found.ops if op.kind == "add_" and op.path.endswith("attn.core")]
    assert {op.read_bytes for op in added} == {(4 + 2) * 8 * 4 * 4}


def test_training_has_one_reference() -> None:
    from llmprof.objectives import training_workload

    work = training_workload(single(GQA), "causal-lm", text=4, batch=1, prefix_tokens=None, dtypes=Dtypes())
    with pytest.raises(InputError, match="a training pass is defined for the unfused reference lean-eager"):
        run(single(GQA), work)

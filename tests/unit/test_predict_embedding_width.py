"""A token table of its own width: docs/reference-options.md, section 4, by hand.

Shapes unless said otherwise: D = 8, W = 5, V = 10, one layer; B = 2 and T = 3, so N = 6 rows, in bf16 (2 bytes).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmprof.check.ledgers import parts
from llmprof.objectives import training_workload
from llmprof.predict.api import Prediction, parameters, predict
from llmprof.predict.explain import explain
from llmprof.predict.record import count_record, record_of
from llmprof.spec.arch import ArchSpec, Gqa, Head, LayerNorm, Learned, LmHead, Mlp, NoHead
from llmprof.workload import Dtypes, Workload
from tests.predict_samples import FUSED, UNFUSED, arch, at, decode, kinds, layer, prefill, run, stack

HEADS = Gqa(n_heads=2, n_kv_heads=1, head_dim=4)
B, T, N, D, W, V = 2, 3, 6, 8, 5, 10
PROMPT = prefill(T, batch=B)
LAST = replace(PROMPT, logits="last")
FP32_WEIGHTS = Dtypes(weights="fp32")

Launch = tuple[str, int, int]


def model(head: Head | None = None, *, width: int | None = W, tied: bool = True, v: int = V) -> ArchSpec:
    return replace(arch(stack([layer(HEADS)]), d=D, v=v, tied=tied, head=head), embedding_width=width)


def launches(prediction: Prediction, path: str) -> list[Launch]:
    return [(op.kind, op.read_bytes, op.write_bytes) for op in prediction.ops if op.path == path]


@pytest.mark.parametrize(
    ("tied", "bias", "output", "embedding"), [(True, False, 0, 50), (False, False, 50, 100), (False, True, 60, 100)]
)
def test_the_matrices_around_the_table(tied: bool, bias: bool, output: int, embedding: int) -> None:
    count = parameters(model(LmHead(bias=bias), tied=tied))
    around = {path: found for path, found in count.by_path.items() if not path.startswith("layers.")}
    assert around == {"embed": V * W, "embed_proj": D * W, "head.proj": W * D, "lm_head": output}
    assert count.embedding == embedding
    layers = sum(found for path, found in count.by_path.items() if path.startswith("layers."))
    assert count.non_embedding == layers + 2 * D * W + (V if bias else 0)
    assert count.active == count.total


def test_the_order_of_the_leaves() -> None:
    whole = stack([layer(HEADS)], embedded_position=Learned(rows=9), embedding_norm=LayerNorm(), final_norm=LayerNorm())
    spec = replace(arch(whole, d=D, v=V, embedding_scale=2.0, types=3), embedding_width=W)
    paths = [path for path in parameters(spec).by_path if not path.startswith("layers.")]
    opening = ["embed", "embed_proj", "embed_scale", "type_embed", "pos_embed", "embed_norm"]
    assert paths == [*opening, "final_norm", "head.proj", "lm_head"]
    # The other tables are as wide as the layers, and the scale multiplies what has been projected.
    assert parameters(spec).embedding == V * W + 3 * D + 9 * D
    assert at(run(spec, PROMPT), "embed_scale") == 2 * 2 * N * D
    assert list(dict.fromkeys(op.path for op in run(spec, PROMPT).ops if not op.path.startswith("layers."))) == paths


@pytest.mark.parametrize("width", [5, 8, 13])
def test_the_kernels_of_a_prompt(width: int) -> None:
    """Narrower than the layers, as wide (the matrices are there all the same), and wider."""
    w = width
    made = run(model(width=w), PROMPT)
    assert launches(made, "embed") == [("embedding", 8 * N + 2 * N * w, 2 * N * w)]
    assert launches(made, "embed_proj") == [("mm", 2 * (N * w + D * w), 2 * N * D)]
    assert launches(made, "head.proj") == [("mm", 2 * (N * D + w * D), 2 * N * w)]
    assert launches(made, "lm_head") == [("mm", 2 * (N * w + V * w), 2 * N * V)]
    for path in ("embed_proj", "head.proj"):
        assert made.ledger.at(path, "matmul_flops") == made.ledger.at(path, "matmul_flops_causal") == 2 * N * D * w
    assert made.ledger.at("lm_head", "matmul_flops") == 2 * N * w * V
    plain = run(model(width=None), PROMPT)
    assert made.cost.matmul_flops - plain.cost.matmul_flops == 2 * N * (2 * D * w + (w - D) * V)


def test_what_is_cached_does_not_depend_on_it() -> None:
    narrow, plain = (run(model(width=width), decode(7, batch=B)) for width in (W, None))
    assert narrow.kv_cache_bytes == plain.kv_cache_bytes
    # One row per sequence.
    assert launches(narrow, "embed_proj") == [("mm", 2 * (B * W + D * W), 2 * B * D)]
    assert launches(narrow, "head.proj") == [("mm", 2 * (B * D + W * D), 2 * B * W)]


@pytest.mark.parametrize(
    ("workload", "rows", "clones"), [(LAST, 2, 1), (prefill(3, logits="last"), 1, 0), (prefill(1, logits="last"), 1, 0)]
)
def test_logits_of_the_last_token_are_projected_alone(workload: Workload, rows: int, clones: int) -> None:
    made = run(model(), workload)
    row = 2 * rows * D
    assert launches(made, "head.proj") == [
        *[("clone", row, row)] * clones,
        ("mm", row + 2 * W * D, 2 * rows * W),
    ]
    assert launches(made, "lm_head") == [("mm", 2 * (rows * W + V * W), 2 * rows * V)]


def test_without_logits_neither_runs() -> None:
    made = run(model(), replace(PROMPT, logits="none"))
    assert kinds(made, "head.proj") == kinds(made, "lm_head") == []
    assert made.ledger.at("head.proj", "params") == W * D
    assert kinds(made, "embed_proj") == ["mm"]
    headless = run(model(NoHead()), PROMPT)
    assert headless.ledger.at("head.proj", "params") is None
    assert parameters(model(NoHead())).by_path["embed_proj"] == D * W


def test_what_is_done_to_logits_is_done_after_both() -> None:
    made = run(model(LmHead(bias=True, output_scale=0.5, softcap=3.0), tied=False), PROMPT)
    assert kinds(made, "head.proj") == ["mm"]
    assert kinds(made, "lm_head") == ["addmm", "mul_", "div_", "tanh_", "mul_"]


def test_weights_in_another_dtype_are_cast_before_rows_are_taken() -> None:
    made = run(model(), replace(LAST, dtypes=FP32_WEIGHTS))
    cast = ("cast", 4 * D * W, 2 * D * W)
    assert launches(made, "embed") == [("embedding", 8 * N + 4 * N * W, 4 * N * W), ("cast", 4 * N * W, 2 * N * W)]
    assert launches(made, "embed_proj") == [cast, ("mm", 2 * (N * W + D * W), 2 * N * D)]
    assert [kind for kind, *_ in launches(made, "head.proj")] == ["cast", "clone", "mm"]
    assert launches(made, "head.proj")[0] == cast
    assert kinds(made, "lm_head") == ["cast", "mm"]


@pytest.mark.parametrize(
    ("weights", "into", "back"),
    [
        # D rows of W and W rows of D.
        ("fp8", D * W + 4, W * D + 4),
        ("int8", D * (W + 2), W * (D + 2)),
        ("int4", D * (3 + 2 * 2), W * (4 + 2 * 2)),
    ],
)
def test_packed_matrices_beside_a_table_that_is_not(weights: str, into: int, back: int) -> None:
    dtypes = Dtypes(weights=weights, group_size=4)  # type: ignore[arg-type]
    made = run(model(tied=False), replace(PROMPT, dtypes=dtypes))
    found = {path: made.ledger.at(path, "weight_bytes") for path in ("embed", "embed_proj", "head.proj", "lm_head")}
    assert found == {"embed": 2 * V * W, "embed_proj": into, "head.proj": back, "lm_head": 2 * V * W}
    assert at(made, "embed_proj") == 2 * N * W + into + 2 * N * D
    assert at(made, "head.proj") == 2 * N * D + back + 2 * N * W


@pytest.mark.parametrize(
    ("v", "dtypes", "peak"),
    [
        # 4 tokens of W = 1000. Token ids are there throughout, and the mask of 4 rows of 8.
        # lm_head: its rows and the logits.
        (10, Dtypes(), 4 * 1000 * 2 + 4 * 10 * 2),
        # head.proj: rows of the layers' width and of the table's.
        (3, Dtypes(), 4 * 8 * 2 + 4 * 1000 * 2),
        # The same with the matrix' cast.
        (3, FP32_WEIGHTS, 4 * 8 * 2 + 4 * 1000 * 2 + 8 * 1000 * 2),
    ],
)
def test_the_peak_is_where_rows_are_wide(v: int, dtypes: Dtypes, peak: int) -> None:
    constants = 4 * 8 + 4 * 8 * 2
    assert run(model(width=1000, v=v), prefill(4, dtypes=dtypes)).peak_live_bytes == constants + peak


def test_the_tables_rows_die_when_they_have_been_projected() -> None:
    made = run(model(NoHead(), width=1000), prefill(4))
    assert made.peak_live_bytes == 4 * 8 + 4 * 8 * 2 + 4 * 1000 * 2 + 4 * 8 * 2  # at embed_proj


def test_training_projects_the_rows_with_loss() -> None:
    whole = replace(model(), structure="prefix-decoder", stacks=(stack([layer(HEADS)], mask="prefix"),))
    workload = training_workload(whole, "prefix-lm", text=6, batch=B, prefix_tokens=3, dtypes=Dtypes())
    assert workload.loss_tokens < workload.new_tokens
    m = B * workload.loss_tokens
    made = predict(whole, workload, UNFUSED)
    assert launches(made, "head.proj") == [("mm", 2 * (m * D + W * D), 2 * m * W)]
    paths = [path for path in dict.fromkeys(entry.path for entry in made.ledger) if "layers." not in path]
    assert paths == ["", "embed", "embed_proj", "loss_rows", "head.proj", "lm_head", "loss"]
    assert made.logits_bytes == m * V * 2
    # Every product here has two operands that learn.
    assert made.matmul_flops_backward == 2 * made.cost.matmul_flops


@pytest.mark.parametrize("workload", [LAST, decode(9, dtypes=Dtypes(weights="int4", group_size=4)), prefill(4)])
def test_formulas_and_parts_come_to_the_figures(workload: Workload) -> None:
    spec = model(tied=False)
    record = count_record(spec, workload)
    explained = {figure.name: figure for figure in explain(spec, workload)}
    for name, figure in explained.items():
        assert eval(figure.numbers.replace(" x ", " * ")) == figure.value == record[name], figure
    assert explained["params_embedding"].formula == "2 x v x embedded"
    assert explained["params_embedding"].numbers == "2 x 10 x 5"
    assert {"d x embedded", "embedded x d"} <= set(explained["params_total"].formula.split(" + "))
    fused, unfused = run(spec, workload, FUSED), run(spec, workload)
    made = parts(fused, unfused, record_of(fused, unfused))
    for name in ("params_total", "params_embedding", "params_non_embedding", "weight_bytes", "hbm_bytes_fused"):
        assert sum(made[name]().values()) == record[name], name
    assert made["params_non_embedding"]()["head.proj"] == W * D


def test_opt_350m() -> None:
    """Its table is 512 wide and its layers 1024; it has no norm after its last layer, as its norms follow the blocks.

    The total is that of facebook/opt-350m as transformers 5.23.0 builds it from OPTConfig (package read 2026-11-30).
    """
    attention = Gqa(n_heads=16, n_kv_heads=16, head_dim=64, qkv_bias=True, out_bias=True)
    block = layer(attention, Mlp(kind="relu", d_ff=4096, bias=True), norm=LayerNorm(), placement="post")
    whole = stack([block] * 24, embedded_position=Learned(rows=2050))
    spec = replace(arch(whole, d=1024, v=50272), embedding_width=512)
    count = parameters(spec)
    in_layer = 4 * (1024**2 + 1024) + (2 * 1024 * 4096 + 4096 + 1024) + 2 * 2 * 1024
    assert count.embedding == 50272 * 512 + 2050 * 1024
    assert count.total == count.embedding + 2 * 512 * 1024 + 24 * in_layer == 331_196_416

"""What docs/studies-modern.md says below its outputs, held against the specs: caches, experts, hybrids and options of layers.

The outputs themselves are executed by `test_docs.py`. Sizes in comments: n tokens, d the model's width, bf16 in 2 bytes.
"""

from __future__ import annotations

import pytest

from llmprof import catalog
from llmprof.predict.api import Prediction, parameters
from llmprof.predict.record import Record, record_of
from llmprof.spec.arch import GatedDeltaNet, Mamba1, Mamba2, Mixer, RgLru, Rwkv4
from tests.studying import KI, MI, PAGES, flops, found, hbm, kernels, params, table, variants

PAGE = PAGES[1]
GIB = 2**30


def gib(nbytes: float) -> str:
    return f"{nbytes / GIB:.2f}"


def test_the_pages_know_every_study() -> None:
    page = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for entry in catalog.entries():
        if entry.family == "studies":
            assert f"`{entry.name}`" in page, entry.name


# --- 8. one budget of keys and values -----------------------------------------------------------

KV = "kv-budget"
BUDGET = ("mla", "budget-mha", "budget-gqa", "budget-mqa", "budget-window")
STEP = {"phase": "decode", "batch": 16}


@pytest.mark.parametrize(
    ("fewer_a_layer", "names"),
    [(0, ("gqa", "mqa", "window", "budget-window")), (3_584, ("mla",)), (4_096, BUDGET[1:4])],
)
def test_the_kinds_of_attention_have_equal_parameters_up_to_a_unit_of_d_ff(
    fewer_a_layer: int, names: tuple[str, ...]
) -> None:
    assert params(KV) == 1_298_761_728
    assert fewer_a_layer < 3 * 2048
    assert {params(KV) - params(KV, name) for name in names} == {24 * fewer_a_layer}
    assert (24 * 3_584, 24 * 4_096) == (86_016, 98_304)


@pytest.mark.parametrize(
    ("kind", "a_token", "values"),
    # k and v of 16, 4 and 1 heads of 128, or one row of 512 + 64; in 24 layers
    [("base", 196_608, 4096), ("gqa", 49_152, 1024), ("mqa", 12_288, 256), ("mla", 27_648, 576)],
)
def test_what_a_token_costs(kind: str, a_token: int, values: int) -> None:
    kept = found(KV, kind, 32 * KI, **STEP).kv_cache_bytes
    assert a_token == 24 * values * 2
    assert kept == 16 * 32 * KI * a_token


def test_a_step_of_16_sequences_is_mostly_cache() -> None:
    moved = [gib(hbm(KV, kind, 32 * KI, **STEP)) for kind in ("base", "gqa", "mqa", "mla", "window")]
    assert moved == ["98.57", "26.56", "8.55", "16.11", "14.57"]
    assert gib(found(KV, "base", KI).weight_bytes) == "2.42"
    assert found(KV, "window", 32 * KI, **STEP).kv_cache_bytes == 12 * GIB


def test_the_budgets_are_equal_at_one_length() -> None:
    kept = {n: {k: found(KV, k, n, phase="decode").kv_cache_bytes for k in BUDGET} for n in (4 * KI, 32 * KI, 64 * KI)}
    assert set(kept[32 * KI].values()) == {905_969_664}
    assert 13.5 * GIB == 16 * 905_969_664
    for n, window, others in ((4 * KI, 805_306_368, 113_246_208), (64 * KI, 905_969_664, 2 * 905_969_664)):
        assert kept[n].pop("budget-window") == window
        assert set(kept[n].values()) == {others}
    moved = [hbm(KV, kind, 32 * KI, **STEP) for kind in BUDGET]
    assert (gib(min(moved)), gib(max(moved))) == ("16.04", "16.11")


@pytest.mark.parametrize(
    ("kind", "per_byte"),
    [
        ("base", "1"),
        ("budget-mha", "1"),
        ("budget-window", "1"),
        ("budget-gqa", "8"),
        ("budget-mqa", "16"),
        ("mla", "30.2"),
    ],
)
def test_how_much_is_computed_from_a_byte_of_cache(kind: str, per_byte: str) -> None:
    made = found(KV, kind, 32 * KI, **STEP)
    core = sum(op.matmul_flops for group in made.program.groups for op in group.ops if op.path == "attn.core")
    assert f"{24 * core / made.kv_cache_bytes:.3g}" == per_byte


def test_absorbed_and_expanded_latents() -> None:
    full, absorbed = (flops(KV, kind, 32 * KI, **STEP) for kind in ("base", "mla"))
    expanded = flops(KV, "mla", 32 * KI, latent="expanded", **STEP)
    assert [f"{each / 1e9:.2f}" for each in (full, absorbed)] == ["144.64", "479.64"]
    assert round(expanded / absorbed) == 110
    moved = hbm(KV, "mla", 32 * KI, latent="expanded", **STEP) / hbm(KV, "mla", 32 * KI, **STEP)
    assert f"{moved:.1f}" == "23.3"
    # a prompt has no past: both are the same pass
    assert hbm(KV, "mla", KI) == hbm(KV, "mla", KI, latent="expanded")
    assert [gib(hbm(KV, kind, 32 * KI, attention="unfused", **STEP)) for kind in ("mla", "gqa")] == ["29.62", "220.06"]


# --- 9. experts by batch ------------------------------------------------------------------------

EXPERTS = "experts"
BATCHES = (1, 4, 16, 64, 256)
MIXTURES = [kind for kind in variants(EXPERTS) if kind not in ("base", "dense-total")]


def step(kind: str, batch: int) -> Record:
    fused, unfused = (
        found(EXPERTS, kind, KI, phase="decode", batch=batch, attention=attention) for attention in ("fused", "unfused")
    )
    return record_of(fused, unfused)


def total(batch: int) -> int:
    """HBM bytes of a step of the dense model that holds as many feed-forward weights as all experts."""
    return hbm(EXPERTS, "dense-total", KI, phase="decode", batch=batch)


def test_mixtures_run_the_weights_of_the_base_and_hold_those_of_the_large_model() -> None:
    # the routers' d x experts matrices in 16 layers, a gate of d, and biases of the router, the experts in and out
    more = {
        "top-2-of-8": (8, 0, 0),
        "top-8-of-32": (32, 0, 0),
        "shared": (56, 0, 0),
        "shared-gate": (28, 2048, 0),
        "biased": (16, 0, 2 * 2048 + 2048),
        "input-weighted": (7, 0, 0),
        "plain": (8, 0, 0),
        "parallel": (8, -2048, 0),
    }
    assert list(more) == MIXTURES
    for kind, (experts, extra, biases) in more.items():
        count, chosen = parameters(variants(EXPERTS)[kind]), 4
        router = 16 * (2048 * experts + extra + (experts if biases else 0))
        assert count.total - params(EXPERTS, "dense-total") == router + 16 * experts * biases, kind
        assert count.active - params(EXPERTS) == router + 16 * chosen * biases, kind
    count = parameters(variants(EXPERTS)["top-2-of-8"])
    assert (count.total, count.active, 16 * 2048 * 8) == (3_454_863_360, 1_038_944_256, 262_144)


@pytest.mark.parametrize("row", table(PAGE, "decode", "experts"), ids=lambda row: f"{row[0].strip('`')}-{row[1]}")
def test_the_table_of_experts(row: list[str]) -> None:
    batch = int(row[1])
    made, dense = step(row[0].strip("`"), batch), total(batch)
    moved, expected = made["hbm_bytes_fused"], made["hbm_bytes_expected_fused"]
    assert row[2:] == [
        str(made["experts_touched"]),
        f"{made['experts_expected']:.2f}",
        f"{gib(moved)} GiB",
        f"{gib(expected)} GiB",
        f"{moved / dense:.3f}",
        f"{expected / dense:.3f}",
    ]
    assert expected <= moved < dense
    base = flops(EXPERTS, "base", KI, phase="decode", batch=batch)
    assert base < made["matmul_flops_dense"] < 1.002 * base


def test_the_table_of_experts_is_whole() -> None:
    rows = [(row[0].strip("`"), int(row[1])) for row in table(PAGE, "decode", "experts")]
    assert rows == [(kind, batch) for kind in ("top-2-of-8", "top-8-of-32", "shared") for batch in BATCHES]


@pytest.mark.parametrize(("kind", "batch"), [("top-2-of-8", 11), ("top-8-of-32", 11), ("shared", 18)])
def test_from_which_batch_on_random_choices_move_nearly_as_much_as_the_large_model(kind: str, batch: int) -> None:
    below, reached = (step(kind, each)["hbm_bytes_expected_fused"] / total(each) for each in (batch - 1, batch))
    assert below < 0.95 <= reached


def test_experts_at_batch_16_and_256() -> None:
    shares = []
    for kind in MIXTURES:
        made = step(kind, 16)
        assert made["experts_touched"] == variants(EXPERTS)[kind].main.layers[0].ffn.n_experts  # type: ignore[union-attr]
        shares.append(made["hbm_bytes_fused"] / total(16))
    assert (f"{min(shares):.3f}", f"{max(shares):.3f}") == ("0.987", "0.999")
    launched = [
        kernels(found(EXPERTS, kind, KI, phase="decode", batch=16))
        for kind in ("base", "top-2-of-8", "top-8-of-32", "shared")
    ]
    assert launched == [650, 1_610, 4_298, 7_242]
    assert found(EXPERTS, "base", KI, phase="decode", batch=256).kv_cache_bytes == 8 * GIB
    moved = [step(kind, 256)["hbm_bytes_fused"] for kind in ("top-2-of-8", "dense-total", "base")]
    assert [gib(each) for each in moved] == ["16.32", "17.52", "11.52"]
    one = [step(kind, 1)["hbm_bytes_fused"] for kind in ("base", "top-2-of-8", "top-8-of-32", "shared")]
    assert [gib(each) for each in one] == ["1.97", "1.97", "1.98", "1.98"]


# --- 10. what the reference of a scan moves; the rest of this question is in test_studies_long.py --

LONG = "long-context"
SCANS = {
    "mamba-1": "mamba-1",
    "mamba-2": "mamba-2",
    "gated-deltanet": "hybrid-deltanet",
    "rg-lru": "rg-lru",
    "rwkv-4": "rwkv-4",
}


def passing(mixer: Mixer) -> int:
    """Bytes of the inputs and outputs of a core of `mixer`, per token, in two bytes a value."""
    match mixer:
        case Mamba1(d_inner=e, d_state=n):
            return 2 * (2 * e + 2 * n + e)  # u and dt, b and c, y
        case Mamba2(n_heads=h, d_state=n, n_groups=g):
            return 2 * (mixer.d_inner + 2 * g * n + h + mixer.d_inner)  # u with b and c, dt, y
        case GatedDeltaNet(n_heads=h, n_key_heads=k, key_dim=a, value_dim=c):
            return 2 * (2 * k * a + h * c + 2 * h + h * c)  # q and k, v, beta and alpha, y
        case RgLru(width=w):
            return 2 * 2 * w  # u, y
        case Rwkv4(width=w):
            return 2 * 3 * w  # k, v, y
        case _:
            raise AssertionError(f"{mixer.kind} has no scan")


def core_bytes(made: Prediction) -> int:
    """HBM bytes of the core of one of the first layers."""
    return sum(op.times * op.hbm_bytes for op in made.program.groups[0].ops if op.path == "attn.core")


def test_what_the_reference_of_a_scan_moves() -> None:
    rows, ratios = table(PAGE, LONG, "scans"), []
    assert [row[0].strip("`") for row in rows] == list(SCANS)
    for row in rows:
        kind = row[0].strip("`")
        made = found(LONG, SCANS[kind], 4 * KI, logits="last")
        mixer = made.program.groups[0].layer.attention
        assert mixer.kind == kind
        assert row[1].strip("`") in made.kernels
        reference, least = core_bytes(made) / (4 * KI), passing(mixer)  # type: ignore[arg-type]
        ratios.append(reference / least)
        assert row[2:] == [f"{reference:,.0f} B", f"{least:,} B", f"{ratios[-1]:.0f}"]
    assert (round(min(ratios)), round(max(ratios))) == (47, 140)


def test_a_prompt_with_the_least_that_a_scan_moves() -> None:
    made = found(LONG, "mamba-1", MI, logits="last")
    least = made.cost.hbm_bytes - 24 * core_bytes(made) + 24 * MI * 24_640
    assert [f"{each / 2**40:.2f}" for each in (least, made.cost.hbm_bytes)] == ["9.56", "87.94"]


def test_a_step_of_mamba_2_moves_its_state_and_more() -> None:
    state = 64 * 64 * 128 * 4
    assert f"{core_bytes(found(LONG, 'mamba-2', KI, phase='decode')) / (2 * state):.1f}" == "3.5"

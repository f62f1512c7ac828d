"""Times of kernels that are launched one by one: the form, the fit, the file, and the pass that they add up to."""

from __future__ import annotations

import random
from dataclasses import replace
from math import exp, inf
from pathlib import Path
from typing import cast

import pytest

from llmprof.errors import InputError, LlmprofError
from llmprof.latency.device_profile import Identity, Profile, default_path, find, load, merged, text
from llmprof.latency.eager import FAMILY, Constants, EagerModel, leaves_of, pass_time, work_of
from llmprof.latency.eager_fit import FEWEST, Sample, fit
from llmprof.latency.in_pass import InPass, LeafKind, Surroundings, leaf_kind
from llmprof.predict.api import predict
from llmprof.work import Work
from tests.predict_samples import FUSED, UNFUSED, decode, gpt2, llama_3_8b, prefill

CPU = Identity(kind="cpu", name="A Processor", threads=4)


def constants(**given: float) -> Constants:
    made: dict[str, float] = {
        "t0": 0.0, "per_product": 0.0, "flops_per_s": inf, "cached_bytes_per_s": inf, "slowdown": 1.0,
        "cache_bytes": 1e6, "overlap": 1.0, "low": 0.9, "high": 1.2, "error": 0.05,
    }  # fmt: skip
    return Constants(points=9, **(made | given))


def everywhere(each: Constants, *, host_s: float | None = None) -> EagerModel:
    families = ("matmul", "batched", "core", "memory")
    return EagerModel(constants={(family, FAMILY): each for family in families}, host_s=host_s)


def in_pass(**leaves: tuple[float, float, float]) -> InPass:
    """Kinds of leaves by their (module_s, kernel_s, factor)."""
    made = {
        name.replace("_", " "): Surroundings(module_s=module_s, kernel_s=kernel_s, factor=factor)
        for name, (module_s, kernel_s, factor) in leaves.items()
    }
    return InPass(leaves=cast("dict[LeafKind, Surroundings]", made), low=0.99, high=1.01, passes=9, error=0.03)


# --- one kernel ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "work", "seconds"),
    [
        # A launch, and nothing that takes time.
        ({"t0": 5e-6}, Work(kind="add", flops=0, bytes=10**9), 5e-6),
        # 8e9 FLOPs at 2e12 a second: 4 ms; one after the other with 1e9 bytes at 1e12: 1 ms more.
        ({"flops_per_s": 2e12, "cached_bytes_per_s": 1e12}, Work(kind="mm", flops=8 * 10**9, bytes=10**9), 5e-3),
        # The same side by side: the square root of 16 + 1.
        (
            {"flops_per_s": 2e12, "cached_bytes_per_s": 1e12, "overlap": 2.0},
            Work(kind="mm", flops=8 * 10**9, bytes=10**9),
            17**0.5 * 1e-3,
        ),
        # 1e9 bytes once and three times more.
        ({"cached_bytes_per_s": 1e12}, Work(kind="cpu", flops=0, bytes=10**9, reread=3 * 10**9), 4e-3),
        # 12 products of 2 us each.
        ({"per_product": 2e-6}, Work(kind="bmm", flops=0, bytes=0, products=12), 24e-6),
        # A thousand times what a cache holds, at a fifth of its bandwidth: 1e9 / 1e12 * 5.
        ({"cached_bytes_per_s": 1e12, "slowdown": 5.0}, Work(kind="add", flops=0, bytes=10**9), 5e-3),
        # At its very size half of the bytes are slow: 1e6 / 1e12 * (1/2 + 5/2).
        ({"cached_bytes_per_s": 1e12, "slowdown": 5.0}, Work(kind="add", flops=0, bytes=10**6), 3e-6),
    ],
)
def test_a_kernel_by_hand(given: dict[str, float], work: Work, seconds: float) -> None:
    assert constants(**given).seconds(work) == pytest.approx(seconds, rel=1e-9)


def test_what_a_predicted_op_has_to_do() -> None:
    program = predict(gpt2(), prefill(8, batch=2), FUSED).program
    (group,) = program.groups
    by_kind = {op.kind: work_of(op) for op in group.ops}
    # 2 sequences x 12 heads; 8 * 9 / 2 visible pairs; scores and values: 2 x 2 x 64 FLOPs for each.
    assert by_kind["flash"] == Work(kind="flash", flops=2 * 12 * 36 * 256, bytes=by_kind["flash"].bytes, products=24)
    assert by_kind["addmm"].products == 1
    assert by_kind["addmm"].family == "matmul"
    assert by_kind["add"].family == "memory"


# --- a pass ------------------------------------------------------------------------------------------


def test_a_pass_is_its_kernels_and_what_stands_around_them() -> None:
    prediction = predict(gpt2(), decode(16), UNFUSED)
    model = replace(everywhere(constants(t0=1e-6)), in_pass=in_pass(mover=(1e-5, 2e-7, 3.0)))
    launches = sum(line.count for line in prediction.ops)
    made = pass_time(prediction, model)
    called = sum(len(leaf.paths) for leaf in made.leaves)
    assert made.seconds == pytest.approx(launches * (3e-6 + 2e-7) + called * 1e-5)
    # No kind was timed by itself, and kernels are less certain than passes: 0.9 to 1.2 of each.
    assert made.low == pytest.approx(launches * (0.9 * 3e-6 + 2e-7) + called * 1e-5)
    assert made.high == pytest.approx(launches * (1.2 * 3e-6 + 2e-7) + called * 1e-5)
    assert made.bound == "device"
    assert not made.known  # every kind has the constants of its family
    paths = [path for leaf in made.leaves for path in leaf.paths]
    assert len(paths) == len(set(paths))
    assert "layers.11.ffn.down" in paths


def test_the_interval_of_kernels_that_were_timed_is_that_of_passes() -> None:
    prediction = predict(gpt2(), decode(16), UNFUSED)
    each = constants(t0=1e-6, low=0.5, high=2.0)
    kinds = {(work.family, work.kind) for leaf in leaves_of(prediction) for work, _ in leaf.launches}
    seen = dict.fromkeys(("mover", "product", "unfused_core", "cache", "embed"), (0.0, 0.0, 1.0))
    model = EagerModel(constants=dict.fromkeys(kinds, each), in_pass=in_pass(**seen))
    made = pass_time(prediction, model)
    assert made.known
    unseen = pass_time(prediction, replace(model, in_pass=in_pass(mover=(0, 0, 1))))
    assert not unseen.known, "leaves that nobody saw in a pass are taken for those that move memory"
    assert unseen.low == pytest.approx(0.5 * made.seconds)
    assert unseen.high == pytest.approx(2 * made.seconds)
    assert made.low == pytest.approx(0.99 * made.seconds)
    assert made.high == pytest.approx(1.01 * made.seconds)


def test_every_kind_of_leaf_has_its_own() -> None:
    """One kernel in each leaf, of 1 us; movers add 1 us, products 2, cores 3 and 4, what is mostly views 5, 6, 7."""
    kinds: list[tuple[str, str, LeafKind]] = [
        ("layers.0.ffn.act", "gelu", "mover"),
        ("lm_head", "mm", "product"),
        ("layers.0.attn.core", "cpu", "fused core"),
        ("layers.0.attn.core", "bmm", "unfused core"),
        ("layers.0.attn.rope", "mul", "rope"),
        ("layers.0.attn.cache", "copy_", "cache"),
        ("embed", "embedding", "embed"),
    ]
    model = in_pass(**{kind.replace(" ", "_"): (1e-6 * (at + 1), 0.0, 1.0) for at, (_, _, kind) in enumerate(kinds)})
    for at, (path, kernel, kind) in enumerate(kinds):
        found = leaf_kind(path, [Work(kind=kernel, flops=0, bytes=0)])
        assert found == kind
        assert model.of(found).seconds(1, 1e-6) == pytest.approx(1e-6 * (at + 2))
    assert in_pass(mover=(1.0, 0.0, 1.0)).of("rope").module_s == 1.0  # one that nobody saw


@pytest.mark.parametrize(
    ("t", "pairs"),
    [
        # Blocks of 32 queries, each up to its own end: 8; 32 x 32 + 8 x 40; 32 x (32 + 64 + 96).
        (8, 8 * 8),
        (40, 32 * 32 + 8 * 40),
        (96, 32 * 192),
        # Blocks of 64 from 192 on, of 256 from 768: 64 x (64 + 128 + 192), 256 x (256 + 512 + 768).
        (192, 64 * 384),
        (768, 256 * 1536),
    ],
)
def test_a_core_on_a_cpu_runs_whole_blocks_of_queries(t: int, pairs: int) -> None:
    execution = replace(FUSED, kernels="cpu")
    (group,) = predict(gpt2(), prefill(t), execution).program.groups
    (core,) = (op for op in group.ops if op.kind == "cpu")
    assert work_of(core).flops == 12 * pairs * 4 * 64
    assert work_of(core).reread == 0


def test_heads_that_share_keys_read_them_once_each_on_a_cpu() -> None:
    """32 heads over 8, 128 wide: four times 2 x 8 x 16 x 128 values of two bytes, of which one time is op-level."""
    (group,) = predict(llama_3_8b(), decode(16), replace(FUSED, kernels="cpu")).program.groups
    (core,) = (op for op in group.ops if op.kind == "cpu")
    work = work_of(core)
    assert work.products == 32
    assert work.reread == 3 * (2 * 8 * 16 * 128 * 2)
    assert work.flops == 32 * 16 * 4 * 128


def test_a_host_that_is_slower_than_the_device_decides() -> None:
    prediction = predict(gpt2(), decode(16), UNFUSED)
    launches = sum(line.count for line in prediction.ops)
    made = pass_time(prediction, everywhere(constants(t0=1e-6), host_s=4e-6))
    assert made.bound == "host"
    assert made.seconds == pytest.approx(launches * 4e-6)
    assert made.low == pytest.approx(0.9 * made.seconds)


def test_a_family_that_was_not_timed_is_no_zero() -> None:
    model = EagerModel(constants={("memory", FAMILY): constants(t0=1e-6)})
    with pytest.raises(KeyError):
        pass_time(predict(gpt2(), decode(16), UNFUSED), model)


# --- the fit -----------------------------------------------------------------------------------------

SIZES = [(m, n) for m in (1, 4, 16, 64, 256, 512) for n in (512, 1024, 2048, 8192)]


def products(true: Constants, noise: float) -> list[Sample]:
    """Timed products of matrices, by known constants, each off by a few percent."""
    draw = random.Random(1)
    works = [Work(kind="mm", flops=2 * m * n * n, bytes=2 * (m * n + n * n + m * n)) for m, n in SIZES]
    return [Sample(work=work, seconds=true.seconds(work) * exp(draw.gauss(0, noise))) for work in works]


def test_known_constants_are_found_again_and_judged_on_what_was_held_out() -> None:
    true = constants(t0=2e-5, flops_per_s=9e11, cached_bytes_per_s=2.5e10, overlap=1.3)
    found = fit(products(true, noise=0.02))["matmul", "mm"]
    for work in (Work(kind="mm", flops=2 * 100 * 3000**2, bytes=2 * 3000**2), Work(kind="mm", flops=1000, bytes=1000)):
        assert found.seconds(work) == pytest.approx(true.seconds(work), rel=0.08)
    assert found.points == len(SIZES)
    assert 0.002 < found.error < 0.05
    assert 0.85 < found.low <= 1 <= found.high < 1.15


def test_one_sample_that_was_disturbed_does_not_move_the_rest() -> None:
    true = constants(t0=2e-5, flops_per_s=9e11, cached_bytes_per_s=2.5e10, overlap=1.3)
    samples = products(true, noise=0.01)
    samples[5] = replace(samples[5], seconds=40 * samples[5].seconds)
    found = fit(samples)["matmul", "mm"]
    work = Work(kind="mm", flops=2 * 100 * 3000**2, bytes=2 * 3000**2)
    assert found.seconds(work) == pytest.approx(true.seconds(work), rel=0.1)


def test_rare_kinds_have_the_constants_of_their_family() -> None:
    true = constants(t0=1e-6, cached_bytes_per_s=5e10)
    works = [
        Work(kind=kind, flops=0, bytes=size) for kind in ("add", "mul") for size in (10**3, 10**4, 10**5, 10**6, 10**7)
    ]
    works.append(Work(kind="tanh", flops=0, bytes=10**5))
    found = fit([Sample(work=work, seconds=true.seconds(work)) for work in works])
    assert set(found) == {("memory", FAMILY), ("memory", "add"), ("memory", "mul")}
    model = EagerModel(constants=found)
    assert model.of(works[-1]) == (found["memory", FAMILY], False)
    assert model.of(works[0]) == (found["memory", "add"], True)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=f"2 points of matmul: at least {FEWEST}"):
        fit([Sample(work=Work(kind="mm", flops=1, bytes=1), seconds=1.0)] * 2)


# --- the file ------------------------------------------------------------------------------------------


def profile() -> Profile:
    kernels = {("matmul", "mm"): constants(flops_per_s=9e11, cached_bytes_per_s=3e10)}
    return Profile(
        device=CPU,
        measured="2026-11-30",
        torch="2.13.0",
        models={
            dtype: EagerModel(
                constants={**kernels, **everywhere(constants(cached_bytes_per_s=7e10)).constants},
                in_pass=in_pass(mover=(1e-6, 0.0, 1.5), fused_core=(2e-6, 1e-7, 1.0)),
            )
            for dtype in ("bf16", "fp32")
        },
    )


def of_a_gpu() -> Profile:
    models = {dtype: replace(model, in_pass=None, host_s=4e-6) for dtype, model in profile().models.items()}
    return replace(profile(), device=Identity(kind="cuda", name="A Card"), models=models)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cpu.yaml"
    for made in (of_a_gpu(), profile()):
        path.write_text(text(made))
        assert load(path) == made
    assert find(CPU, str(path)) == (profile(), path)


def test_constants_keep_the_day_and_the_torch_of_their_own(tmp_path: Path) -> None:
    """bf16 is calibrated anew by another torch; fp32 stays what it was, also when bf16 is once more."""
    old, path = profile(), tmp_path / "cpu.yaml"
    anew = replace(old, measured="2026-12-02", torch="2.14.0", models={"bf16": old.models["bf16"]})
    for _ in range(2):
        path.write_text(text(merged(anew, old)))
        old = load(path)
        made = {dtype: (model.measured, model.torch) for dtype, model in old.models.items()}
        assert made == {"fp32": ("2026-11-30", "2.13.0"), "bf16": (None, None)}
        assert (old.measured, old.torch) == ("2026-12-02", "2.14.0")
    assert merged(profile(), profile()) == profile()


def test_the_default_place_is_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path(CPU) == tmp_path / "llmprof" / "devices" / "a-processor-4-threads.yaml"
    assert find(CPU, None) is None
    default_path(CPU).parent.mkdir(parents=True)
    default_path(CPU).write_text(text(profile()))
    found = find(CPU, None)
    assert found is not None
    assert found[0] == profile()
    default_path(CPU).write_text(text(profile()).replace("schema_version: 2", "schema_version: 1"))
    assert find(CPU, None) is None, "nobody named what another version wrote, and calibrate writes it anew"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("schema_version: 2", "schema_version: 1", "run `llmprof calibrate`, which writes it anew"),
        ("kind: fused core", "kind: mover", "each kind once"),
        ("kind: mover", "kind: cache", "mover among them"),
        ("kind: mover", "kind: movers", "did you mean"),
        ("t0: 0.0", "t0: -1.0", "t0"),
        ("slowdown: 1.0", "slowdown: 0.5", "slowdown"),
        ("family: matmul", "family: matmull", "did you mean"),
        ("cached_bytes_per_s: 30000000000.0", "cached_bytes_per_s: .nan", "cached_bytes_per_s"),
        ("measured:", "measurd:", "measurd"),
        ("kind: cpu", "kind: cuda", "host_s, and no in_pass: this is a GPU"),
        ("    in_pass:", "    host_s: 0.000001\n    in_pass:", "in_pass, and no host_s: this is a CPU"),
        (
            "    - family: core\n      kind: ''",
            "    - family: core\n      kind: cpu",
            "whole family of each: core has none",
        ),
        ("family: batched", "family: core", "one entry for each family and kind"),
        (
            "module_s: 1.0e-06\n        kernel_s: 0.0\n        factor: 1.5",
            "module_s: 0\n        kernel_s: 0\n        factor: 0",
            "takes some time",
        ),
        ("low: 0.99", "low: 1.01", "at most 1"),
        ("high: 1.01", "high: 0.99", "high"),
        ("low: 0.9\n", "low: 1.1\n", "at most 1"),
        ("overlap: 1.0", "overlap: 0.0001", "overlap"),
        ("points: 9", "points: 0", "points"),
    ],
)
def test_an_edited_file_that_is_wrong_is_refused_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "cpu.yaml"
    written = text(profile())
    assert old in written
    path.write_text(written.replace(old, new, 1))
    with pytest.raises(LlmprofError, match=words) as error:
        load(path)
    assert f"{path}:" in str(error.value)


def test_a_profile_of_another_device_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cpu.yaml"
    path.write_text(text(profile()))
    with pytest.raises(
        InputError, match=r"of A Processor, 4 threads \(cpu\), and this is A Processor, 2 threads \(cpu\)"
    ):
        find(replace(CPU, threads=2), str(path))
    with pytest.raises(LlmprofError, match="no-such"):
        find(CPU, str(tmp_path / "no-such.yaml"))

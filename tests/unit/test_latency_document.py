"""Constants of kernels in a device's file: what they are and refer to, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmprof import device
from llmprof.errors import SpecError

FILE = """\
name: small
vendor: nvidia
latency:
  source: {url: "https://a.example", read: 2026-11-23}
  bf16: 989 TFLOP/s
  memory_bandwidth: 3.35 TB/s
  units: 132
  last_level_cache: 50 MB
  clock: 1830 MHz
  kernels:
    - {op: gemm, dtype: bf16, constants: {t0: 2.7, e_c: 0.839}, short: [0.8, 1.2], long: [0.9, 1.1]}
    - {op: decode, dtype: fp8, engine: vllm, form: split, constants: {t0: 10}, short: [1, 1], long: [1, 1]}
"""


def load(tmp_path: Path, text: str) -> device.Device:
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return device.load(path)


def test_constants_and_the_figures_they_refer_to(tmp_path: Path) -> None:
    found = load(tmp_path, FILE).latency
    assert found is not None
    assert (found.bf16, found.fp8, found.memory_bandwidth) == (989 * 10**12, None, 3_350 * 10**9)
    assert (found.units, found.last_level_cache, found.clock) == (132, 50 * 10**6, 1_830 * 10**6)
    gemm, decode = found.kernels
    assert (gemm.op, gemm.dtype, gemm.engine, gemm.form) == ("gemm", "bf16", None, "plain")
    assert gemm.constants == {"t0": 2.7, "e_c": 0.839}
    assert (gemm.short, gemm.long) == ((0.8, 1.2), (0.9, 1.1))
    assert (decode.engine, decode.form, decode.constants) == ("vllm", "split", {"t0": 10})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("op: gemm", "op: gem", "latency.kernels[0].op: found 'gem'"),
        ("t0: 2.7", "t0: fast", "latency.kernels[0].constants.t0: found 'fast'; expected a number"),
        ("t0: 2.7", "t0: -1", "latency.kernels[0].constants.t0: found -1"),
        ("short: [0.8, 1.2]", "short: [1.1, 1.2]", "expected a factor up to 1 and one from 1"),
        ("long: [0.9, 1.1]", "long: [0.9]", "latency.kernels[0].long"),
        ("long: [0.9, 1.1]", "long: []", "latency.kernels[0].long"),
        ("clock: 1830 MHz", "clock: 1830 MB", "latency.clock: found '1830 MB'; expected a figure with its unit"),
        ("units: 132", "units: 0", "latency.units: found 0"),
        ("  bf16: 989 TFLOP/s\n", "", "latency: missing key 'bf16'"),
        ("dtype: fp8", "dtype: int3", "latency.kernels[1].dtype: found 'int3'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FILE
    with pytest.raises(SpecError) as caught:
        load(tmp_path, FILE.replace(old, new, 1))
    assert said in str(caught.value)


def test_every_fitted_constant_of_the_catalogue_has_a_place_in_its_formula() -> None:
    known = {
        "gemm": "t0 e_c e_b b_sm tau q p t_s hot r_l2 u k_t t_q r_row e_q panel reread",
        "decode": "t0 t_d e_b b_sm tau q p t_s hot r_l2 t_g e_g t_b q_sm x y v n_s",
        "prefill": "t0 t_d e_c e_b tau q p k_d hot e_diag c_w d_w t_b t_n x sp",
        "moe": "t0 t_ep e_c e_b b_sm tau p hot e_a a_t mis",
        "mla-decode": "t0 t_row e_w e_p e_c e_b p",
        "mla-latent": "t0 t_row e_w e_p e_c e_b p tile",
        "mla-prefill": "t0 t_row e_w e_p e_c e_b p tile",
        "allreduce": "link " + " ".join(f"{key}_{n}" for key in ("a1", "c1", "a2", "c2") for n in (2, 4, 8)),
    }
    for found in device.entries():
        for kernel in found.latency.kernels if found.latency else ():
            assert set(kernel.constants) <= set(known[kernel.op].split()), (found.name, kernel.op)
            low, high = kernel.short
            assert 0.2 < low < 1 < high < 5
            for part in ("e_c", "e_b", "e_w", "e_p"):
                assert 0 < kernel.constants.get(part, 1) <= 1  # fractions of a peak

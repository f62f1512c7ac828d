"""A device with round figures and constants that switch terms of the formulas on and off, for arithmetic by hand."""

from __future__ import annotations

from llmprof.device_figures import KernelConstants
from llmprof.latency.figures import Figures

ROUND = Figures(bf16=128e12, fp8=256e12, bandwidth=1e12, units=128, cache=50e6, clock=1e9, link=100e9)
"""One processor multiplies 1e12 FLOPs per second; the memory moves a byte in a picosecond; a kilocycle is a microsecond."""

GEMM = {
    "t0": 1.0,
    "e_c": 1.0,
    "e_b": 1.0,
    "b_sm": 1e9,
    "tau": 0.0,
    "q": 1.0,
    "p": 1.0,
    "t_s": 1000.0,
    "hot": 1e-9,
    "r_l2": 1.0,
}
"""Times add up (p = 1), a last wave counts in full, nothing is split or kept."""

DECODE = {"t0": 1.0, "e_b": 1.0, "b_sm": 1e9, "tau": 1.0, "q": 1.0, "p": 1.0, "t_s": 1000.0, "hot": 1e-9, "r_l2": 1.0}
PREFILL = {
    "t0": 1.0,
    "e_c": 1.0,
    "e_b": 1.0,
    "tau": 1.0,
    "q": 1.0,
    "p": 1.0,
    "k_d": 0.0,
    "hot": 1e-9,
    "e_diag": 0.0,
    "c_w": 1.0,
}
MOE = {
    "t0": 1.0,
    "t_ep": 5.0,
    "e_c": 1.0,
    "e_b": 1.0,
    "b_sm": 1e9,
    "tau": 0.0,
    "p": 1.0,
    "hot": 1e-9,
    "e_a": 1.0,
    "a_t": 0.0,
    "mis": 3.0,
}
MLA = {"t0": 1.0, "e_c": 1.0, "e_b": 1.0, "e_w": 1.0, "e_p": 1.0, "p": 1.0, "t_row": 0.0, "tile": 0.0}


def kernel(op: str, constants: dict[str, float], *, dtype: str = "bf16", form: str = "plain") -> KernelConstants:
    """Constants as a device file has them, with an interval of a tenth each way, a fifth for short times."""
    return KernelConstants(
        op=op, dtype=dtype, engine=None, form=form, constants=constants, short=(0.8, 1.25), long=(0.9, 1.1)
    )

"""Dropout of a training pass: leaves of their own in front of residuals, and one kernel inside an unfused core.

docs/reference-training.md, section 2. Each launches `native_dropout`, which also writes a mask of a byte per value.
Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from llmprof.predict.formats import BOOL
from llmprof.predict.setting import Setting
from llmprof.predict.tape import Tape
from llmprof.predict.tensor import Home, Tensor, new


def drop_leaf(tape: Tape, setting: Setting, name: str, x: Tensor) -> Tensor:
    """The leaf `name` on x; x itself where nothing is dropped."""
    if not setting.drops:
        return x
    with tape.module(name, x):
        return drop(tape, setting, x)


def drop(tape: Tape, setting: Setting, x: Tensor) -> Tensor:
    """The kernel alone, in the current leaf."""
    if not setting.drops:
        return x
    return tape.run("native_dropout", x, aux=[new("mask", x.axes, BOOL, Home.ACTIVATION, x.memory)])

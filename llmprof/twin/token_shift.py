"""RWKV's token shift: each input mixed with that of the token before it.

Axis legend: B batch, T new tokens, D d_model.

docs/reference-mixers.md, section 7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmprof.twin.desk import Desk
from llmprof.twin.leaf import Material
from llmprof.twin.recurrent import Carried, Initialised, carried, over

_EVEN = 0.5
"""Both tokens alike, the noise aside."""


class TokenShift(Initialised):
    """x mu + before (1 - mu), once for each of the named vectors mu: `[B, T, D]` each, in their order."""

    def __init__(self, names: tuple[str, ...], d_model: int, material: Material) -> None:
        super().__init__()
        self.names = names
        for name in names:
            self.register_parameter(name, material.parameter(d_model))

    if TYPE_CHECKING:

        def __call__(self, *args: Any) -> tuple[Tensor, ...]: ...

    def initialise(self, draw: Callable[[Tensor], None]) -> None:
        for parameter in self.parameters(recurse=False):
            draw(parameter)
            parameter.add_(_EVEN)

    def last(self, desk: Desk, path: str, d_model: int) -> Carried | None:
        """The last input, `[B, D]`, kept for the module at `path`."""
        return carried(desk, f"{path}.shift.state", desk.batch, d_model)

    def forward(self, x: Tensor, last: Carried | None) -> tuple[Tensor, ...]:
        mus = [self.get_parameter(name).to(x.dtype) for name in self.names]
        earlier = x[:, :-1]
        if last is None or not last.past:
            before = F.pad(earlier, (0, 0, 1, 0))
        elif x.shape[1] == 1:
            before = last.values.unsqueeze(1)
        else:
            before = torch.cat((last.values.unsqueeze(1), earlier), dim=1)
        del earlier
        mixed = []
        while mus:
            a = x - before
            a = over(a, "mul", mus.pop(0))
            mixed.append(over(a, "add", before))
            del a
        if last is not None:
            last.values.copy_(x[:, -1])
        return tuple(mixed)

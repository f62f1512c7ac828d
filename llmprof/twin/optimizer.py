"""AdamW in mixed precision: what it keeps, and its step (docs/reference-training.md, section 7).

Loshchilov and Hutter, https://arxiv.org/abs/1711.05101, by torch's fused kernel; master weights as in
https://arxiv.org/abs/1710.03740, section 3.1 (both recalled).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept for one parameter, in fp32: both moments of its gradient, and the weight where it has 16 bits."""

    first: Tensor
    second: Tensor
    master: Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        tensors = (self.first, self.second, *(() if self.master is None else (self.master,)))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class AdamW:
    """Steps `parameters`, in their order, by the gradients of the same names.

    The defaults are those of torch.optim.AdamW.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self._parameters = {name: parameter.detach() for name, parameter in parameters.items()}
        self.kept: dict[str, Kept] = {name: _kept(parameter) for name, parameter in self._parameters.items()}
        device = next((parameter.device for parameter in self._parameters.values()), torch.device("cpu"))
        self._steps = torch.zeros((), dtype=torch.float32, device=device)

    @property
    def tensors(self) -> Iterator[Tensor]:
        """What is there before and after a step: parameters, all that is kept for them, and the count of steps."""
        yield self._steps
        yield from self._parameters.values()
        for kept in self.kept.values():
            yield from (tensor for tensor in (kept.first, kept.second, kept.master) if tensor is not None)

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """One step. `gradients` has one of each parameter."""
        kept = list(self.kept.values())
        weights = [
            parameter if state.master is None else state.master
            for parameter, state in zip(self._parameters.values(), kept, strict=True)
        ]
        wide = [gradients[name].to(torch.float32) for name in self._parameters]
        self._steps.add_(1)
        _aten._fused_adamw_(
            weights,
            wide,
            [state.first for state in kept],
            [state.second for state in kept],
            [],
            [self._steps] * len(kept),
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )
        del wide
        for parameter, state in zip(self._parameters.values(), kept, strict=True):
            if state.master is not None:
                parameter.copy_(state.master)


def _kept(parameter: Tensor) -> Kept:
    return Kept(
        first=torch.zeros_like(parameter, dtype=torch.float32),
        second=torch.zeros_like(parameter, dtype=torch.float32),
        master=None if parameter.dtype == torch.float32 else parameter.to(torch.float32),
    )

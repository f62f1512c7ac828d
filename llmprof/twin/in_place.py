"""Kernels that write into their operand, and what becomes of them where gradients are taken.

A result that overwrites its operand moves the same bytes as one in a tensor of its own. Inference overwrites, which
keeps peaks low. A training pass must not overwrite what autograd keeps for the backward: there these functions make new
tensors. Always go on with what they return.
"""

from __future__ import annotations

import torch
from torch import Tensor


def multiplied(x: Tensor, factor: Tensor | float) -> Tensor:
    """x times `factor`: its derivative takes x, and others take what x was made by."""
    return x * factor if torch.is_grad_enabled() else x.mul_(factor)


def divided(x: Tensor, divisor: Tensor | float) -> Tensor:
    """x / divisor: its derivative takes x."""
    return x / divisor if torch.is_grad_enabled() else x.div_(divisor)


def subtracted(x: Tensor, y: Tensor) -> Tensor:
    """x - y, for an x that something made in its place, such as an exponential, whose derivative takes it."""
    return x - y if torch.is_grad_enabled() else x.sub_(y)


def squashed(x: Tensor) -> Tensor:
    """tanh(x): its derivative takes its result."""
    return torch.tanh(x) if torch.is_grad_enabled() else x.tanh_()


def clipped(x: Tensor, limit: float) -> Tensor:
    """x cut at -limit and limit: its derivative takes x."""
    return x.clamp(-limit, limit) if torch.is_grad_enabled() else x.clamp_(-limit, limit)


def plus_bias(x: Tensor, bias: Tensor) -> Tensor:
    """x plus a bias that may be broadcast to it.

    In place, the derivative would be that of an assignment to a view: several further copies of x.
    """
    return x + bias if torch.is_grad_enabled() else x.add_(bias)

"""Which torch ops can hide a contraction: what a FLOP referee that skips an op must be held to.

The question is answered the safe way round. An op is free of contractions when torch itself tags an overload of
it as pointwise or as a reduction, or knows it as a view, or when it stands in the lists below. (One overload is
enough: those for Python scalars and `out=` carry no tags.) Everything else may contract, an op of next year's
torch included.
"""

from __future__ import annotations

from functools import cache

import torch

_DATA_MOVEMENT = """
    _local_scalar_dense _reshape_copy _to_copy _unsafe_view arange as_strided_ cat concat constant_pad_nd copy copy_
    embedding empty empty_like empty_permuted empty_strided fill fill_ full full_like gather index index_copy
    index_copy_ index_put index_put_ index_select item lift lift_fresh masked_fill masked_fill_ new_empty new_full
    new_ones new_zeros ones ones_like repeat repeat_interleave scalar_tensor scatter scatter_ slice_scatter stack topk
    tril tril_ triu type_as zero zero_ zeros zeros_like
    Int ScalarImplicit FloatImplicit IntImplicit dim is_contiguous is_floating_point numel size stride
"""
_SUMS = "abs_ cumsum floor_divide index_add_ index_reduce_ polar"
"""Pointwise ops and reductions that torch gives no tag."""
_NORMALISATION = """
    _fused_rms_norm _log_softmax _safe_softmax _softmax group_norm layer_norm log_softmax native_group_norm
    native_layer_norm rms_norm softmax
"""
_NAMED = frozenset(f"{_DATA_MOVEMENT} {_SUMS} {_NORMALISATION}".split())


@cache
def may_contract(op: str) -> bool:
    """Whether the op called `op` (``mm``, ``aten::mm`` or ``aten.mm``) may multiply and accumulate.

    >>> may_contract("aten::bmm"), may_contract("aten::add_"), may_contract("aten::not_an_op")
    (True, False, True)
    """
    namespace, _, name = op.replace("::", ".").rpartition(".")
    if namespace == "prim":
        return False
    if namespace not in ("", "aten"):
        return True
    if name in _NAMED:
        return False
    packet = getattr(torch.ops.aten, name, None)
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return True
    return not any(_harmless(getattr(packet, overload)) for overload in packet.overloads())  # type: ignore[no-untyped-call]


def _harmless(overload: torch._ops.OpOverload) -> bool:
    tags = overload.tags
    return torch.Tag.pointwise in tags or torch.Tag.reduction in tags or overload.is_view

"""The tiles of the compiled kernels, and which of them a core runs (reference-tiles.md, section 3).

Source keys `flash-attention-2-tiles`, `flash-attention-2-backward-tiles` and `flash-attention-3-tiles`. All are 16-bit
kernels without dropout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmprof.predict.tiles.shape import Shape

Family = Literal["fa2", "fa2-split", "fa2-split-alone", "fa2-backward", "fa3"]
"""FlashAttention-2 forward, split-KV, split-KV forced with one split, backward; FlashAttention-3 forward."""

Architecture = Literal["sm80", "sm86", "sm89", "sm90"]

_NAMES: dict[Family, str] = {
    "fa2": "FlashAttention-2 forward",
    "fa2-split": "FlashAttention-2 split-KV forward",
    "fa2-split-alone": "FlashAttention-2 split-KV forward, one split,",
    "fa2-backward": "FlashAttention-2 backward",
    "fa3": "FlashAttention-3 forward",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One compiled kernel: Br `rows`, Bc `keys`, the head dims it is compiled for, and what decides its shared memory.

    `readers`: warps (FlashAttention 2) or warpgroups (3) that each read all of a K and a V tile; `stages`: tiles of K
    and V held at once; `scores_in_shared`: P passes through shared memory. Of the backward: `values_in_registers`,
    `query_buffers`.
    """

    kernel: str
    rows: int
    keys: int
    head_dim: int
    value_dim: int
    readers: int
    stages: int = 1
    scores_in_shared: bool = False
    values_in_registers: bool = False
    query_buffers: int = 1

    @property
    def label(self) -> str:
        """Kernel, architecture and tile: ``FlashAttention-2 forward sm80, 128x64 (d=128)``."""
        dims = f"d={self.head_dim}" if self.value_dim == self.head_dim else f"d={self.head_dim}, dv={self.value_dim}"
        return f"{self.kernel}, {self.rows}x{self.keys} ({dims})"

    def footprint(self, element_bytes: int) -> int:
        """Bytes of shared memory that a CTA of the forward kernel holds at once."""
        both = self.head_dim + self.value_dim
        scores = self.rows * self.keys if self.scores_in_shared else 0
        return (self.rows * self.head_dim + self.stages * self.keys * both + scores) * element_bytes

    def backward_footprint(self, element_bytes: int) -> int:
        """The same of the backward's main kernel: Q (maybe twice), dO, K, V, P and dS."""
        queries = self.rows * self.head_dim * (self.query_buffers + 1)
        values, scores = self.keys * self.head_dim, 2 * self.rows * self.keys
        rest = max(2 * values, values + scores) if self.values_in_registers else 2 * values + scores
        return (queries + rest) * element_bytes


# head_dim: (Br, Bc, warps), full or window; a second tile is that of a causal mask.
_FORWARD = {32: (128, 128, 4), 64: (128, 128, 4), 96: (128, 64, 4), 128: (128, 64, 4), 192: (128, 64, 8)}
_FA2: dict[Architecture, dict[int, tuple[tuple[int, int, int], tuple[int, int, int]]]] = {
    "sm80": {**{h: (t, t) for h, t in _FORWARD.items()}, 256: ((128, 64, 8), (128, 64, 8))},
    "sm90": {**{h: (t, t) for h, t in _FORWARD.items()}, 256: ((64, 64, 4), (64, 64, 4))},
    "sm86": {
        **{h: (t, t) for h, t in _FORWARD.items()},
        96: ((128, 64, 4), (64, 64, 4)),
        128: ((128, 32, 4), (64, 64, 4)),
        256: ((64, 64, 4), (64, 64, 4)),
    },
}
_FA2["sm89"] = _FA2["sm86"]

_SPLIT_KEYS = {32: 256, 64: 256, 96: 128, 128: 128, 192: 64, 256: 64}
_ALONE_KEYS = {32: 128, 64: 128, 96: 64, 128: 64, 192: 64, 256: 64}

# head_dim: (Br, Bc, V in registers, buffers of Q).
_BACKWARD: dict[Architecture, dict[int, tuple[int, int, bool, int]]] = {
    "sm80": {
        32: (128, 128, True, 2),
        64: (128, 128, False, 2),
        96: (64, 128, True, 2),
        128: (64, 128, False, 2),
        192: (64, 64, False, 2),
        256: (64, 64, False, 1),
    },
    "sm86": {
        32: (128, 128, True, 2),
        64: (64, 128, True, 2),
        96: (64, 128, True, 2),
        128: (64, 64, True, 2),
        192: (64, 64, True, 1),
        256: (64, 32, True, 1),
    },
}
_BACKWARD["sm89"] = _BACKWARD["sm86"]
_BACKWARD["sm90"] = {**_BACKWARD["sm80"], 256: (64, 64, False, 2)}

# (head_dim, value_dim): Br, Bc with a full, a causal and a window mask, and which of them pass P through shared memory.
_FA3: dict[tuple[int, int], tuple[int, tuple[int, int, int], tuple[bool, bool, bool]]] = {
    (64, 64): (192, (192, 128, 128), (True, False, False)),
    (96, 96): (192, (144, 144, 128), (True, True, True)),
    (128, 128): (128, (176, 128, 128), (False, False, False)),
    (192, 128): (128, (128, 128, 96), (False, False, False)),
    (192, 192): (128, (112, 112, 96), (False, False, False)),
    (256, 256): (128, (80, 80, 64), (False, False, False)),
}


def choose(
    family: Family,
    architecture: Architecture,
    head_dim: int,
    value_dim: int | None = None,
    *,
    causal: bool = False,
    local: bool = False,
) -> Tile | None:
    """The kernel for a core, or None where there is none. `local`: it has a window, which decides over `causal`."""
    values = head_dim if value_dim is None else value_dim
    if head_dim % 8 or values % 8 or (family == "fa3" and architecture != "sm90"):
        return None
    compiled = _fa3_dims(head_dim, values) if family == "fa3" else _fa2_dims(head_dim, values)
    if compiled is None:
        return None
    hc, hvc = compiled
    name = f"{_NAMES[family]} {architecture}"
    column = 2 if local else 1 if causal else 0
    if family == "fa3":
        rows, keys, through = _FA3[hc, hvc]
        return Tile(
            kernel=name,
            rows=rows,
            keys=keys[column],
            head_dim=hc,
            value_dim=hvc,
            readers=rows // 64,
            stages=2,
            scores_in_shared=through[column],
        )
    if family == "fa2-backward":
        rows, width, in_registers, buffers = _BACKWARD[architecture][hc]
        return Tile(
            kernel=name,
            rows=rows,
            keys=width,
            head_dim=hc,
            value_dim=hvc,
            readers=8,
            values_in_registers=in_registers,
            query_buffers=buffers,
        )
    if family == "fa2":
        rows, width, warps = _FA2[architecture][hc][1 if column == 1 else 0]
    else:
        rows, width, warps = 64, (_SPLIT_KEYS if family == "fa2-split" else _ALONE_KEYS)[hc], 4
    return Tile(kernel=name, rows=rows, keys=width, head_dim=hc, value_dim=hvc, readers=warps)


def choose_for(shape: Shape, family: Family, architecture: Architecture) -> Tile | None:
    """The kernel for a shape; None where there is none: not 16 bit, a prefix mask, head dims that it does not take."""
    if shape.element_bytes != 2 or shape.mask.kind == "prefix":
        return None
    local = is_local(shape, family)
    causal = shape.queries > 1 and (shape.mask.kind == "causal" or (shape.mask.kind == "window" and not local))
    return choose(family, architecture, shape.head_dim, shape.value_dim, causal=causal, local=local)


def is_local(shape: Shape, family: Family) -> bool:
    """Whether a window reaches the kernel as one: one that is long enough to hide nothing is dropped before.

    FlashAttention 2 keeps one that just covers the keys, 3 does not.
    """
    before = shape.mask.before
    if before is None:
        return False
    if family != "fa3":
        return before < shape.keys
    return before < (shape.keys if shape.mask.kind == "window" else max(shape.keys, shape.queries)) - 1


_DIMS = (64, 96, 128, 192, 256)


def _next(dim: int, compiled: tuple[int, ...]) -> tuple[int, int] | None:
    return next(((each, each) for each in compiled if each >= dim), None)


def _fa2_dims(head_dim: int, value_dim: int) -> tuple[int, int] | None:
    """The next width; FlashAttention 2 takes one head dim (`CHECK_SHAPE` of v in `mha_fwd`)."""
    return _next(head_dim, (32, *_DIMS)) if head_dim == value_dim else None


def _fa3_dims(head_dim: int, value_dim: int) -> tuple[int, int] | None:
    """The next pair. Unlike head dims are taken where `mha_fwd` of hopper/flash_api.cpp does, and a tile is listed."""
    if head_dim == value_dim or max(head_dim, value_dim) <= 64:
        return _next(head_dim, _DIMS)
    return (192, 128) if 128 < head_dim <= 192 and 96 < value_dim <= 128 else None

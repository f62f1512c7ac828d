"""The least that a pass moves: every weight that it takes and every row of a cache that it touches, once.

Op-level traffic adds up what each kernel reads and writes. What passes from kernel to kernel, a better fusion may keep
on the chip or a cache hand on, so that all of it together bounds no time. What lies in memory before the pass, or has
to lie there after it, no kernel can avoid: of the same list of kernels that is the part which is counted here.

Rows that are fetched of a token table are left out, as the tokens of a batch may all be the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llmprof.predict.leaf import Leaves
from llmprof.predict.model import Program
from llmprof.predict.objects import TABLE_GATHER
from llmprof.predict.op import Op
from llmprof.predict.setting import Setting
from llmprof.predict.tensor import Home, Storage, owner


@dataclass(frozen=True, slots=True)
class Compulsory:
    """Bytes that have to cross the border of the memory: of weights, and of caches and states."""

    weight_bytes: int = 0
    cache_bytes: int = 0

    @property
    def nbytes(self) -> int:
        """Both together."""
        return self.weight_bytes + self.cache_bytes

    def plus(self, other: Compulsory, times: int = 1) -> Compulsory:
        """This and `times` the other."""
        return Compulsory(self.weight_bytes + times * other.weight_bytes, self.cache_bytes + times * other.cache_bytes)


def compulsory(program: Program) -> Compulsory:
    """Of a whole pass. Layers have weights and caches of their own."""
    found = of_ops(program.setting, program.outer, program.ops)
    for group in program.groups:
        found = found.plus(of_ops(program.setting, group.leaves, group.ops), times=group.count)
    return found


def of_ops(setting: Setting, leaves: Leaves, ops: Iterable[Op]) -> Compulsory:
    """Of the kernels of one layer, or of those around the layers; `leaves` have their parameters."""
    taken: dict[tuple[str, str], dict[Storage, int]] = {}
    read: dict[Storage, int] = {}
    written: dict[Storage, int] = {}
    for op in ops:
        for tensor in (*op.reads, *op.writes):
            if tensor.home is Home.WEIGHT and op.kind != TABLE_GATHER:
                # In the rounds of a loop, each round may take a part of its own: the matrices of one expert.
                part = taken.setdefault((op.path, tensor.name), {})
                part[tensor.storage] = max(part.get(tensor.storage, 0), op.times * tensor.nbytes)
        # Kernels write parts of their own, a latent and its rotated key. What is read behind what was written, or is
        # gathered more than once, is the same rows.
        for tensor in op.writes:
            if tensor.home is Home.KV_CACHE:
                both = written.get(tensor.storage, 0) + tensor.nbytes
                written[tensor.storage] = min(both, owner(tensor).nbytes)
        for tensor in op.reads:
            if tensor.home is Home.KV_CACHE:
                touched = min(tensor.nbytes, owner(tensor).nbytes)
                read[tensor.storage] = max(read.get(tensor.storage, 0), touched)
    cached = sum(max(read.get(each, 0), written.get(each, 0)) for each in read.keys() | written.keys())
    weights = sum(min(sum(parts.values()), _stored(setting, leaves, key)) for key, parts in taken.items())
    return Compulsory(weight_bytes=weights, cache_bytes=cached)


def _stored(setting: Setting, leaves: Leaves, key: tuple[str, str]) -> int:
    """Bytes of a whole parameter: however often kernels take parts of it, it has no more."""
    path, name = key
    return max(setting.stored_format(each).nbytes(each.axes) for each in leaves[path] if each.name == name)

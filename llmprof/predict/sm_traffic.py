"""What the streaming multiprocessors load from the last-level cache and store to it, outside fused attention.

docs/reference-dram.md, section 4. A matrix product runs in tiles of BM x BN results, and loads its left operand once
for every column of tiles and its right one once for every row of them:

    ceil(N / BN) M K e  +  ceil(M / BM) K N e  +  addends  +  M N e

BM = BN = 128 is an assumption: cuBLAS chooses by shape. Every other kernel moves its op-level bytes.
"""

from __future__ import annotations

from math import prod

from llmprof.predict.op import Contraction, Op
from llmprof.predict.tensor import Tensor

TILE = 128
"""BM and BN."""

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "baddbmm_")


def sm_bytes(op: Op) -> int:
    """Bytes between cache and SMs, both ways, of one launch of a kernel that is no fused attention."""
    product = op.contraction
    if product is None or op.kind not in PRODUCTS:
        return op.hbm_bytes
    rows, columns = tiles_of(product)
    operands = {id(product.left), id(product.right)}
    addends = sum(tensor.nbytes for tensor in op.reads if id(tensor) not in operands)
    return columns * _shown(product.left) + rows * _shown(product.right) + addends + op.write_bytes


def tiles_of(product: Contraction) -> tuple[int, int]:
    """How many rows and columns of tiles there are: those that M, and that N, is cut into."""
    left, right, out = set(product.left.axes), set(product.right.axes), set(product.out)
    m = prod(size for name, size in product.left.axes.items() if name in out and name not in right)
    n = prod(size for name, size in product.right.axes.items() if name in out and name not in left)
    return -(-m // TILE), -(-n // TILE)


def _shown(operand: Tensor) -> int:
    """Bytes of all that an operand shows: what is expanded is loaded for each of its products."""
    return operand.format.nbytes(operand.axes)

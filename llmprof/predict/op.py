"""What a kernel does: the tensors it reads and writes, and the arithmetic between them.

FLOPs are derived from named axes, never typed by hand. Axis legend: see `tensor.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from llmprof.predict.tensor import Axes, Tensor

VECTOR_COST: dict[str, int] = {
    # Arithmetic: reference-execution.md, section 10 (source key `electra-flops`), per element of the result.
    "add": 1,
    "add_": 1,
    "mul": 1,
    "mul_": 1,
    "neg": 1,
    "div_": 1,
    "tanh": 1,
    "tanh_": 1,
    "relu": 1,
    "pow": 1,
    "sigmoid": 3,
    "silu": 4,
    "gelu": 5,
    "gelu-tanh": 8,
    "layer_norm": 5,
    "softmax": 5,
    # The loss of a training pass (docs/objectives.md): a softmax in logarithms; then a sum over the targets.
    "_log_softmax": 5,
    "nll_loss_forward": 1,
    # That file's figure: a random number, a comparison, a product with the mask and one with 1 / (1 - p).
    "native_dropout": 4,
    # The whole of an RMSNorm is 4 per element: square, sum, scale, weight. The steps on one value
    # per row (the mean's division, eps, the root) are part of "sum" and "scale".
    "mean": 1,
    "rsqrt": 0,
    # reference-attention.md, section 1. A reduction's figure is per element read: its op names what it is counted over.
    "elu": 3,
    "exp_": 1,
    "sign_": 1,
    "eq": 1,
    "clamp_": 1,
    "sub": 1,
    "sub_": 1,
    "div": 1,
    "sum": 1,
    "cumsum": 1,
    "amax": 1,
    "argmax": 1,
    "abs_": 1,
    "neg_": 1,
    "index_add_": 1,
    "index_reduce_": 1,
    # reference-mixers.md, section 1.
    "exp": 1,
    "maximum": 1,
    "sigmoid_": 3,
    "softplus": 3,
    "sqrt": 1,
    "sqrt_": 1,
    # reference-experts.md, section 2: a router that chooses one expert after the other.
    "abs": 1,
    "masked_fill": 0,
    # reference-options.md, section 8.
    "expm1": 1,
    "gt": 1,
    # reference-experts.md, section 2. `clamp` of both sides costs twice as much.
    "square": 1,
    "clamp": 1,
    "relu_": 1,
    "topk": 0,
    "scatter_": 0,
    # reference-unfused.md. A reduction's figure is per element read; `where` chooses, and computes nothing.
    "max": 1,
    "isneginf": 1,
    "all": 1,
    # Contractions count as matmul FLOPs; what is listed here is the bias, and the scale of `baddbmm`.
    "mm": 0,
    "bmm": 0,
    "addmm": 1,
    "baddbmm": 2,
    "baddbmm_": 1,
    "convolution": 0,
    "linalg_solve_triangular": 0,
    # Movement.
    "cast": 0,
    "clone": 0,
    "copy_": 0,
    "cat": 0,
    "constant_pad_nd": 0,
    "embedding": 0,
    "index_select": 0,
    "gather": 0,
    "full": 0,
    "zeros": 0,
    "zero_": 0,
    "fill_": 0,
    "stack": 0,
    "tril_": 0,
    "tril": 0,
    "ones": 0,
    "scalar_tensor": 0,
    "where": 0,
}
"""FLOPs per element and kernel kind. A kind without a line here is an error (KeyError), never 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Contraction:
    """A matrix product as an einsum: 2 FLOPs (multiply, add) for every combination of its distinct indices.

    `visible` is how many (query, key) pairs the mask lets through, where the product is an attention
    core's; `pair` names the axes that it stands for: two, or three where keys are gathered by pairs of blocks.
    """

    left: Tensor
    right: Tensor
    out: tuple[str, ...]
    visible: int | None = None
    pair: tuple[str, ...] | None = None

    @property
    def indices(self) -> Axes:
        """Every distinct index and its size. AssertionError where the operands disagree on one."""
        sizes = {**self.left.axes, **self.right.axes}
        assert all(sizes[name] == size for name, size in self.left.axes.items()), self.signature
        assert all(name in sizes for name in self.out), self.signature
        return sizes

    @property
    def signature(self) -> str:
        """The einsum: ``b t d, f d -> b t f``."""
        return f"{' '.join(self.left.axes)}, {' '.join(self.right.axes)} -> {' '.join(self.out)}"

    @property
    def flops(self) -> int:
        """2 x the product of the distinct indices: what a FLOP counter sees (dense)."""
        return 2 * prod(self.indices.values())

    @property
    def causal_flops(self) -> int:
        """The same, with the visible pairs in place of the full square (causal)."""
        if self.visible is None or self.pair is None:
            return self.flops
        return 2 * self.visible * prod(size for name, size in self.indices.items() if name not in self.pair)


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One launched kernel. `parts` are the ops that it fuses; `reads` and `writes` are what crosses its border.

    `times`: how many equal launches it stands for, in the rounds of a loop; every figure here is of one of them.
    `alpha`: the number that it multiplies its second operand by (`add`), or its product (`baddbmm`).
    """

    path: str
    kind: str
    reads: tuple[Tensor, ...]
    writes: tuple[Tensor, ...]
    contraction: Contraction | None = None
    vector_cost: int = 0
    vector_over: Tensor | None = None
    parts: tuple[Op, ...] = ()
    times: int = 1
    alpha: float = 1.0

    @property
    def read_bytes(self) -> int:
        """Unique bytes of its distinct inputs."""
        return sum(t.nbytes for t in self.reads)

    @property
    def write_bytes(self) -> int:
        """Bytes of its outputs, auxiliary ones included."""
        return sum(t.nbytes for t in self.writes)

    @property
    def hbm_bytes(self) -> int:
        """Op-level bytes (reference-execution.md, section 2)."""
        return self.read_bytes + self.write_bytes

    @property
    def leaves(self) -> tuple[Op, ...]:
        """The ops that it fuses, or itself."""
        return self.parts or (self,)

    @property
    def matmul_flops(self) -> int:
        """Dense FLOPs of the contractions inside."""
        return sum(op.contraction.flops for op in self.leaves if op.contraction is not None)

    @property
    def causal_flops(self) -> int:
        """The same under the mask."""
        return sum(op.contraction.causal_flops for op in self.leaves if op.contraction is not None)

    @property
    def vector_flops(self) -> int:
        """Every other arithmetic operation (reference-execution.md, section 10)."""
        return sum(op.vector_cost * op.vector_over.elements for op in self.leaves if op.vector_over is not None)

    @property
    def formula(self) -> str:
        """The einsums of the contractions inside, or what the arithmetic is counted over; empty for movement."""
        products = [f"2 x ({op.contraction.signature})" for op in self.leaves if op.contraction is not None]
        if products:
            return "; ".join(products)
        if self.vector_over is None:
            return ""
        return f"{self.vector_cost} x {' '.join(self.vector_over.axes)}"

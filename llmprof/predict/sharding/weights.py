"""What a rank stores of each part of a model: made once for an architecture, the degrees and the dtypes.

docs/reference-sharding.md, section 3. Nothing of it depends on how many sequences or tokens a pass has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from llmprof.predict import cost
from llmprof.predict.formats import Format, matrix_format, plain_format
from llmprof.predict.leaf import Leaves, Parameter, norm
from llmprof.predict.leaves import closing_leaves, embedding_leaves, layer_leaves, opening_leaves
from llmprof.predict.sharding.slices import arch_of_rank, leaves_of_rank
from llmprof.predict.tensor import Home, Tensor, new
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Dtypes


@dataclass(frozen=True, eq=False)
class Weights:
    """The parameters of one part, by paths below it, and the formats that matrices and all others are stored in."""

    leaves: Leaves
    matrices: Format
    others: Format

    @cached_property
    def params(self) -> Mapping[str, int]:
        """Values of every leaf."""
        return {path: cost.owned(inside) for path, inside in self.leaves.items()}

    @cached_property
    def nbytes(self) -> Mapping[str, int]:
        """Bytes of the same as they are stored."""
        return {
            path: sum(self._format(each).nbytes(each.axes) for each in inside if each.owned)
            for path, inside in self.leaves.items()
        }

    @cached_property
    def total_params(self) -> int:
        """Of all leaves."""
        return sum(self.params.values())

    @cached_property
    def total_bytes(self) -> int:
        """Of all leaves."""
        return sum(self.nbytes.values())

    def tensors(self, path: str) -> list[Tensor]:
        """The parameters of a leaf, as kernels take them."""
        return [new(each.name, each.axes, self._format(each), Home.WEIGHT) for each in self.leaves[path]]

    def _format(self, parameter: Parameter) -> Format:
        return self.matrices if parameter.packable else self.others


@dataclass(frozen=True, eq=False)
class RankWeights:
    """Those of one rank: `layers` has one for every layer of `arch`, the rank's own; of equal ones it is the same."""

    arch: ArchSpec
    opening: Weights
    layers: tuple[Weights, ...]
    closing: Weights


@dataclass(frozen=True, slots=True)
class Same:
    """An architecture as a key of a cache: by identity, because hashing a deep one costs more than lowering it."""

    arch: ArchSpec

    def __hash__(self) -> int:
        return id(self.arch)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.arch is self.arch


@lru_cache(maxsize=256)
def weights_of_rank(same: Same, sharding: Sharding, dtypes: Dtypes, *, staged: bool) -> RankWeights:
    """What a rank stores. `staged`: first and last part are of two ranks, each of which has a table of its own.

    A tied matrix is the table that the first part has, and stands once where that is of the same rank.
    """
    arch = arch_of_rank(same.arch, sharding)
    formats = matrix_format(dtypes), plain_format(dtypes)
    stack, d = arch.main, arch.d_model
    last = {} if stack.final_norm is None else {"final_norm": norm(stack.final_norm, "d", d)}
    last.update(closing_leaves(replace(arch, tied_embeddings=False) if staged else arch))
    layers: dict[int, Weights] = {}
    for layer in stack.layers:
        if id(layer) not in layers:
            leaves = layer_leaves(layer, d, cached=True)
            layers[id(layer)] = Weights(leaves_of_rank(leaves, sharding), *formats)
    return RankWeights(
        arch,
        Weights({**embedding_leaves(arch), **opening_leaves(arch, stack)}, *formats),
        tuple(layers[id(layer)] for layer in stack.layers),
        Weights(last, *formats),
    )

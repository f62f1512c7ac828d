"""Norms that a release names by what they feed, and a spec by what they follow."""

from __future__ import annotations

from llmprof.importing.headers.tensor import StoredFile
from llmprof.paths import layer_path
from llmprof.spec.arch import ArchSpec
from llmprof.stored.reading import Reading


def named_by_use(arch: ArchSpec, file: StoredFile) -> bool:
    """Whether norms have the names of what they feed, and stand behind blocks here.

    ChatGLM-6B adds the output of a norm, not its input, to what a block makes of it: the spec has the same norms behind
    the blocks, the first behind the embeddings, and none of its own at the end.
    """
    stack = arch.main
    behind = len(arch.stacks) == 1 and stack.final_norm is None and stack.embedding_norm is not None
    scaled = all(layer.placement == "post" and layer.residual.alpha != 1.0 for layer in stack.layers)
    return behind and scaled and any(tensor.name.endswith("final_layernorm.weight") for tensor in file.tensors)


def behind(reading: Reading, depth: int) -> Reading:
    """The same with each norm as the one behind the block before, in a stack of `depth` layers."""

    def moved(path: str) -> str:
        where = layer_path(path)
        if path == "final_norm":
            return f"layers.{depth - 1}.ffn_norm"
        if where is None or where.below not in (".attn_norm", ".ffn_norm"):
            return path
        if where.below == ".ffn_norm":
            return f"layers.{where.index}.attn_norm"
        return f"layers.{where.index - 1}.ffn_norm" if where.index else "embed_norm"

    return Reading(tuple((moved(path), name) for path, name in reading.slots), reading.part)

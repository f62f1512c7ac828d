"""The groups of leaves that share a kernel under torch.compile, found in a pass, and what inductor counts for each.

Which leaves make a group is section 4 of docs/reference-unfused.md. Which tensors join them, and which of their results
are taken elsewhere, is seen in the calls of a real pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from llmprof.errors import InputError
from llmprof.measure.inductor import Generated, generated
from llmprof.measure.trace import tensors_in
from llmprof.spec.arch import LayerNorm
from llmprof.twin.attention import CrossAttention, SelfAttention
from llmprof.twin.ffn import Act, GatedAct
from llmprof.twin.model import Twin
from llmprof.twin.positions import Rotation
from llmprof.twin.session import Session

_ROWS = re.compile(
    r"((encoder|decoder)\.)?"
    r"((layers\.\d+\.)?(attn|cross|ffn)_(norm|post_norm|residual)|layers\.\d+\.residual|embed_norm|final_norm)"
    r"|head\.(norm|act)"
)
_HEADS = re.compile(r"(?P<attention>.*\.(attn|cross_attn))\.(q_norm|k_norm|rope)")
_ACT = re.compile(r"((encoder|decoder)\.)?layers\.\d+\.ffn\.act")


@dataclass(frozen=True, slots=True)
class Call:
    """A leaf that was called, with what it took and what it returned."""

    path: str
    leaf: nn.Module
    taken: tuple[Tensor, ...]
    returned: tuple[Tensor, ...]

    def takes(self, other: Call) -> bool:
        """Whether it took a result of `other`."""
        return any(_same_storage(mine, theirs) for mine in self.taken for theirs in other.returned)


@dataclass(frozen=True, kw_only=True)
class Group:
    """The leaves that share kernels, in the order of their calls; as a module, the inputs that it takes."""

    paths: tuple[str, ...]
    module: nn.Module
    inputs: tuple[Tensor, ...]

    @cached_property
    def counted(self) -> Generated:
        """What inductor counts for them together."""
        return generated(self.module, self.inputs)


def compiled_groups(session: Session) -> tuple[Group, ...]:
    """Every group of the leaves that `session` runs. It is run once.

    InputError: layers that predict further tokens (mtp) run, or the pass is one of training.
    """
    if session.workload.mtp or session.workload.phase == "train":
        raise InputError("leaves are grouped in prefill and decode without the layers that predict further tokens")
    calls, returned = _calls(session)
    return tuple(_group(group, calls, returned) for group in _grouped(session.twin, calls))


def _calls(session: Session) -> tuple[list[Call], tuple[Tensor, ...]]:
    """The calls of all leaves in one pass, and what the model returned."""
    calls: list[Call] = []

    def note(path: str, leaf: nn.Module) -> Any:
        def after(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            calls.append(Call(path, leaf, tuple(tensors_in(args)), tuple(tensors_in(result))))

        return leaf.register_forward_hook(after)

    hooks = [note(path, leaf) for path, leaf in session.twin.leaves]
    try:
        output = session.run()
    finally:
        for hook in hooks:
            hook.remove()
    kept = (output.logits, output.hidden, output.pooled)
    return calls, tuple(tensor for tensor in kept if tensor is not None)


def _grouped(twin: Twin, calls: Sequence[Call]) -> Iterator[list[Call]]:
    """The groups, each at the place of its first call."""
    run: list[Call] = []
    heads: dict[str, list[Call]] = {}
    previous: Call | None = None
    for call in calls:
        if _ROWS.fullmatch(call.path):
            if run and previous is run[-1] and call.takes(previous):
                run.append(call)
            else:
                if run:
                    yield run
                run = [call]
        elif _ACT.fullmatch(call.path) and isinstance(call.leaf, Act | GatedAct):
            yield [call]
        elif (found := _HEADS.fullmatch(call.path)) and _is_plain(twin.get_submodule(found["attention"])):
            heads.setdefault(found["attention"], []).append(call)
        previous = call
    if run:
        yield run
    for path, together in heads.items():
        if _share(twin.get_submodule(path), together):
            yield together
        else:
            yield from ([call] for call in together)


def _is_plain(attention: nn.Module) -> bool:
    return isinstance(attention, SelfAttention | CrossAttention)


def _share(attention: nn.Module, calls: Sequence[Call]) -> bool:
    """Whether a rotation is among `calls` that leaves no part of a head as it is, behind norms without a bias."""
    assert isinstance(attention, SelfAttention | CrossAttention)
    norm = attention.spec.qk_norm
    if isinstance(norm, LayerNorm) and norm.bias:
        return False
    return any(isinstance(c.leaf, Rotation) and c.leaf.rotary_dim == attention.spec.head_dim for c in calls)


def _group(group: Sequence[Call], calls: Sequence[Call], returned: Sequence[Tensor]) -> Group:
    """The group of these calls; its results are those that somebody outside of it gets."""
    outside = [call for call in calls if all(call is not member for member in group)]
    taken = [tensor for call in outside for tensor in call.taken] + list(returned)
    wanted = [[any(_same_storage(result, other) for other in taken) for result in member.returned] for member in group]
    made: list[Tensor] = [result for member in group for result in member.returned]
    inputs: list[Tensor] = []
    for member in group:
        for tensor in member.taken:
            if not any(_same_storage(tensor, other) for other in (*made, *inputs)):
                inputs.append(tensor)
    paths = tuple(call.path for call in group)
    return Group(paths=paths, module=_Together(group, inputs, wanted), inputs=tuple(inputs))


class _Together(nn.Module):
    """The leaves of a group as one module: it takes the group's inputs and returns the results that are wanted."""

    def __init__(self, group: Sequence[Call], inputs: Sequence[Tensor], wanted: Sequence[Sequence[bool]]) -> None:
        super().__init__()
        self.leaves = nn.ModuleList(call.leaf for call in group)
        self._group, self._inputs, self._wanted = tuple(group), tuple(inputs), wanted

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        known = list(zip(self._inputs, given, strict=True))
        results: list[Tensor] = []
        for call, leaf, wanted in zip(self._group, self.leaves, self._wanted, strict=True):
            out = leaf(*(_stand_in(tensor, known) for tensor in call.taken))
            new = tuple(tensors_in(out))
            known += zip(call.returned, new, strict=True)
            results += [tensor for tensor, take in zip(new, wanted, strict=True) if take]
        return tuple(results)


def _stand_in(tensor: Tensor, known: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """What stands for `tensor`: the one known for its storage, seen in its shape."""
    (found,) = [new for old, new in known if _same_storage(old, tensor)]
    if found.shape == tensor.shape and found.stride() == tensor.stride():
        return found
    if not tensor.is_contiguous() or found.numel() != tensor.numel():
        raise NotImplementedError(
            f"a view of shape {tuple(tensor.shape)}, strides {tensor.stride()} between two leaves"
        )
    return found.view(tensor.shape)


def _same_storage(one: Tensor, other: Tensor) -> bool:
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)

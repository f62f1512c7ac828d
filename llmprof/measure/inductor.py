"""What torch.compile's own compiler counts: the bytes of the kernels that inductor would generate for a module.

The module is captured and lowered as inductor does it and scheduled for a GPU, and the accesses of its scheduler's
nodes are summed (`get_read_write_buffer_accesses`: each buffer once per kernel, as the docstring there says). Nothing
is compiled, and no GPU is needed: tensors are fake, and where torch has no GPU to ask, it is told of a common one.

Written against torch 2.13.0 (`torch/_inductor/graph.py`, `scheduler.py` and `compile_fx.py`, read 2026-11-30).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

_GPU = {"multi_processor_count": 132, "major": 9, "minor": 0, "warp_size": 32, "regs_per_multiprocessor": 65536}
"""An H100 SXM (https://developer.nvidia.com/blog/nvidia-hopper-architecture-in-depth/, recalled). Reductions of long
rows are split by it; groups of rows up to 8192 wide do not depend on it."""


class NotCounted(RuntimeError):
    """A module some of whose kernels inductor calls and does not generate: it has no count of its own for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """The bytes that inductor counts, and how many kernels it generates."""

    bytes: int
    kernels: int


def generated(module: nn.Module, inputs: Sequence[Tensor]) -> Generated:
    """What inductor counts for `module` called with tensors like `inputs`; their values do not matter.

    NotCounted: it would call a kernel of a library.
    """
    from torch._inductor.compile_fx import _recursive_post_grad_passes, record_original_output_strides
    from torch._inductor.debug import DebugContext
    from torch._inductor.graph import GraphLowering
    from torch._inductor.scheduler import ExternKernelSchedulerNode, NopKernelSchedulerNode
    from torch._inductor.virtualized import V
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode()
    names, parameters = list(dict(module.named_parameters())), list(module.parameters())
    graph = _capture(module, names, [*parameters, *inputs], mode)
    arguments = [_fake(tensor, mode, "cuda") for tensor in (*parameters, *inputs)]
    with ExitStack() as stack:
        for context in (_some_gpu(), V.set_debug_handler(DebugContext()), V.set_fake_mode(mode), torch.no_grad()):
            stack.enter_context(context)
        _move(graph, arguments, mode)
        record_original_output_strides(graph)
        _recursive_post_grad_passes(graph, is_inference=True)
        lowered = GraphLowering(graph, example_inputs=arguments)
        stack.enter_context(V.set_graph_handler(lowered))
        lowered.run(*arguments)
        lowered.init_wrapper_code()
        lowered._update_scheduler()
        nodes = [node for node in lowered.scheduler.nodes if not isinstance(node, NopKernelSchedulerNode)]
        called = [node.get_name() for node in nodes if isinstance(node, ExternKernelSchedulerNode)]
        if called:
            raise NotCounted(f"inductor calls {len(called)} kernels that it does not generate: {', '.join(called)}")
        return Generated(bytes=sum(node.get_read_write_buffers_sizes() for node in nodes), kernels=len(nodes))


def _capture(module: nn.Module, names: Sequence[str], tensors: Sequence[Tensor], mode: Any) -> torch.fx.GraphModule:
    """The graph of `module`, decomposed as inductor decomposes; its parameters come first among the inputs."""
    from torch._inductor.decomposition import select_decomp_table
    from torch.func import functional_call
    from torch.fx.experimental.proxy_tensor import make_fx

    def call(*flat: Tensor) -> Any:
        weights = dict(zip(names, flat[: len(names)], strict=True))
        return functional_call(module, weights, tuple(flat[len(names) :]))

    with mode, torch.no_grad():
        fakes = [_fake(tensor, mode, "cpu") for tensor in tensors]
        return make_fx(call, decomposition_table=select_decomp_table())(*fakes)


def _fake(tensor: Tensor, mode: Any, device: str) -> Tensor:
    """A fake tensor of the same sizes, strides and dtype."""
    with mode:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


def _move(graph: torch.fx.GraphModule, arguments: Sequence[Tensor], mode: Any) -> None:
    """Work the graph out again for inputs on another device: Python's own indexing would ask a real one."""
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp

    FakeTensorProp(graph, mode=mode).propagate_dont_convert_inputs(*arguments)


@contextmanager
def _some_gpu() -> Iterator[None]:
    """Answers for inductor's questions about a GPU and its compiler, where there is none."""
    if torch.cuda.is_available():
        yield
        return
    from torch._inductor import scheduler
    from torch._inductor.runtime.hints import DeviceProperties

    described = DeviceProperties(
        type="cuda",
        index=0,
        cc=_GPU["major"] * 10 + _GPU["minor"],
        major=_GPU["major"],
        regs_per_multiprocessor=_GPU["regs_per_multiprocessor"],
        max_threads_per_multi_processor=2048,
        max_threads_per_block=1024,
        multi_processor_count=_GPU["multi_processor_count"],
        warp_size=_GPU["warp_size"],
    )
    properties = SimpleNamespace(**_GPU, gcnArchName="", name="GPU")
    with ExitStack() as stack:
        for owner, name, answer in (
            (DeviceProperties, "create", lambda device: described),
            (torch.cuda, "get_device_properties", lambda device=None: properties),
            (torch.cuda, "current_device", lambda: 0),
            (scheduler, "has_triton", lambda *device: True),
        ):
            stack.enter_context(_replaced(owner, name, answer))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` for a while."""
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)

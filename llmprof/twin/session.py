"""One workload on one twin: constants, inputs and caches, prepared once and then run.

Axis legend: B batch, T new tokens, s context, M source tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import assert_never

import torch
from torch import Tensor

from llmprof.errors import DeviceError, InputError
from llmprof.spec import arch as spec
from llmprof.twin import masks, positions
from llmprof.twin.desk import Desk, Inventory, Kept, Pairs
from llmprof.twin.model import StackModules, Twin
from llmprof.twin.passes import Output, Pass, StackPass
from llmprof.twin.unfused import check_reference
from llmprof.workload import Execution, Workload, check_workload


class Session:
    """A workload, ready to run on a twin.

    `inputs` holds the ids ("tokens", "source_tokens", "segments", "next_tokens.0" ..) and the "features" that a front
    of sound reads in place of ids, `caches` the tensors that outlive a pass by path
    ("layers.0.attn.cache.k", "layers.0.attn.core.state"), `cache_scales` their scales where they are quantised. All may
    be written to before `run`; at first they hold seeded random values, so that a past is there to attend to.
    """

    def __init__(self, twin: Twin, workload: Workload, execution: Execution, *, seed: int = 0) -> None:
        """Prepare everything that is not counted.

        InputError or NotApplicable: `twin` cannot run `workload`. NoFusedKernel: `execution` is fused and some core
        has no fused kernel; NoReference, which is one: the unfused reference has no op list for a core. DeviceError:
        the twin's device does not launch the kernels that `execution` names.
        """
        check_workload(twin.arch, workload)
        if workload.dtypes != twin.dtypes:
            raise InputError(f"the workload has {workload.dtypes}, but the twin was built with {twin.dtypes}")
        if workload.mtp != (twin.mtp is not None):
            without, other = ("without", "says") if workload.mtp else ("with", "does not say")
            raise InputError(
                f"the twin was built {without} the layers that predict further tokens (mtp), and the workload {other} "
                "that they run"
            )
        family = "cpu" if twin.material.device.type == "cpu" else "cuda"
        if execution.kernels != family:
            raise DeviceError(
                f"tensors on {twin.material.device} launch the {family} kernels, not those of {execution.kernels}"
            )
        check_reference(twin.arch, workload, execution)
        self.twin = twin
        self.workload = workload
        self.execution = execution
        self._device = twin.material.device
        self._generator = None if self._device.type == "meta" else torch.Generator(self._device).manual_seed(seed)
        self._inventory = Inventory()
        with torch.no_grad():
            self._prepare()

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """The inputs and constants that some kernel of the pass takes, each once."""
        return tuple(self._inventory.constants)

    @property
    def kept(self) -> Mapping[str, Kept]:
        """The tensors that outlive a pass, by path."""
        return self._inventory.kept

    @property
    def caches(self) -> Mapping[str, Tensor]:
        """The same, their values alone."""
        return {path: kept.values for path, kept in self.kept.items()}

    @property
    def cache_scales(self) -> Mapping[str, Tensor]:
        """The scales of those that are quantised."""
        return {path: kept.scales for path, kept in self.kept.items() if kept.scales is not None}

    @property
    def kernels(self) -> Mapping[str, str]:
        """The kernel of every core that runs, by the core's path."""
        return self._inventory.kernels

    @property
    def pairs(self) -> Mapping[str, Pairs]:
        """The (query, key) pairs of every core whose contractions run over such pairs, by the core's path."""
        return self._inventory.pairs

    def run(self) -> Output:
        """One forward pass. Never under `inference_mode`, which hides ops from a dispatch mode."""
        with torch.no_grad(), float32_precision(self.workload, self._device):
            return self.twin(self.prepared)

    def restore(self) -> None:
        """Put what outlives a pass back to what it was before the first run, where the next would not find it so."""
        with torch.no_grad():
            for tensor, before in self._snapshots:
                tensor.copy_(before)

    # --- preparation --------------------------------------------------------------------------

    def _prepare(self) -> None:
        w, twin = self.workload, self.twin
        runs: list[StackPass | None] = []
        tokens = self._ids(twin.arch.vocab_size, w.batch, w.new_tokens)
        inputs = {"tokens": tokens}
        for stack in twin.stacks:
            if stack.spec is not twin.arch.encoder:
                segments = self._segments()
                if segments is not None:
                    inputs["segments"] = segments
                runs.append(self._stack_pass(stack, tokens, segments, rows=w.new_tokens, context=w.context))
            elif w.phase != "decode":
                name = "source_tokens" if stack.spec.front is None else "features"
                inputs[name] = self._source(stack.spec.front)
                runs.append(self._stack_pass(stack, inputs[name], None, rows=w.source_tokens, context=w.source_tokens))
            else:
                runs.append(None)
        following = 0 if twin.mtp is None else len(twin.mtp.steps)
        next_tokens = tuple(self._ids(twin.arch.vocab_size, w.batch, w.new_tokens) for _ in range(following))
        self._inventory.constants += next_tokens
        inputs.update((f"next_tokens.{i}", ids) for i, ids in enumerate(next_tokens))
        self.inputs: Mapping[str, Tensor] = inputs
        self.prepared = Pass(stacks=tuple(runs), logits=w.logits, next_tokens=next_tokens)
        self._snapshots = [
            (tensor, tensor.clone())
            for kept in self.kept.values()
            if not kept.repeatable
            for tensor in (kept.values, kept.scales)
            if tensor is not None
        ]

    def _stack_pass(
        self, stack: StackModules, read: Tensor, segments: Tensor | None, *, rows: int, context: int
    ) -> StackPass:
        """The constants of one stack that reads `rows` tokens, the last of `context` positions.

        `read` holds their ids `[B, T]`, or the features that its front makes them of.
        """
        desk = Desk(
            stack.spec,
            rows=rows,
            context=context,
            workload=self.workload,
            execution=self.execution,
            material=self.twin.material,
            generator=self._generator,
            inventory=self._inventory,
            place=self.twin.place,
        )
        layers = list(stack.layers)
        if self.twin.mtp is not None and stack is self.twin.stacks[-1]:
            layers += [layer for _, layer, _ in self.twin.mtp.steps]
        prepared = {module.path: module.prepare(desk) for layer in layers for module in layer.preparing}
        buckets, buckets_mask = self._buckets(desk)
        return StackPass(
            tokens=desk.register(read) if stack.front is None else None,
            features=None if stack.front is None else desk.register(read),
            segments=None if segments is None else desk.register(segments),
            positions=self._positions(stack.spec.embedded_position, desk),
            buckets=buckets,
            buckets_mask=buckets_mask,
            prepared=prepared,
            loans=desk.loans,
            layers_again=self.workload.recompute == "full",
            dropout=self.workload.dropout,
        )

    def _buckets(self, desk: Desk) -> tuple[Tensor | None, Tensor | None]:
        """The buckets `[T, S]` of the stack's T5 table, and the mask that is added to its bias."""
        table = desk.table
        if table is None:
            return None, None
        two_sided = desk.stack.mask == "bidirectional"
        buckets = desk.register(masks.t5_buckets(table.see, table.bias, two_sided=two_sided, device=desk.device))
        return buckets, None if table.see.kind == "full" else desk.mask(table.see)

    def _positions(self, position: spec.EmbeddedPosition | None, desk: Desk) -> Tensor | None:
        match position:
            case None:
                return None
            case spec.Learned():
                return desk.register(desk.positions)
            case spec.Sinusoidal() if position.stored_rows is not None:
                return desk.register(desk.positions)
            case spec.Sinusoidal():
                return desk.register(positions.sinusoid(desk.positions, self.twin.arch.d_model, desk.dtype))
            case never:
                assert_never(never)

    def _segments(self) -> Tensor | None:
        rows = self.twin.arch.type_vocab_size
        return self._ids(rows, self.workload.batch, self.workload.new_tokens) if rows else None

    def _source(self, front: spec.AudioFront | None) -> Tensor:
        """What the encoder reads: ids `[B, M]`, or the features `[B, c, 2 M]` of a front of sound."""
        b, m = self.workload.batch, self.workload.source_tokens
        if front is None:
            return self._ids(self.twin.arch.vocab_size, b, m)
        made = torch.empty((b, front.channels, 2 * m), dtype=self.twin.material.activations, device=self._device)
        return made.normal_(generator=self._generator)

    def _ids(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self._generator, device=self._device)


@contextmanager
def float32_precision(workload: Workload, device: torch.device) -> Iterator[None]:
    """Let a GPU multiply fp32 as the workload says: in full, or as tf32."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if workload.dtypes.activations == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

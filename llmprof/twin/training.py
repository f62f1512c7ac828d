"""A training pass on the twin: an objective's tensors, the forward pass with its loss, and the gradients.

Axis legend: B batch, T tokens, m positions with loss of one sequence.

docs/objectives.md, sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from llmprof.errors import InputError
from llmprof.twin.desk import Pairs
from llmprof.twin.loss import Loss, LossRows
from llmprof.twin.model import Twin
from llmprof.twin.objectives import TrainingBatch, training_batch
from llmprof.twin.passes import LossInput, Output
from llmprof.twin.session import Session, float32_precision
from llmprof.workload import Execution, Workload


class TrainingSession:
    """A training pass, ready to run on a twin that is `training`.

    `batch` holds the objective's tensors on the CPU, `kernels` names the kernel of every core that runs.
    """

    def __init__(self, twin: Twin, workload: Workload, execution: Execution, *, text: int, seed: int = 0) -> None:
        """Make the batch over `text` tokens per sequence, and everything else that is not counted.

        Raises what `Session` raises, and InputError where the vocabulary has no room for text.
        """
        if workload.objective is None:
            raise InputError("a training pass needs an objective")
        self.twin = twin
        self.workload = workload
        self.batch = training_batch(
            workload.objective,
            text=text,
            batch=workload.batch,
            vocab_size=twin.arch.vocab_size,
            prefix_tokens=workload.prefix_tokens,
            seed=seed,
        )
        self._session = Session(twin, workload, execution, seed=seed)
        self._read("tokens", self.batch.tokens)
        if self.batch.source_tokens is not None and "source_tokens" in self._session.inputs:
            # An encoder of sound reads features: the objective says how many positions of them there are.
            self._read("source_tokens", self.batch.source_tokens)
        self._pass = replace(self._session.prepared, loss=_loss_input(self.batch, twin.material.device))

    @property
    def kernels(self) -> Mapping[str, str]:
        """The kernel of every core that runs, by the core's path."""
        return self._session.kernels

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """The inputs and constants that some kernel of the pass takes, those of its loss included."""
        assert self._pass.loss is not None
        of_loss = (self._pass.loss.positions, self._pass.loss.targets)
        return (*self._session.constants, *(tensor for tensor in of_loss if tensor is not None))

    @property
    def pairs(self) -> Mapping[str, Pairs]:
        """The (query, key) pairs of every core whose contractions run over such pairs, by the core's path."""
        return self._session.pairs

    def _read(self, name: str, ids: Tensor) -> None:
        """Let the pass read `ids`; they are as many as the workload says, or one of both is wrong."""
        place = self._session.inputs[name]
        if place.shape != ids.shape:
            raise RuntimeError(f"{name}: the workload says {tuple(place.shape)}, the objective {tuple(ids.shape)}")
        place.copy_(ids)

    @contextmanager
    def training(self) -> Iterator[None]:
        """For its duration every parameter of the twin takes a gradient, and the leaves of the loss exist.

        InputError where some matrix is packed: what is stored so has no gradient.
        """
        if self.twin.material.packing is not None:
            raise InputError(f"weights in {self.twin.material.packing.format} take no gradients; use a float dtype")
        before = [(parameter, parameter.requires_grad) for parameter in self.twin.parameters()]
        if not self.batch.mask.all():
            self.twin.loss_rows = LossRows()
        self.twin.loss = Loss()
        self.twin.drop(self.workload.dropout or None)
        try:
            for parameter, _ in before:
                parameter.requires_grad_(True)
            yield
        finally:
            self.twin.loss_rows = None
            self.twin.loss = None
            self.twin.drop(None)
            for parameter, wanted in before:
                parameter.requires_grad_(wanted)

    def forward(self) -> Output:
        """The forward pass and its loss; only while `training`."""
        with torch.enable_grad(), float32_precision(self.workload, self.twin.material.device):
            return self.twin(self._pass)

    def gradients(self, loss: Tensor) -> Mapping[str, Tensor]:
        """The gradient of every parameter that the pass used, by name; only while `training`, once per `forward`."""
        names, parameters = zip(*self.twin.named_parameters(), strict=True)
        with float32_precision(self.workload, self.twin.material.device):
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return {name: gradient for name, gradient in zip(names, found, strict=True) if gradient is not None}


def _loss_input(batch: TrainingBatch, device: torch.device) -> LossInput:
    positions = None if batch.mask.all() else batch.positions.to(device)
    return LossInput(positions=positions, targets=batch.targets.to(device))

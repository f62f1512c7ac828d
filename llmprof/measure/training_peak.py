"""The peak of a training step's forward and backward pass as torch's CUDA allocator senses it."""

from __future__ import annotations

from llmprof.measure.memory import SensedPeak, sense_peak
from llmprof.twin.training import TrainingSession


def sense_training_peak(session: TrainingSession) -> SensedPeak:
    """Run forward and backward twice and sense the second time's peak, with the session's constants in it.

    There is nothing to restore: a training pass writes neither parameters nor caches.
    """

    def run() -> object:
        output = session.forward()
        assert output.loss is not None
        return session.gradients(output.loss)

    with session.training():
        return sense_peak(run, lambda: None, session.twin.material.device, also_live=session.constants)

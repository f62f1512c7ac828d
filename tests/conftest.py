"""What all tests share: one thread per worker, collection in peace, and GPU tests that skip with their reason."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator

# Two pytest workers on two cores: without this each of them starts as many threads as there are cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from llmprof.collection import paused

settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no cycles among what is collected, neither now nor while tests run.

    There are some twenty thousand tests, all of which stay: walking them and the trees of their assertions time and
    again takes a third of the time of collecting, and a few hundredths of that of running.
    """
    with paused():
        found = yield
        gc.collect()
        gc.freeze()
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; torch is imported only if such a test was collected."""
    wanted = [item for item in items if item.get_closest_marker("gpu")]
    if not wanted:
        return
    import torch

    if torch.cuda.is_available():
        return
    for item in wanted:
        item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none"))

"""Processes that torchrun's agent starts on this machine, watches, and ends: all of them, however the run ends.

The agent is that of `torchrun` (`torch.distributed.run`), called as a library: `elastic_launch`, torch 2.13.0
(https://docs.pytorch.org/docs/2.13/elastic/run.html, recalled). It answers signals with an exception of its own.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

T = TypeVar("T")

_WATCHED_EVERY_S = 0.1
_SHUTDOWN_S = 5
"""Between the signal that asks a process to end and the one that ends it."""
_HANDLED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
_SIGNALS_VARIABLE = "TORCHELASTIC_SIGNALS_TO_HANDLE"
_START_METHODS = ("forkserver", "spawn")
"""The first that there is: forked from a process that has imported torch and started none of its threads, so that
imports happen once."""


def launch(ranks: int, entry: Callable[..., T], *arguments: Any, logs: Path | None = None) -> dict[int, T]:
    """What `entry(*arguments)` returns in each of `ranks` processes, by rank; all are pickled.

    The variables of torchrun (RANK, WORLD_SIZE, MASTER_ADDR ..) are set in each. What they print goes to files below
    `logs`, where that is given. Raises ChildFailedError where one of them failed, after the others were ended, and
    KeyboardInterrupt after Ctrl-C has ended all of them. SystemExit, as a shell counts it: after another signal has.
    """
    method = next(name for name in _START_METHODS if name in multiprocessing.get_all_start_methods())
    if method == "forkserver":
        _start_server([__name__, *(each.__module__ for each in (entry, *arguments) if callable(each))])
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=f"llmprof-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",  # a machine may not resolve its own name
        max_restarts=0,
        monitor_interval=_WATCHED_EVERY_S,
        start_method=method,
        shutdown_timeout=_SHUTDOWN_S,
        logs_specs=None if logs is None else DefaultLogsSpecs(log_dir=str(logs), redirects=Std.ALL),
    )
    with _signals_restored(), _quiet():
        try:
            answers: dict[int, T] = elastic_launch(config, entry)(*arguments)
        except SignalException as stopped:
            received = stopped.sigval
        else:
            return answers
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + received)


def _start_server(modules: list[str]) -> None:
    """Start what ranks are forked from, without a voice: after Ctrl-C it may find that its parent is gone."""
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload(modules)
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        forkserver.ensure_running()
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextlib.contextmanager
def _signals_restored() -> Iterator[None]:
    """Put back the handlers and the variable that the agent sets and leaves."""
    known = [getattr(signal, name) for name in _HANDLED if hasattr(signal, name)]
    handlers = {each: signal.getsignal(each) for each in known}
    variable = os.environ.get(_SIGNALS_VARIABLE)
    try:
        yield
    finally:
        # Outside of the main thread the agent sets no handlers, and nobody may.
        with contextlib.suppress(ValueError):
            for each, handler in handlers.items():
                signal.signal(each, handler)
        if variable is None:
            os.environ.pop(_SIGNALS_VARIABLE, None)
        else:
            os.environ[_SIGNALS_VARIABLE] = variable


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the agent's own log from the terminal: what went wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)

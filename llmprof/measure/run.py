"""Measures one workload on one twin: every quantity that is counted, per module path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from llmprof.ledger import Basis, Entry, Ledger, Quantity
from llmprof.measure.bytes import ByteCounter
from llmprof.measure.cache import kept_bytes
from llmprof.measure.causal import causal_flops
from llmprof.measure.flops import FlopCounter
from llmprof.measure.kernel_names import KernelNames
from llmprof.measure.live import LiveBytes
from llmprof.measure.params import weights_by_path
from llmprof.measure.trace import tracing
from llmprof.twin.model import Twin
from llmprof.twin.passes import Output
from llmprof.twin.session import Session
from llmprof.workload import Execution, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one measurement found.

    `ledger` has parameters, weight bytes, dense and causal FLOPs and bytes of every leaf path, zeros included, the
    bytes of every tensor that is kept, and the peak of live bytes at path "". `kernels` names the kernel that each core
    that ran was seen to launch. `unmeasured` says, by (path, quantity), what has no entry and why.
    """

    ledger: Ledger
    kernels: Mapping[str, str]
    unmeasured: Mapping[tuple[str, Quantity], str]
    output: Output | None


class Counted:
    """What the counters of a pass have seen, as entries of a ledger."""

    def __init__(self, session: Session, flops: FlopCounter, traffic: ByteCounter, live: LiveBytes) -> None:
        self._session, self._flops, self._traffic, self._live = session, flops, traffic, live
        self._causal = causal_flops(flops.by_path, session.pairs, session.twin.material.device)

    def without_causal(self) -> dict[tuple[str, Quantity], str]:
        """Why a path has no causal FLOPs."""
        return {(path, "matmul_flops_causal"): reason for path, reason in self._causal.unmeasured.items()}

    def ledger(self, unmeasured: Mapping[tuple[str, Quantity], str]) -> Ledger:
        """Everything of every leaf, of what is kept, and the peak at path ""; nothing of what is `unmeasured`."""
        made = Ledger()

        def enter(path: str, quantity: Quantity, value: int) -> None:
            if (path, quantity) not in unmeasured:
                made.add(Entry(path=path, quantity=quantity, value=value, basis=Basis.COUNTED))

        for path, weights in weights_by_path(self._session.twin):
            enter(path, "params", weights.params)
            enter(path, "weight_bytes", weights.stored_bytes)
            enter(path, "matmul_flops", self._flops.by_path.get(path, 0))
            enter(path, "matmul_flops_causal", self._causal.by_path.get(path, 0))
            enter(path, "hbm_bytes", self._traffic.by_path.get(path, 0))
        for path, quantity, size in kept_bytes(self._session):
            enter(path, quantity, size)
        enter("", "peak_live_bytes", self._live.peak)
        return made


def measure(
    twin: Twin, workload: Workload, execution: Execution, *, keep_output: bool = False, seed: int = 0
) -> Measured:
    """Run `workload` once on `twin` and count.

    Raises what `Session` raises; NoFusedKernel where a core has none that fits.
    """
    session = Session(twin, workload, execution, seed=seed)
    flops, traffic, kernels = FlopCounter(), ByteCounter(), KernelNames(twin)
    live = LiveBytes(excluded=weights_and_caches(session), constants=session.constants)
    with tracing(twin, (live, flops, traffic, kernels)):
        output = session.run()
    if kernels.by_path != session.kernels:
        raise RuntimeError(f"planned kernels {session.kernels}, but saw {kernels.by_path}")

    counted = Counted(session, flops, traffic, live)
    unmeasured = {
        (path, quantity): reason
        for path, quantity, reason in unreadable(session)
        if not path or path in traffic.by_path
    }
    unmeasured.update(counted.without_causal())
    ledger = counted.ledger(unmeasured)
    return Measured(
        ledger=ledger, kernels=kernels.by_path, unmeasured=unmeasured, output=output if keep_output else None
    )


def weights_and_caches(session: Session) -> Iterator[Tensor]:
    """What is no part of the peak of live bytes."""
    yield from session.twin.parameters()
    constants = {id(constant) for constant in session.constants}
    yield from (buffer for buffer in session.twin.buffers() if id(buffer) not in constants)
    yield from session.caches.values()
    yield from session.cache_scales.values()


def unreadable(session: Session) -> Iterator[tuple[str, Quantity, str]]:
    """(path, quantity, reason) of what no real kernel does: reading formats that are stored but not computed in."""
    dtypes = session.workload.dtypes
    for path, leaf in session.twin.leaves:
        if leaf.reads_packed:
            yield path, "hbm_bytes", f"no kernel here reads {dtypes.weights} weights"
    for kept in session.kept.values():
        for path in kept.unread_at:
            yield path, "hbm_bytes", f"no kernel here reads or writes a {dtypes.kv_cache} cache"
    if dtypes.quantised:
        form = dtypes.weights if session.twin.material.packing is not None else dtypes.kv_cache
        yield "", "peak_live_bytes", f"no kernel here computes in {form}"

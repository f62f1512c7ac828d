"""The kernels of a backward as a list for people and records, equal layers folded. Axis legend: see `tensor.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llmprof.paths import folded, layer_path
from llmprof.predict.op import Op
from llmprof.predict.training.engine import Frame, Walked


@dataclass(frozen=True, slots=True, kw_only=True)
class BackwardLine:
    """One kernel of backward, and how often it is launched; bytes and FLOPs are of one launch.

    `path` is the leaf whose backward it is, of equal layers folded: ``layers.{0-79}.attn.core``; `formula` has the
    einsums of its contractions.
    """

    path: str
    kind: str
    count: int
    read_bytes: int
    write_bytes: int
    matmul_flops: int
    formula: str


def backward_lines(walked: Walked) -> Iterator[BackwardLine]:
    """Every kernel in the order of its launch: first those around the layers, then those of the layers, last first."""
    for op in walked.ops:
        yield _line(op.path, 1, op)
    alike: dict[tuple[Walked, str], list[Frame]] = {}
    for frame in reversed(walked.frames):
        alike.setdefault((frame.walked, _stack(frame)), []).append(frame)
    for (inside, stack), frames in alike.items():
        layers = f"{stack}{folded(sorted(_index(frame) for frame in frames))}"
        for op in inside.ops:
            yield _line(f"{layers}.{op.path}", len(frames), op)


def _stack(frame: Frame) -> str:
    """What stands before the number of the layer: ``decoder.layers.``."""
    place = layer_path(frame.call.path)
    assert place is not None, frame.call.path
    return place.stack


def _index(frame: Frame) -> int:
    place = layer_path(frame.call.path)
    assert place is not None, frame.call.path
    return place.index


def _line(path: str, count: int, op: Op) -> BackwardLine:
    return BackwardLine(
        path=path,
        kind=op.kind,
        count=count,
        read_bytes=op.read_bytes,
        write_bytes=op.write_bytes,
        matmul_flops=op.matmul_flops,
        formula=op.formula,
    )

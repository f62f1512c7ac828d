"""`count --tensor-parallel` and the degrees beside it, in prefill and decode: what they add to records and pages.

In training they divide a step (`parallel_options.py`), and beside `--kv-engine` an engine's cache (`engines.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmprof.cli.parallel_options import devices
from llmprof.errors import InputError

if TYPE_CHECKING:
    from llmprof.predict.sharding.api import ShardedPrediction
    from llmprof.report.count_tables import Record
    from llmprof.report.tables import Table
    from llmprof.sharding import Sharding
    from llmprof.spec.arch import ArchSpec
    from llmprof.workload import Workload

OF_ONE_DEVICE = {
    "memory": "it asks whether the whole model fits on one device",
    "device_spec": "its bytes by level are those of one device that has the whole model",
    "sram": "its figures are of the attention cores of one device",
}
"""Option -> why it cannot be heeded where a pass is sharded."""

LONGEST = 4096
"""Characters of a split: a thousand stages, each of a thousand layers."""


def parse_sharding(
    tensor_parallel: str | None,
    sequence_parallel: bool,
    pipeline_parallel: str | None,
    data_parallel: str | None,
    expert_parallel: str | None,
    context_parallel: str | None,
    pipeline_layers: str | None = None,
    *,
    training: bool,
    kv_engine: str | None,
    beside: Mapping[str, object],
) -> Sharding | None:
    """How a pass of inference is spread, if that was asked for. InputError naming the option that has no effect.

    `beside` are other options by name, None where they are not given.
    """
    of_inference = {
        "--pipeline-parallel": pipeline_parallel is not None,
        "--pipeline-layers": pipeline_layers is not None,
        "--expert-parallel": expert_parallel is not None,
        "--context-parallel": context_parallel is not None,
    }
    given = {
        "--data-parallel": data_parallel is not None,
        "--sequence-parallel": sequence_parallel,
        **of_inference,
    }
    if training:
        for option, asked in of_inference.items():
            if asked:
                raise InputError(
                    f"{option} has no effect on a training pass: nothing says what its devices keep; leave it out"
                )
        return None
    if kv_engine is not None:
        for option, asked in given.items():
            if asked:
                raise InputError(
                    f"{option} has no effect beside --kv-engine: --tensor-parallel alone divides an engine's cache"
                )
        return None
    if not any(given.values()) and tensor_parallel is None:
        return None
    for name, why in OF_ONE_DEVICE.items():
        if beside[name] is not None:
            raise InputError(f"--{name.replace('_', '-')} has no effect on a pass that is spread over devices: {why}")
    from llmprof.sharding import Sharding

    split = () if pipeline_layers is None else _split(pipeline_layers)
    stages = len(split) if split and pipeline_parallel is None else devices(pipeline_parallel, "--pipeline-parallel")
    made = Sharding(
        tensor_parallel=devices(tensor_parallel, "--tensor-parallel"),
        sequence_parallel=sequence_parallel,
        pipeline_parallel=stages,
        data_parallel=devices(data_parallel, "--data-parallel"),
        expert_parallel=devices(expert_parallel, "--expert-parallel"),
        context_parallel=devices(context_parallel, "--context-parallel"),
        pipeline_layers=split,
    )
    if sequence_parallel and made.tensor_parallel == 1:
        raise InputError("--sequence-parallel divides tokens among the devices of --tensor-parallel; give 2 or more")
    return made


def as_given(spread: Sharding) -> dict[str, str | bool | None]:
    """The options that ask for this again, by their names."""
    from llmprof.sharding_stages import text_of

    degrees = {name: getattr(spread, name) for name in spread.__dataclass_fields__}
    split = text_of(degrees.pop("pipeline_layers")) or None
    return {
        **{
            name: value if isinstance(value, bool) else None if value == 1 else str(value)
            for name, value in degrees.items()
        },
        "pipeline_layers": split,
    }


def _split(text: str) -> tuple[int, ...]:
    """How many layers each stage has. InputError where some part is no whole number."""
    parts = text.split(",")
    if len(text) > LONGEST or not all(re.fullmatch(r" *[0-9]{1,9} *", part, re.ASCII) for part in parts):
        found = repr(text) if len(text) <= LONGEST else f"a text of {len(text):,} characters"
        raise InputError(f"--pipeline-layers: found {found}; expected the layers of each stage, such as 16,15,15,15")
    return tuple(map(int, parts))


def add_sharding(
    records: Sequence[Record], runs: Sequence[tuple[ArchSpec, Workload]], sharding: Sharding | None
) -> list[ShardedPrediction]:
    """Give every record what its fullest rank holds and sends, and return the predictions; none where none was asked.

    InputError where a pass cannot be spread so, naming its architecture and what would do.
    """
    if sharding is None:
        return []
    from llmprof.predict.sharding.api import sharded_as
    from llmprof.predict.sharding.record import sharding_record, unconfirmed
    from llmprof.sharding_options import as_options

    made = []
    for record, (arch, workload) in zip(records, runs, strict=True):
        try:
            made.append(sharded_as(arch, workload, sharding))
        except InputError as error:
            raise as_options(error, arch, workload, sharding) from None
        record.update(sharding_record(made[-1]))
        record["unconfirmed"].update(unconfirmed(made[-1], made[-1].fullest))
    return made


def tables(passes: Sequence[ShardedPrediction]) -> list[Table]:
    """The same as tables; none where no pass is sharded."""
    if not passes:
        return []
    from llmprof.report.sharding_tables import sharding_tables

    return sharding_tables(passes)

"""How a training step is divided over devices: `--zero`, `--data-parallel`, `--tensor-parallel`, `--sequence-parallel`.

`--tensor-parallel` is also of vLLM's cache (`engines.py`), which no training pass has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from llmprof.cli import options
from llmprof.errors import InputError

if TYPE_CHECKING:
    from llmprof.predict.training.sharded import Division, ZeroStage

ZeroOption = Annotated[
    str | None,
    typer.Option(
        "--zero",
        metavar="STAGE",
        help="In training: 1 divides the optimiser's states over the data-parallel devices, 2 gradients too, 3 weights "
        "too. Default: 0.",
    ),
]
DataParallelOption = Annotated[
    str | None,
    typer.Option("--data-parallel", metavar="N", help="In training: devices with sequences of their own. Default: 1."),
]
SequenceParallelOption = Annotated[
    bool,
    typer.Option("--sequence-parallel", help="In training: what --tensor-parallel leaves whole is divided by tokens."),
]


def parse_division(
    zero: str | None,
    data_parallel: str | None,
    tensor_parallel: str | None,
    sequence_parallel: bool,
    *,
    training: bool,
) -> Division | None:
    """The division that was asked for, if any. InputError naming the option that is wrong or has no effect.

    `--tensor-parallel` of a pass that is no training is not looked at: it is of an engine's cache.
    """
    given = {
        "--zero": zero is not None,
        "--data-parallel": data_parallel is not None,
        "--sequence-parallel": sequence_parallel,
    }
    if not training:
        for option, asked in given.items():
            if asked:
                raise InputError(
                    f"{option} has no effect: it divides a training step; add --phase train, or leave it out"
                )
        return None
    if not any(given.values()) and tensor_parallel is None:
        return None
    from llmprof.predict.training.sharded import Division

    stage = 0 if zero is None else int(options.choice(zero, ("0", "1", "2", "3"), option="--zero"))
    data = _devices(data_parallel, "--data-parallel")
    if stage and data == 1:
        raise InputError(f"--zero {stage} divides states over the devices of --data-parallel; give 2 or more")
    return Division(
        zero=cast("ZeroStage", stage),
        data=data,
        tensor=_devices(tensor_parallel, "--tensor-parallel"),
        sequence=sequence_parallel,
    )


def _devices(text: str | None, option: str) -> int:
    return 1 if text is None else options.length(text, option=option)

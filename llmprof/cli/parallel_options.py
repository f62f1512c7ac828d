"""How a pass is divided over devices: `--tensor-parallel` and what goes beside it, and `--zero` of a training step.

Passes of inference are spread by `sharding.py`. `--tensor-parallel` is also of vLLM's cache (`engines.py`).
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
    typer.Option(
        "--data-parallel",
        metavar="N",
        help="Devices with sequences of their own; --batch is of one of them in training, else of all. Default: 1.",
    ),
]
TensorParallelOption = Annotated[
    str | None,
    typer.Option(
        "--tensor-parallel",
        metavar="N",
        help="Devices that share heads and matrices: of a pass, a training step, or vLLM's cache. Default: 1.",
    ),
]
SequenceParallelOption = Annotated[
    bool,
    typer.Option(
        "--sequence-parallel", help="What --tensor-parallel leaves whole is divided by tokens; not in decode."
    ),
]
PipelineParallelOption = Annotated[
    str | None,
    typer.Option(
        "--pipeline-parallel",
        metavar="N",
        help="In prefill and decode: stages, which share the layers as evenly as can be. Default: 1.",
    ),
]
PipelineLayersOption = Annotated[
    str | None,
    typer.Option(
        "--pipeline-layers",
        metavar="N,..",
        help="How many layers each stage has, such as 16,15,15,15. Default: one more, where some are left over, on the "
        "stages before the last.",
    ),
]
ExpertParallelOption = Annotated[
    str | None,
    typer.Option(
        "--expert-parallel",
        metavar="N",
        help="In prefill and decode: how many of the devices of --tensor-parallel and --data-parallel share the "
        "experts of a layer. Default: 1.",
    ),
]
ContextParallelOption = Annotated[
    str | None,
    typer.Option(
        "--context-parallel",
        metavar="N",
        help="In prefill and decode: devices that share the tokens of a sequence. Default: 1.",
    ),
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

    Of a pass that is no training only `--zero` is looked at: the others spread it (`sharding.py`).
    """
    if not training:
        if zero is not None:
            raise InputError("--zero has no effect: it divides a training step; add --phase train, or leave it out")
        return None
    if zero is None and data_parallel is None and tensor_parallel is None and not sequence_parallel:
        return None
    from llmprof.predict.training.sharded import Division

    stage = 0 if zero is None else int(options.choice(zero, ("0", "1", "2", "3"), option="--zero"))
    data = devices(data_parallel, "--data-parallel")
    if stage and data == 1:
        raise InputError(f"--zero {stage} divides states over the devices of --data-parallel; give 2 or more")
    return Division(
        zero=cast("ZeroStage", stage),
        data=data,
        tensor=devices(tensor_parallel, "--tensor-parallel"),
        sequence=sequence_parallel,
    )


def devices(text: str | None, option: str) -> int:
    """How many devices an option asks for: 1 where it is not given. InputError naming it where that is no number."""
    return 1 if text is None else options.length(text, option=option)

"""The machine contract of `count --phase train`: one flat record per architecture, text length and batch."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from llmprof.predict.api import Prediction, parameters, predict
from llmprof.predict.formula import whole_or_float
from llmprof.predict.training.rank_record import rank_record, rank_unconfirmed
from llmprof.predict.training.sharded import Division
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Execution, Workload

Record = dict[str, Any]

SCHEMA_VERSION = 1
RECOMPUTED = "taken to compute the scores again, as the fused kernels of the reference do"

WALKED = ("hbm_bytes_backward", "saved_bytes", "activation_peak_bytes", "total_bytes")
"""Keys of an execution that are null where no rule says what backward moves and keeps."""


def both(arch: ArchSpec, workload: Workload) -> Mapping[str, Prediction]:
    """The two executions of a training pass, for the kernels of a CUDA device. Raises what `predict` raises."""
    return {
        "fused": predict(arch, workload, Execution(attention="fused")),
        "unfused": predict(arch, workload, Execution(attention="unfused")),
    }


def objective_record(arch: ArchSpec, text: int, workload: Workload, division: Division | None = None) -> Record:
    """Every figure of one training step over `text` tokens per sequence, for the kernels of a CUDA device.

    Tokens are per sequence, all FLOPs and bytes of the whole batch. `loss_fraction` is of the new tokens. Suffixes name
    the execution; `matmul_flops_*` count contractions, dense. `unconfirmed` and `unpredicted` map keys of this record
    to reasons; what is unpredicted is null. `division`: what one device keeps is in the record too.

    Raises what `predict` raises, and InputError where the step cannot be divided so.
    """
    made = both(arch, workload)
    fused, unfused = made.values()
    step = fused.training
    divided = rank_record(arch, workload, division, {name: each.training for name, each in made.items()})
    record = {
        "name": arch.name,
        "variant": arch.variant,
        "structure": arch.structure,
        "objective": workload.objective,
        "recompute": workload.recompute,
        "dropout": workload.dropout,
        "batch": workload.batch,
        "text_tokens": text,
        "source_tokens": workload.source_tokens,
        "new_tokens": workload.new_tokens,
        "prefix_tokens": workload.prefix_tokens,
        "loss_tokens": workload.loss_tokens,
        "loss_fraction": workload.loss_tokens / workload.new_tokens,
        "logits_bytes": fused.logits_bytes,
        "params_total": parameters(arch).total,
        "weight_bytes": fused.weight_bytes,
        "gradient_bytes": step.gradient_bytes,
        "optimizer_bytes": step.optimizer_bytes,
        "optimizer_peak_bytes": step.optimizer_peak_bytes,
        "hbm_bytes_optimizer": step.hbm_bytes_optimizer,
    }
    for execution, prediction in made.items():
        record.update(_costs(prediction, text, execution))
    return {
        **record,
        **divided,
        "hbm_level": "op-level",
        "unfused_reference": unfused.kernel,
        "fused_kernel": fused.kernel,
        "weight_dtype": workload.dtypes.weights,
        "activation_dtype": workload.dtypes.activations,
        "unconfirmed": {
            **_unconfirmed(fused, "fused"),
            **_unconfirmed(unfused, "unfused"),
            **rank_unconfirmed(divided),
        },
        "unpredicted": {
            f"{key}_{execution}": reason
            for execution, prediction in made.items()
            for reason in dict.fromkeys(prediction.training.unpredicted.values())
            for key in WALKED
        },
    }


def total_bytes(prediction: Prediction) -> int:
    """Weights, optimiser states and the most that lives beside them: in forward and backward, or in the step itself.

    The first holds the gradients that there are by then, the second all of them; none is counted twice.
    """
    step = prediction.training
    return prediction.weight_bytes + step.optimizer_bytes + max(step.peak_live_bytes, step.optimizer_peak_bytes)


def _costs(prediction: Prediction, text: int, execution: str) -> Record:
    """FLOPs, traffic and memory of one execution."""
    forward, backward = prediction.cost.matmul_flops, prediction.matmul_flops_backward
    of_text = Fraction(forward + backward, prediction.workload.batch * text)
    step = prediction.training
    known = not step.unpredicted
    return {
        f"matmul_flops_forward_{execution}": forward,
        f"matmul_flops_backward_{execution}": backward,
        f"matmul_flops_recomputed_{execution}": step.matmul_flops_recomputed,
        f"matmul_flops_{execution}": forward + backward,
        f"matmul_flops_per_text_token_{execution}": whole_or_float(of_text),
        f"hbm_bytes_forward_{execution}": prediction.cost.hbm_bytes,
        f"hbm_bytes_backward_{execution}": step.hbm_bytes_backward if known else None,
        f"saved_bytes_{execution}": step.saved_bytes if known else None,
        f"activation_peak_bytes_{execution}": step.peak_live_bytes if known else None,
        f"total_bytes_{execution}": total_bytes(prediction) if known else None,
    }


def _unconfirmed(prediction: Prediction, execution: str) -> dict[str, str]:
    """Keys of the record -> reason. A kernel that does not exist has neither traffic nor a backward to measure."""
    why = prediction.unconfirmed.get("hbm_bytes")
    step = prediction.training
    known = not step.unpredicted
    if why is None:
        return {}
    flops = ("matmul_flops_backward", "matmul_flops", "matmul_flops_per_text_token")
    return {
        f"hbm_bytes_forward_{execution}": why,
        **{f"{quantity}_{execution}": f"{why}; its backward is {RECOMPUTED}" for quantity in flops},
        **({f"{key}_{execution}": why for key in WALKED} if known else {}),
    }

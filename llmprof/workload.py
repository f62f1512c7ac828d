"""What is run: how many tokens, with how much context, in which dtypes, by which kernels.

Prefill and decode are two settings of the same numbers, never two sets of formulas.
Torch-free, and free of sizes in bytes: how large a dtype is, each half knows for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llmprof.errors import InputError
from llmprof.routing import BALANCED, Routing
from llmprof.spec.arch import ArchSpec, NoHead, Structure
from llmprof.training_rules import check_step
from llmprof.workload_rules import check_attention_lengths, check_positions, check_prior, check_quantised_cache

Phase = Literal["prefill", "decode", "train"]
Objective = Literal["causal-lm", "prefix-lm", "span-corruption", "blank-infilling", "masked-lm"]
Logits = Literal["all", "last", "none"]
LatentForm = Literal["absorbed", "expanded"]
Recompute = Literal["none", "selective", "full"]
ComputeDtype = Literal["fp32", "tf32", "bf16", "fp16"]
StorageDtype = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8", "int4"]
UnfusedReference = Literal["lean-eager", "hf-eager", "sdpa-math"]
Grouping = Literal["eager", "compiled"]

PHASES: tuple[Phase, ...] = ("prefill", "decode")
"""The phases of inference. A training pass is asked for by its objective (objectives.py), not by its phase."""

STRUCTURES: Mapping[Objective, Structure] = {
    "causal-lm": "causal-decoder",
    "prefix-lm": "prefix-decoder",
    "span-corruption": "encoder-decoder",
    "blank-infilling": "prefix-decoder",
    "masked-lm": "encoder",
}
"""Objective -> the structure that it trains (docs/objectives.md, section 1); the first of a structure is its own."""

UNFUSED_REFERENCES: tuple[UnfusedReference, ...] = ("lean-eager", "hf-eager", "sdpa-math")
RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")
COMPUTE_DTYPES: tuple[ComputeDtype, ...] = ("fp32", "tf32", "bf16", "fp16")
QUANTISED: tuple[StorageDtype, ...] = ("fp8", "int8", "int4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dtypes:
    """The dtypes of weights, activations and KV cache, apart from each other.

    `fp8`, `int8` and `int4` are storage formats (reference-execution.md, section 9);
    `group_size` is how many weights of a row share a scale in int4.
    """

    weights: StorageDtype = "bf16"
    activations: ComputeDtype = "bf16"
    kv_cache: StorageDtype = "bf16"
    group_size: int = 128

    @property
    def quantised(self) -> bool:
        """Whether any tensor is kept in a format that no kernel here computes in."""
        return self.weights in QUANTISED or self.kv_cache in QUANTISED


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One forward pass; with phase ``train`` the forward pass of training, its loss and its backward.

    `new_tokens` go through the model; `context` is how many positions the last of them attends to,
    the new tokens included. Prefill of a fresh prompt has context = new_tokens, decode has
    new_tokens = 1. `source_tokens` is the encoder's length in an encoder-decoder, else 0.
    `prefix_tokens` is how many leading positions a prefix decoder sees from everywhere, else 0.

    `routing` gives the tokens of a mixture of experts theirs. `latent` is the form in which latent attention reads a
    cache that has a past: ``absorbed`` attends to the latents, ``expanded`` makes every head's keys and values of them
    first. `mtp`: whether the layers that predict further tokens run, in a model that has some.

    `objective` and `loss_tokens` belong to the phase ``train`` alone: what is learned, and how many positions of a
    sequence carry loss. `llmprof.objectives.training_workload` fills them in.

    So do `dropout`, the probability with which a value is dropped, and `recompute`, what backward computes again rather
    than find it saved: nothing, the inside of the attention cores, or every layer (docs/reference-training.md).
    """

    phase: Phase
    batch: int
    new_tokens: int
    context: int
    source_tokens: int = 0
    prefix_tokens: int = 0
    logits: Logits = "all"
    dtypes: Dtypes = Dtypes()
    routing: Routing = BALANCED
    latent: LatentForm = "absorbed"
    mtp: bool = False
    objective: Objective | None = None
    loss_tokens: int = 0
    dropout: float = 0.0
    recompute: Recompute = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Which reference of reference-execution.md is meant.

    `attention` is ``fused`` or ``unfused``. `kernels` is the device family whose kernels are launched: ``cuda``, which
    meta tensors follow, or ``cpu``. `reference` is the op list of the core that ``unfused`` means, and `grouping` says
    whether the leaves around it run op by op or as torch.compile groups their ops (docs/reference-unfused.md).
    """

    attention: Literal["fused", "unfused"]
    kernels: Literal["cuda", "cpu"] = "cuda"
    reference: UnfusedReference = "lean-eager"
    grouping: Grouping = "eager"


class NotApplicable(Exception):
    """This structure does not have the phase that was asked for; it is no fault of the user's."""


def check_workload(arch: ArchSpec, workload: Workload) -> None:
    """Raise where `arch` cannot run `workload`.

    NotApplicable: the structure has no such phase. InputError: the numbers contradict each other
    or the architecture; UnfitLength, which is one, where a stack cannot take its length.
    """
    w = workload
    sizes = {"batch": w.batch, "new_tokens": w.new_tokens, "context": w.context, "group_size": w.dtypes.group_size}
    for name, value in sizes.items():
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")
    if w.phase == "decode" and arch.structure == "encoder":
        raise NotApplicable(f"{arch.label} is an encoder: it has no decode phase")
    if w.phase == "decode" and w.new_tokens != 1:
        raise InputError(f"decode makes one token per step, but new_tokens is {w.new_tokens}")
    if w.context < w.new_tokens:
        raise InputError(
            f"context is {w.context} but new_tokens is {w.new_tokens}: the context counts the new tokens too"
        )
    if w.phase == "train":
        _check_training(arch, w)
    elif w.objective is not None or w.loss_tokens:
        raise InputError(f"objective and loss_tokens belong to the phase train, but the phase is {w.phase}")
    elif w.dropout or w.recompute != "none":
        raise InputError(f"dropout and recompute belong to the phase train, but the phase is {w.phase}")
    if w.context != w.new_tokens and w.phase == "prefill":
        if arch.structure == "encoder":
            raise InputError(f"an encoder reads all tokens at once: context ({w.context}) must equal new_tokens")
        if arch.structure == "encoder-decoder":
            raise InputError(
                f"prefill of an encoder-decoder starts a fresh target: context ({w.context}) must equal new_tokens"
            )
    if (arch.structure == "encoder-decoder") != (w.source_tokens > 0):
        need = "at least 1" if arch.structure == "encoder-decoder" else "0: it has no second stack"
        raise InputError(f"source_tokens is {w.source_tokens}; for {arch.label} ({arch.structure}) it must be {need}")
    if w.prefix_tokens and arch.structure != "prefix-decoder":
        raise InputError(f"prefix_tokens is {w.prefix_tokens}, but {arch.label} is no prefix decoder")
    if not 0 <= w.prefix_tokens <= w.context:
        raise InputError(f"prefix_tokens is {w.prefix_tokens}; it must lie between 0 and the context ({w.context})")
    if w.logits == "last" and arch.structure == "encoder":
        raise InputError(f"{arch.label} is an encoder: it has no last position to predict from; use logits all or none")
    if w.mtp and arch.mtp is None:
        raise InputError(f"{arch.label} has no layers that predict further tokens (mtp)")
    if w.mtp and (w.phase == "train" or w.logits != "all"):
        raise InputError("mtp layers run in prefill and decode with logits all")
    if w.dtypes.kv_cache in QUANTISED:
        check_quantised_cache(arch, w.dtypes.kv_cache)
    for stack in arch.stacks:
        length = w.source_tokens if stack is arch.encoder else w.context
        check_prior(arch, stack, activations=w.dtypes.activations, context=length)
        if stack is not arch.encoder:
            check_attention_lengths(arch, stack, new_tokens=w.new_tokens, context=w.context)
        elif w.phase != "decode":
            check_attention_lengths(arch, stack, new_tokens=length, context=length)
        check_positions(arch, stack, length)


def _check_training(arch: ArchSpec, w: Workload) -> None:
    """Raise InputError where a training pass contradicts itself or the architecture (docs/objectives.md)."""
    if w.objective is None:
        raise InputError("a training pass needs an objective")
    if arch.structure != STRUCTURES[w.objective]:
        fitting = " or ".join(objective for objective, structure in STRUCTURES.items() if structure == arch.structure)
        raise InputError(
            f"{w.objective} trains a model of structure {STRUCTURES[w.objective]}, but {arch.label} is of structure "
            f"{arch.structure}; use {fitting}"
        )
    if isinstance(arch.head, NoHead):
        raise InputError(f"{arch.label} has no head (head: none): it makes no logits that a loss could be taken of")
    if w.logits != "all":
        raise InputError(f"logits is {w.logits}, but in training the objective says which positions reach the head")
    if w.context != w.new_tokens:
        raise InputError(
            f"training reads whole sequences, without a cache: context ({w.context}) must equal new_tokens "
            f"({w.new_tokens})"
        )
    if w.new_tokens < 2:
        raise InputError("a training pass needs at least 2 tokens: an objective hides one and keeps one")
    if not 1 <= w.loss_tokens <= w.new_tokens:
        raise InputError(f"loss_tokens is {w.loss_tokens}; it must lie between 1 and new_tokens ({w.new_tokens})")
    if w.dtypes.quantised:
        raise InputError(
            f"a training pass keeps nothing in a quantised format, but weights are {w.dtypes.weights} and the cache is "
            f"{w.dtypes.kv_cache}; use fp32, tf32, bf16 or fp16"
        )
    dtypes = w.dtypes
    check_step(arch, dropout=w.dropout, recompute=w.recompute, weights=dtypes.weights, activations=dtypes.activations)

"""Build transformers' class of a config on the meta device: the modules, without a value in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES

from llmprof.importing.families import ALSO
from llmprof.spec.arch import ArchSpec

Head = Literal["causal-lm", "seq2seq-lm", "speech-seq2seq", "masked-lm", "base"]

ROUTED = "batched_mm"
"""How experts are computed: for the chosen ones alone, by products that FlopCounterMode knows. Its eager form asks for
values, which meta does not have, and grouped products count 0."""

NOT_THE_CLASS = ("auto_map", "quantization_config", "torch_dtype", "dtype")
"""Fields that say where code lies, and how values are stored: what is built is the library's own class, in bf16."""


class CannotTestify(Exception):
    """transformers has no class of the config, or the class cannot be built or run on meta; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HfModel:
    """A class of transformers, built on meta in bf16, in eval mode."""

    network: nn.Module
    config: Any
    head: Head

    @property
    def name(self) -> str:
        """The class, as messages call it."""
        return type(self.network).__name__


def version() -> str:
    """What the witness is called."""
    return f"transformers {transformers.__version__}"


def head_of(arch: ArchSpec) -> Head:
    """Which of transformers' classes of a family stands for an architecture: the one with the same head."""
    if arch.head.kind == "none":
        return "base"
    if arch.structure == "encoder":
        return "masked-lm"
    if arch.structure == "encoder-decoder":
        return "speech-seq2seq" if any(stack.front is not None for stack in arch.stacks) else "seq2seq-lm"
    return "causal-lm"


def build(config: Mapping[str, Any], head: Head) -> HfModel:
    """The class of a config as it would be read from its file. Nothing is downloaded, and no code of the config's runs.

    Of several towers it is the one of text. Raises CannotTestify where there is no such class, or it cannot be built.
    """
    values = {key: value for key, value in deepcopy(dict(config)).items() if key not in NOT_THE_CLASS}
    kind = values.get("model_type")
    if isinstance(kind, str) and kind in ALSO and kind not in transformers.CONFIG_MAPPING:
        kind = values["model_type"] = ALSO[kind]  # another name for a class that there is
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise CannotTestify(f"{version()} has no class of the model_type {kind}")
    auto: Any = {
        "causal-lm": transformers.AutoModelForCausalLM,
        "seq2seq-lm": transformers.AutoModelForSeq2SeqLM,
        "speech-seq2seq": transformers.AutoModelForSpeechSeq2Seq,
        "masked-lm": transformers.AutoModelForMaskedLM,
        "base": transformers.AutoModel,
    }[head]
    try:
        with quiet(), torch.device("meta"), torch.no_grad():
            made = transformers.CONFIG_MAPPING[kind].from_dict(values)
            made = _tower(made) if head == "causal-lm" else made
            made._experts_implementation = ROUTED
            if head == "base" and made.is_encoder_decoder:
                auto = transformers.AutoModelForTextEncoding  # the encoder of two stacks alone
            network = auto.from_config(made, attn_implementation="eager", dtype=torch.bfloat16)
    except Exception as error:  # the library raises whatever it likes
        raise CannotTestify(f"{version()} cannot build {kind}: {said(error)}") from error
    return HfModel(network=network.eval(), config=made, head=head)


def _tower(config: Any) -> Any:
    """The part of a config that the text goes through, with its tables tied as the class of the whole has them."""
    text = config.get_text_config()
    if text is not config and config.model_type in MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES:
        whole: Any = transformers.AutoModelForMultimodalLM
        network = whole.from_config(config, dtype=torch.bfloat16)
        made, table = network.get_output_embeddings(), network.get_input_embeddings()
        if made is not None:
            text.tie_word_embeddings = made.weight is table.weight
    elif text is not config and hasattr(config, "tie_word_embeddings"):
        text.tie_word_embeddings = config.tie_word_embeddings
    return text


def said(error: Exception) -> str:
    """The first line of what an exception says, after its type."""
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's advice about values and kernels, which meta tensors have not."""
    import warnings

    log: Any = transformers.logging
    before = log.get_verbosity()
    log.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(before)

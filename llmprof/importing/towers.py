"""Models of several towers: the tower of text is read by its own table, and the rest is said to be left out.

Images and sound reach a decoder as rows beside those of the tokens. What makes those rows is no part of the
architecture here: a vision or an audio tower, and a projector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from llmprof.importing.config import Config, Read
from llmprof.importing.document import Doc
from llmprof.importing.read import table

TOWERS: Mapping[str, str] = MappingProxyType(
    {
        "vision_config": "vision tower",
        "audio_config": "audio tower",
        "encoder_config": "audio tower",
        "projector_config": "projector",
        "qformer_config": "query former",
        "perceiver_config": "perceiver",
    }
)
"""A field of a config -> what it describes beside the text."""

PROJECTOR = frozenset(
    {
        "downsample_factor",
        "downsample_ratio",
        "downsample_rate",
        "has_lora_adapter",
        "ignore_index",
        "image_grid_pinpoints",
        "image_newline",
        "image_seq_length",
        "image_size",
        "image_split_resolution",
        "image_token_id",
        "max_image_size",
        "mm_projector_lr",
        "multimodal_projector_bias",
        "patch_size",
        "projection_dim",
        "projector_bias",
        "projector_hidden_act",
        "projector_hidden_size",
        "projector_layernorm",
        "projector_use_layernorm",
        "scale_factor",
        "alignment_intermediate_size",
        "adapter_layer_norm_eps",
        "spatial_merge_size",
        "use_image_newline_parameter",
        "use_thumbnail",
        "vision_aspect_ratio",
        "vision_feature_layer",
        "vision_feature_select_strategy",
        "window_size",
        "mm_tokens_per_image",
        "boi_token_index",
        "eoi_token_index",
    }
)
"""Fields about what makes rows of an image or of sound. None of them is a size of the tower of text."""

TIE = "tie_word_embeddings"


def text_tower(
    c: Config,
    default_type: str | None,
    *,
    key: str = "text_config",
    tied: bool,
    either: bool = False,
    same: Iterable[str] = ("hidden_size", "vocab_size"),
) -> Doc:
    """The document of the tower of text at `key`, whose ``model_type`` is `default_type` where it says none.

    `tied` is what the class of the whole takes for ``tie_word_embeddings``; with `either` it ties where its own flag or
    the tower's says so. `same` are fields that old releases repeat around the tower: they must say what it says.
    """
    inner = c.tower(key)
    doc = table(inner, default_type)
    for name, own in (("hidden_size", "d_model"), ("vocab_size", "vocab_size")):
        if name in same:
            c.must(name, None, doc[own].value, why=f"{key} has another")
    doc["tied_embeddings"] = _tied(c, key, doc["tied_embeddings"], tied=tied, either=either)
    leave_out_the_rest(c, f"the tower of text ({key})")
    return doc


def leave_out_the_rest(c: Config, what: str) -> None:
    """Says that `what` alone was read, and what stands beside it; the fields of the projector say nothing more."""
    beside = [f"the {name} ({field})" for field, name in TOWERS.items() if c.has(field)]
    c.ignore(*PROJECTOR)
    c.remark(f"only {what} is read; " + ", ".join([*beside, "what joins the towers"]) + " are left out")


def _tied(c: Config, key: str, inner: Read[bool] | bool, *, tied: bool, either: bool) -> Read[bool]:
    """Which flag counts: the one around the tower, since version 5 of transformers; before it, the tower's own."""
    read = inner if isinstance(inner, Read) else Read(inner)
    stated = bool(read.keys)
    if c.has(TIE):
        outer = c.flag(TIE, default=tied)
        if either:
            return Read(outer.value or read.value, (*outer.keys, *read.keys))
        if stated and read.value != outer.value:
            c.wrong(TIE, f"{str(read.value).lower()}, as {key}.{TIE} says: both name one thing")
        return outer
    if either or read.value == tied:
        return read
    # The class of the whole and that of the tower take different things for granted. Released files are of the time
    # when the tower's was heeded (Mistral-Small-3.1 states none and is untied): what is saved since then states it.
    if not stated and _major(c) is None:
        c.stop(TIE, f"true or false: {c.family} takes {str(tied).lower()} for granted, its tower of text the opposite")
    if not stated and (_major(c) or 0) >= 5:
        return Read(tied, (), f"{TIE} is not in the file: {str(tied).lower()} is the default of {c.family}")
    return Read(read.value, read.keys, read.note or f"as {key} has it, which the class heeded before version 5")


def _major(c: Config) -> int | None:
    """The major version of the transformers that wrote the file; None where it does not say."""
    said = c.raw("transformers_version")
    head = said.partition(".")[0] if isinstance(said, str) else ""
    return int(head) if head.isdecimal() and len(head) < 4 else None

"""Models of several towers: the tower of text is read by its own table, and the rest is said to be left out.

Images and sound reach a decoder as rows beside those of the tokens. What makes those rows is no part of the
architecture here: a vision or an audio tower, and a projector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from llmprof.importing.common import idle
from llmprof.importing.config import Config, Read
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.jsontext import shown
from llmprof.importing.read import table
from llmprof.spec.nodes import child_path

TOWERS: Mapping[str, str] = MappingProxyType(
    {
        "vision_config": "vision tower",
        "high_res_vision_config": "vision tower for high resolutions",
        "vq_config": "quantiser of images",
        "audio_config": "audio tower",
        "encoder_config": "audio tower",
        "projector_config": "projector",
        "qformer_config": "query former",
        "perceiver_config": "perceiver",
        "talker_config": "talker",
        "token2wav_config": "vocoder",
        "code2wav_config": "vocoder",
    }
)
"""A field of a config -> what it describes beside the text."""

PROJECTOR = frozenset(
    {
        "adapter_layer_norm_eps",
        "alignment_intermediate_size",
        "downsample_factor",
        "downsample_rate",
        "downsample_ratio",
        "enable_audio_output",
        "enable_talker",
        "has_lora_adapter",
        "ignore_index",
        "language_model_only",
        "image_grid_pinpoints",
        "image_seq_length",
        "mm_tokens_per_image",
        "multimodal_projector_bias",
        "position_id_per_seconds",
        "projection_dim",
        "projection_hidden_size",
        "projection_layer_norm_eps",
        "projector_bias",
        "projector_hidden_act",
        "projector_hidden_size",
        "projector_layernorm_eps",
        "projector_use_layernorm",
        "force_image_size",
        "scale_factor",
        "seconds_per_chunk",
        "spatial_merge_size",
        "spatial_pool_mode",
        "spatial_pool_stride",
        "use_image_newline_parameter",
        "use_reentrant_checkpointing",
        "use_unified_vision_chunk",
        "video_placeholder",
        "video_pruning_rate",
        "video_seq_length",
        "video_temporal_patch_size",
        "vision_aspect_ratio",
        "vision_feature_layer",
        "vision_feature_select_strategy",
        "vision_hidden_size",
        "window_size",  # of what joins the towers in Granite Speech
    }
)
"""Fields about what makes rows of an image or of sound. None of them is a size of the tower of text."""

OWN: Mapping[str, str] = MappingProxyType({"hidden_size": "d_model", "vocab_size": "vocab_size"})
"""Fields that stand around the tower in some releases -> the key of the document that must say the same."""

Rule = Literal["never", "tower"]
"""Where no flag of the whole counts: the class never ties, or it leaves that to its tower."""

TIE = "tie_word_embeddings"


def family_of_towers(
    default_type: str,
    *,
    tied: bool | Rule,
    either: bool = False,
    silent: bool = False,
    stale: Iterable[str] = (),
    inside: Callable[[Config], None] | None = None,
    remark: str | None = None,
) -> Family:
    """A family whose config has its tower of text under ``text_config``; what the words mean says `text_tower`.

    `remark` is said of every model of the family.
    """

    def document(c: Config) -> Doc:
        if remark is not None:
            c.remark(remark)
        return text_tower(c, default_type, tied=tied, either=either, silent=silent, stale=stale, inside=inside)

    return Family(document=document, config_class=None, source=TRANSFORMERS)


def text_tower(
    c: Config,
    default_type: str | None,
    *,
    key: str = "text_config",
    tied: bool | Rule,
    either: bool = False,
    silent: bool = False,
    stale: Iterable[str] = (),
    inside: Callable[[Config], None] | None = None,
    passed: Mapping[str, Any] | None = None,
) -> Doc:
    """The document of the tower of text at `key`.

    Its ``model_type`` is `default_type` where it says none (None: it must). `tied` is what the class of the whole takes
    for ``tie_word_embeddings``, or why it has no flag that counts; with `either` it ties where its own flag or the
    tower's says so; with `silent` a tower that says nothing has no say, whatever its class takes for granted. A field
    of the tower that stands around it too must say the same there, but those that are `stale` in released files.
    `inside` reads fields of the tower that its table does not know; `passed` are fields that the class of the whole
    adds to it.
    """
    inner = c.tower(key, passed=passed)
    if key == "text_config":
        inner.ignore("quantization_config")  # read with that of the whole, when the architecture is there
    if inside is not None:
        inside(inner)
    doc = table(inner, default_type)
    doc["tied_embeddings"] = _tied(c, key, doc["tied_embeddings"], tied=tied, either=either, silent=silent)
    c.ignore(*stale)
    for name, value in c.unread().items():
        if name in OWN:
            c.must(name, doc[OWN[name]].value, None, why=f"{key} has another")
        elif inner.has(name) and not idle(name, value):
            c.must(name, inner.raw(name), None, why=f"{key} has another")
    leave_out_the_rest(c, f"the tower of text ({child_path(c.path, key)})")
    return doc


def added(c: Config, by: str, values: Mapping[str, Any], *, key: str = "text_config") -> dict[str, Any]:
    """Of `values` those that the tower of text does not say: the class `by` of the whole adds them, a remark says."""
    said = c.raw(key)
    missing = {name: value for name, value in values.items() if isinstance(said, dict) and name not in said}
    if missing:
        named = ", ".join(f"{name} = {shown(value)}" for name, value in missing.items())
        c.remark(f"not in {key}, so taken from {by}: {named}")
    return missing


def flat_text_tower(c: Config, default_type: str, *, tied: bool) -> Doc:
    """The same where the fields of the tower of text stand among those of the whole, as in the first Qwen2-VL.

    Its flag is the one of the whole.
    """
    c.ignore(*TOWERS, *PROJECTOR, "model_type", "text_config")
    own = c.unread()
    c.ignore(*own)
    doc = table(Config(c.source, own, family=c.family, path=c.path, account=c.account), default_type)
    doc["tied_embeddings"] = _tied(c, "text_config", doc["tied_embeddings"], tied=tied, either=True)
    leave_out_the_rest(c, "the tower of text, whose fields stand among the others,")
    return doc


def leave_out_the_rest(c: Config, what: str) -> None:
    """Says that `what` alone was read, and what stands beside it; the fields of the projector say nothing more."""
    beside = [f"the {name} ({field})" for field, name in TOWERS.items() if c.has(field)]
    c.ignore(*PROJECTOR)
    c.remark(f"only {what} is read; left out: {', '.join(beside) + ' and ' if beside else ''}what joins the towers")


def _tied(
    c: Config, key: str, inner: Read[bool] | bool, *, tied: bool | Rule, either: bool, silent: bool = False
) -> Read[bool]:
    """Which flag counts: the one around the tower, since version 5 of transformers; before it, the tower's own."""
    read = inner if isinstance(inner, Read) else Read(inner)
    stated = bool(read.keys)
    if tied == "never" and read.value:
        c.refuse(TIE, f"false, in {key} too: the class of the whole ties nothing")
    if isinstance(tied, str):
        c.must(TIE, read.value, None, why=f"the class heeds what {key} says")
        return read
    if tied is True:
        c.must(TIE, True, False, why="null is false to the class, which takes true where the file says nothing")
    if c.has(TIE):
        outer = c.flag(TIE, default=tied)
        if not stated:
            c.account.defaults.pop(child_path(child_path(c.path, key), TIE), None)  # it counts for nothing
        if either:
            return Read(outer.value or read.value, (*outer.keys, *read.keys))
        if stated and read.value != outer.value and (_major(c) or 0) < 5:
            c.wrong(TIE, f"{str(read.value).lower()}, as {key}.{TIE} says: both name one thing")
        return outer
    if either or read.value == tied:
        return read
    if silent and not stated:
        c.account.defaults.pop(child_path(child_path(c.path, key), TIE), None)
        return Read(tied, (), f"{TIE} is not in the file: {str(tied).lower()} is the default of {c.family}")
    # The class of the whole and that of the tower take different things for granted. Before version 5 of transformers
    # the tower's counted (Mistral-Small-3.1 states none and is untied), since then that of the whole does.
    major = _major(c)
    if major is None or (major >= 5 and stated):
        c.stop(TIE, f"true or false: {c.family} takes {str(tied).lower()} for granted, its tower of text the opposite")
    if major >= 5:
        return Read(tied, (), f"{TIE} is not in the file: {str(tied).lower()} is the default of {c.family}")
    return Read(read.value, read.keys, read.note or f"as {key} has it, which the class heeded before version 5")


def _major(c: Config) -> int | None:
    """The major version of the transformers that wrote the file; None where it does not say."""
    said = c.raw("transformers_version") or c.source.root.get("transformers_version")
    head = said.partition(".")[0] if isinstance(said, str) else ""
    return int(head) if head.isdecimal() and len(head) < 4 else None

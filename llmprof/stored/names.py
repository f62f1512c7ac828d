"""From the name of a tensor to where it may stand in an architecture, or to what it is beside one.

Nothing here knows an architecture: `join.py` decides between readings. The tables are `names_hf.py` and
`names_gguf.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from llmprof.stored import names_gguf as gguf
from llmprof.stored import names_hf as hf
from llmprof.stored.reading import Reading, readings


@dataclass(frozen=True, slots=True)
class Name:
    """What a name says: the readings, in the order of preference, and of which layer and expert they are.

    With a `layer` the readings are relative to it. `stack` is ``encoder.``, ``decoder.``, or `MTP` for the layers that
    predict further tokens. `beside` says what a tensor is that is no parameter.
    """

    readings: tuple[Reading, ...] = ()
    layer: int | None = None
    stack: str = ""
    expert: int | None = None
    beside: str | None = None


BUFFER, TOWER, TASK = "buffer", "tower", "task"
MTP = "mtp."

_TOWER = re.compile(
    r"(?:(?:model|module|thinker|language_model)\.)*"
    r"(?:image_tower|video_tower|vqmodel|generation_\w+|high_res_vision_\w+|vision_projector|vision_projection|projector|"
    r"vision_tower|vision_model|visual|vision|vision_encoder|vision_embed_tokens|img_processor|vpm|vit|resampler|"
    r"multi_modal_projector|mm_projector|vision_language_adapter|patch_merger|pre_mm_projector_norm|image_newline|"
    r"audio_tower|audio_encoder|audio_projector|audio_model|apm|embed_vision|embed_audio|connector|aligner|mlp1|talker|"
    r"code2wav|token2wav|token_compressor|sam_model|view_seperator)\b(?:\.|$).*|"
    r"(?:v|a|mm|resampler)\..*"
)
"""Towers of other modalities and what joins them to the text; the last line is GGUF's."""

_BUFFER = re.compile(
    r".*(?:rotary_emb|rotary_pos_emb|rotary)\.(?:inv_freq|cos_cached|sin_cached)|(?:.*\.)?rope\.freqs|"
    r"(?:.*\.)?(?:position_ids|token_type_ids|inv_freq)|.*\.(?:masked_bias|attn_mask)|final_logits_bias|"
    r"(?:.*\.)?(?:e_score_correction_bias|(?:feed_forward|mlp)\.(?:gate\.)?expert_bias|exp_probs_b(?:\.bias)?)|"
    r"rope_freqs\.weight|rope_factors_(?:long|short)\.weight|(?:.*\.)?attn_rot_embd(?:\.weight)?|"
    r".*\.act_fn\.(?:beta|eps)"
)
"""What is kept beside the parameters: rotary frequencies, positions, masks, corrections of the choice of experts, and
constants of activations."""

_TASK = re.compile(r"(?:.*\.)?(?:cls\.seq_relationship|score|classifier|qa_outputs|classification_head\..+)\.\w+")
"""Heads of other tasks than predicting tokens."""

_LAYER = re.compile(r"(?:(encoder|decoder)\.)?(?:layers|layer|h|blocks|block)\.([0-9]{1,6})\.(.+)", re.DOTALL)
_BLK = re.compile(r"(?:(enc|dec)\.)?blk\.([0-9]{1,6})\.(.+)", re.DOTALL)
_EXPERT = re.compile(r"\bexperts\.([0-9]{1,6})\.")
_HEAD_NORM = re.compile(r"\.norms\.[0-9]{1,6}\.")
_FURTHER = re.compile(r"(?:model\.)?(?:(?:mtp\.layers|mtp_layers)\.([0-9]{1,4})\.|mtp\.)(.+)", re.DOTALL)
_MASK = re.compile(r"(?:.*\.)?(?:attn|attention|attn\.attention)\.bias")
_SUFFIXES = ("weight", "bias")
_STACKS = {None: "", "encoder": "encoder.", "decoder": "decoder.", "enc": "encoder.", "dec": "decoder."}


def name_of(name: str, rank: int, kind: str) -> Name | None:
    """What the name of a tensor with `rank` axes says, in a file of a `kind`; None where no table has it."""
    if _TOWER.fullmatch(name):
        return Name(beside=TOWER)
    if _BUFFER.fullmatch(name) or (rank == 4 and _MASK.fullmatch(name)):
        return Name(beside=BUFFER)
    if _TASK.fullmatch(name):
        return Name(beside=TASK)
    return _gguf(name) if kind == "gguf" else _hf(name)


LANGUAGE = "language_model"
_ALSO_LANGUAGE = re.compile(r"(?:model\.)?(?:lm_head|mtp|mtp_layers)\..*")


def is_outside(name: str) -> bool:
    """Whether a tensor stands outside the model of language, in a release that keeps it below ``language_model``."""
    return LANGUAGE not in name.split(".") and _ALSO_LANGUAGE.fullmatch(name) is None


def _hf(name: str) -> Name | None:
    further = _FURTHER.fullmatch(name)
    if further is not None:
        return _further(further[1], further[2])
    name = _unwrapped(name)
    outer = _outer(name, hf.OUTER)
    if outer is not None:
        return outer
    match = _LAYER.fullmatch(name)
    return None if match is None else _in_layer(match[3], int(match[2]), _STACKS[match[1]])


def _gguf(name: str) -> Name | None:
    outer = _outer(name, gguf.OUTER)
    if outer is not None:
        return outer
    match = _BLK.fullmatch(name)
    if match is None:
        return None
    layer, stack, rest = int(match[2]), _STACKS[match[1]], match[3]
    if rest == f"{gguf.RELATIVE_BIAS}.weight" and layer == 0:
        return _relative_bias(stack)
    found = _gguf_rest(rest)
    return Name(found, layer, stack) if found else None


def _relative_bias(stack: str) -> Name:
    """The T5 table in the first layer of a stack: that of the stack, or of the layer itself."""
    return Name(readings(f"{stack}rel_bias | {stack}layers.0.attn.rel_bias", "weight"))


def _outer(name: str, table: Mapping[str, str]) -> Name | None:
    module, _, suffix = name.rpartition(".")
    target = table.get(module)
    return Name(readings(target, suffix)) if target is not None and suffix in _SUFFIXES else None


def _in_layer(rest: str, layer: int, stack: str) -> Name | None:
    if rest == f"{hf.RELATIVE_BIAS}.weight" and layer == 0:
        return _relative_bias(stack)
    expert = _EXPERT.search(rest)
    if expert is not None:
        rest = f"{rest[: expert.start()]}experts.*.{rest[expert.end() :]}"
    found = _hf_rest(_HEAD_NORM.sub(".norms.*.", rest))
    return Name(found, layer, stack, None if expert is None else int(expert[1])) if found else None


def _further(layer: str | None, rest: str) -> Name:
    """A name below ``mtp.``; one that no table has is of such a layer all the same."""
    if layer is not None:
        return _in_layer(rest, int(layer), MTP) or Name(layer=int(layer), stack=MTP)
    module, _, suffix = rest.rpartition(".")
    target = hf.FURTHER_OUTER.get(module) if suffix in _SUFFIXES else None
    return Name(() if target is None else readings(target, suffix), layer=0, stack=MTP)


@lru_cache(maxsize=4096)
def _hf_rest(rest: str) -> tuple[Reading, ...]:
    return _rest(rest, hf.PARAMETERS, hf.LAYER, hf.FURTHER)


@lru_cache(maxsize=4096)
def _gguf_rest(rest: str) -> tuple[Reading, ...]:
    return _rest(rest, gguf.PARAMETERS, gguf.LAYER, gguf.FURTHER)


def _rest(rest: str, parameters: Mapping[str, str], *modules: Mapping[str, str]) -> tuple[Reading, ...]:
    """The readings of what stands behind a layer's number, by all tables that have it."""
    found = list(readings(parameters[rest], None)) if rest in parameters else []
    module, _, suffix = rest.rpartition(".")
    for table in modules if suffix in _SUFFIXES else ():
        if module in table:
            found += readings(table[module], suffix)
    return tuple(dict.fromkeys(found))


def _unwrapped(name: str) -> str:
    """A name without the wrappers before it."""
    while True:
        wrapper = next((each for each in hf.WRAPPERS if name.startswith(each)), None)
        if wrapper is None:
            return name
        name = name[len(wrapper) :]

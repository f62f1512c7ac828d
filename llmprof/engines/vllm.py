"""vLLM: pages of a fixed number of tokens, in groups of layers that share a table of pages.

Rules read in https://github.com/vllm-project/vllm (all read 2026-11-24). Beside those of `pages.py`: shapes and dtypes
of states in vllm/model_executor/layers/mamba/mamba_utils.py at 2afe1e8573cf51b73569ae1d35f59078a2032a91, the page of a
hybrid model in vllm/model_executor/models/config.py at 1936cf3841edb9781b06c50fc4daf4bac9d3b23e
(`HybridAttentionMambaModelConfig`, without prefix caching), KV heads of a device in vllm/config/model.py
(`get_num_kv_heads`), the keys of an indexer in vllm/model_executor/models/deepseek_v2.py (`Indexer.k_cache`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmprof.engines import kept
from llmprof.engines.pages import Group, Pages, groups_of
from llmprof.engines.result import EngineCache, gathered
from llmprof.engines.sharded import heads_of_a_device, state_of_a_device
from llmprof.errors import InputError
from llmprof.predict.formats import Format
from llmprof.spec.arch import ArchSpec
from llmprof.workload import QUANTISED, Workload

PAGE_TOKENS = 16
"""vLLM's own number of tokens to a page."""

REPLICATED = "heads replicated on devices"
SCALES = "scales in fp32"
INDEX = "keys of the indexer in fp8, with a scale for every 128 values"
PAGES = "whole pages"
PADDING = "padding layers of groups"
STATES = "states in the activations' dtype"
FILLED = "states filled up to a page"
UNCONFIRMED = "rules read in vLLM's source, which was not run here; public logs of seven models agree (docs/engines.md)"

_INDEX_BLOCK, _SCALE_BYTES = 128, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmSetting:
    """What is said to vLLM. `state_dtype`: ``auto`` is the activations', ``fp32`` what some models ask for."""

    page_tokens: int = PAGE_TOKENS
    tensor_parallel: int = 1
    state_dtype: Literal["auto", "fp32"] = "auto"


DEFAULT = VllmSetting()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedGroup:
    """A group, and the index of the layer of the decoder that each of its `group.layers` is of."""

    group: Group
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A cache of one layer for one sequence: its pages, and how what lies in them differs from the architecture's own.

    `steps` are reasons and bytes on all devices; with the architecture's own bytes they sum to `used` on every device.
    """

    pages: Pages
    steps: tuple[tuple[str, int], ...]
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    parts: tuple[_Part, ...]
    groups: tuple[Group, ...]
    page_tokens: int


def vllm_cache(arch: ArchSpec, workload: Workload, setting: VllmSetting = DEFAULT) -> EngineCache:
    """What vLLM keeps for `batch` sequences at `context` tokens, on all devices together.

    InputError for what it has not: a cache in int4, RWKV-4 and RG-LRU, layers that do not shard, pages that cannot be
    made equally large.
    """
    layers = kept.cached_layers(arch, workload)
    layout = _layout(layers, workload, setting)
    devices = f", {setting.tensor_parallel} devices together" if setting.tensor_parallel > 1 else ""
    tables = f" in {len(layout.groups)} groups" if len(layout.groups) > 1 else ""
    return EngineCache(
        engine="vllm",
        setting=f"pages of {layout.page_tokens:,} tokens{tables}{devices}",
        own_kv_bytes=kept.own_kv_bytes(layers, workload),
        own_state_bytes=kept.own_state_bytes(layers, workload),
        kv_differences=gathered(_differences(layout, workload, setting, states=False)),
        state_differences=gathered(_differences(layout, workload, setting, states=True)),
        unconfirmed=UNCONFIRMED,
    )


def tokens_in(arch: ArchSpec, workload: Workload, nbytes: int, setting: VllmSetting = DEFAULT) -> int:
    """vLLM's "GPU KV cache size": the tokens that `nbytes` of each device hold, to the page.

    Every group takes an equal part of the pages, whatever a window would leave of it. 0 without pages of tokens.
    """
    layout = _layout(kept.cached_layers(arch, workload), workload, setting)
    if not layout.groups:
        return 0
    blocks = nbytes // max(group.block_bytes for group in layout.groups)
    # A state's page stands for the whole sequence, so that only pages of tokens can be the smallest.
    smallest = min(
        (layer.page_tokens for group in layout.groups for layer in group.layers if layer.kind != "state"), default=0
    )
    return blocks // len(layout.groups) * smallest


def page_groups(arch: ArchSpec, workload: Workload, setting: VllmSetting = DEFAULT) -> tuple[PlacedGroup, ...]:
    """The tables of pages of one device, each with the layers of the decoder that its pages belong to.

    Lengths and batch of `workload` do not matter. InputError as `vllm_cache` has it.
    """
    layers = kept.cached_layers(arch, workload)
    # In the order of `_layout`: all rows, then all states.
    places = [index for index, layer in enumerate(layers) for _ in layer.rows]
    places += [index for index, layer in enumerate(layers) for _ in layer.states]
    return tuple(
        PlacedGroup(group=group, layers=tuple(places[member] for member in group.members))
        for group in _layout(layers, workload, setting).groups
    )


def _differences(
    layout: _Layout, workload: Workload, setting: VllmSetting, *, states: bool
) -> Iterator[tuple[str, int]]:
    b, devices = workload.batch, setting.tensor_parallel
    for part in layout.parts:
        if (part.pages.kind == "state") != states:
            continue
        for reason, nbytes in part.steps:
            yield reason, b * nbytes
    for group in layout.groups:
        first = group.layers[0]
        if (first.kind == "state") == states:
            count = first.count(workload.context, workload.source_tokens)
            yield PADDING, b * devices * group.padding * first.page_bytes * count
    # What is used lies in pages; the groups know how large these became.
    used = b * devices * sum(part.used for part in layout.parts if (part.pages.kind == "state") == states)
    held = (
        b
        * devices
        * sum(
            layer.page_bytes * layer.count(workload.context, workload.source_tokens)
            for group in layout.groups
            for layer in group.layers
            if (layer.kind == "state") == states
        )
    )
    yield (FILLED if states else PAGES), held - used


def _layout(layers: tuple[kept.LayerKept, ...], workload: Workload, setting: VllmSetting) -> _Layout:
    rows = [(layer.path, each) for layer in layers for each in layer.rows]
    states = [(layer.path, each) for layer in layers for each in layer.states]
    state_parts = [_state_part(path, state, workload, setting) for path, state in states]
    page_tokens = setting.page_tokens
    filled = max((part.used for part in state_parts), default=0)
    if rows and filled:
        # A page of tokens must be at least as large as a state; a state is then filled up to it.
        path, first = rows[0]
        one_token = _device_row_bytes(path, first, workload, setting)
        aligned = 64 if first.what == "latent" else 16
        page_tokens = max(page_tokens, aligned * -(-filled // (aligned * one_token)))
        filled = page_tokens * one_token
    parts = [_rows_part(path, each, workload, setting, page_tokens) for path, each in rows]
    for part in state_parts:
        pages = Pages(
            kind="state", reach=0, shape=part.pages.shape, page_tokens=1, page_bytes=filled if rows else part.used
        )
        parts.append(_Part(pages=pages, steps=part.steps, used=part.used))
    return _Layout(parts=tuple(parts), groups=groups_of([part.pages for part in parts]), page_tokens=page_tokens)


def _rows_part(path: str, rows: kept.Rows, workload: Workload, setting: VllmSetting, page_tokens: int) -> _Part:
    own = kept.kv_format(workload)
    engine = _format(path, rows, workload)
    heads = heads_of_a_device(path, rows, setting.tensor_parallel)
    tokens, devices = rows.tokens(workload), setting.tensor_parallel
    one_head = sum(own.row_bytes(width) for width in rows.widths)
    engine_head = sum(engine.row_bytes(width) for width in rows.widths)
    if rows.window is not None:
        kind, reach = "window", rows.window
    elif rows.chunk is not None:
        kind, reach = "chunk", rows.chunk
    else:
        kind, reach = ("cross" if rows.of_source else "full"), 0
    row = heads * engine_head
    return _Part(
        pages=Pages(
            kind=kind,  # type: ignore[arg-type]
            reach=reach,
            shape=(rows.what, heads, rows.widths),
            page_tokens=page_tokens,
            page_bytes=page_tokens * row,
        ),
        steps=(
            (REPLICATED, (devices * heads - rows.heads) * one_head * tokens),
            (INDEX if rows.what == "index" else SCALES, devices * heads * (engine_head - one_head) * tokens),
        ),
        used=row * tokens,
    )


def _device_row_bytes(path: str, rows: kept.Rows, workload: Workload, setting: VllmSetting) -> int:
    engine = _format(path, rows, workload)
    heads = heads_of_a_device(path, rows, setting.tensor_parallel)
    return heads * sum(engine.row_bytes(width) for width in rows.widths)


def _format(path: str, rows: kept.Rows, workload: Workload) -> Format:
    """The format of vLLM's rows: int8 has a scale in fp32 per token and head; an indexer's keys are in fp8 always."""
    dtypes = workload.dtypes
    if rows.what == "index":
        (width,) = rows.widths
        if width % _INDEX_BLOCK:
            raise InputError(f"{path}: vLLM keeps an indexer's keys in blocks of 128, and they have {width}")
        return Format("fp8", 8, scale_bytes=_SCALE_BYTES, group=_INDEX_BLOCK)
    own = kept.kv_format(workload)
    if dtypes.kv_cache == "int4":
        raise InputError("vLLM has no cache in int4; use fp32, bf16, fp16, fp8 or int8")
    if dtypes.kv_cache not in QUANTISED and own.bits > 8 * kept.dtype_bytes(workload):
        raise InputError(f"vLLM has no cache wider than the activations ({dtypes.activations}); leave --kv-dtype out")
    return Format("int8", 8, scale_bytes=_SCALE_BYTES) if dtypes.kv_cache == "int8" else own


def _state_part(path: str, state: kept.State, workload: Workload, setting: VllmSetting) -> _Part:
    devices = setting.tensor_parallel
    core, conv = state_of_a_device(path, state, devices)
    size = kept.dtype_bytes(workload)
    core_bytes = kept.FP32_BYTES if setting.state_dtype == "fp32" else size
    used = core * core_bytes + conv * size
    return _Part(
        pages=Pages(kind="state", reach=0, shape=(state.mixer,), page_tokens=1, page_bytes=used),
        steps=(
            (REPLICATED, (devices * conv - state.conv_channels * (state.d_conv - 1)) * size),
            (STATES, devices * core * (core_bytes - kept.FP32_BYTES)),
        ),
        used=used,
    )

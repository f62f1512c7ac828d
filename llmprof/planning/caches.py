"""What a device keeps of every sequence between passes: as the architecture needs it, and in the pages of vLLM.

All is of one sequence, and a batch of them keeps as often as much. Heads are divided among tensor-parallel devices and
layers among stages (docs/reference-sharding.md, section 4; docs/engines.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from llmprof.engines import kept
from llmprof.engines.pages import Pages
from llmprof.engines.sharded import heads_of_a_device
from llmprof.engines.vllm import PlacedGroup, VllmSetting, page_groups
from llmprof.errors import InputError
from llmprof.planning.passes import Passes, Peaks
from llmprof.sharding_stages import stage_of_layers
from llmprof.workload import Workload


class Caches:
    """The caches of the architecture of `passes`, on a device of each stage.

    Raises InputError where its vLLM pages are asked for and vLLM has none.
    """

    def __init__(self, passes: Passes) -> None:
        self.passes = passes
        self.arch, self.spread = passes.arch, passes.spread
        self._whole: dict[int, tuple[Peaks, Peaks]] = {}

    # --- the architecture's own -----------------------------------------------------------------

    def own(self, tokens: int) -> Peaks:
        """Bytes of the rows that tokens add to, at `tokens` of a sequence; what `count` says of one device."""
        lines = self._lines
        if lines is None:
            return self._predicted(tokens)[0]
        source = self.passes.source_tokens(tokens)
        return tuple(
            sum(
                each * (source if of_source else tokens if reach is None else min(tokens, reach))
                for (reach, of_source), each in stage.items()
            )
            for stage in lines
        )

    def state(self) -> Peaks:
        """Bytes of the states that no length changes."""
        if self._lines is not None and self.spread.sharding.tensor_parallel == 1:
            return self._states
        return self._predicted(1)[1]

    @cached_property
    def _layers(self) -> tuple[kept.LayerKept, ...] | None:
        """What the layers keep; None where only a prediction knows."""
        try:
            return kept.cached_layers(self.arch, self._any)
        except InputError:
            # An attention that no engine has: the architecture's own bytes are predicted all the same.
            return None

    @cached_property
    def _lines(self) -> tuple[dict[tuple[int | None, bool], int], ...] | None:
        """Of each stage: (reach, whether of the source) -> bytes of a token in all its layers."""
        if self._layers is None:
            return None
        format = kept.kv_format(self._any)
        found: tuple[dict[tuple[int | None, bool], int], ...] = tuple({} for _ in range(self.spread.stages))
        for stage, layer in self._placed():
            for rows in layer.rows:
                heads = heads_of_a_device(layer.path, rows, self.spread.sharding.tensor_parallel)
                key = rows.reach, rows.of_source
                each = heads * sum(format.row_bytes(width) for width in rows.widths)
                found[stage][key] = found[stage].get(key, 0) + each
        return found

    @cached_property
    def _states(self) -> Peaks:
        size = kept.dtype_bytes(self._any)
        found = [0] * self.spread.stages
        for stage, layer in self._placed():
            found[stage] += sum(state.nbytes(size) for state in layer.states)
        return tuple(found)

    def _placed(self) -> Iterator[tuple[int, kept.LayerKept]]:
        assert self._layers is not None
        return ((self._stages[index], layer) for index, layer in enumerate(self._layers))

    def _predicted(self, tokens: int) -> tuple[Peaks, Peaks]:
        found = self._whole.get(tokens)
        if found is None:
            workload = self.passes.at_rest(tokens)
            if self.spread.alone:
                made = self.passes.predicted(workload)
                found = (made.kv_cache_bytes,), (made.recurrent_state_bytes,)
            else:
                ranks = self.passes.ranks(workload)
                found = tuple(r.kv_cache_bytes for r in ranks), tuple(r.recurrent_state_bytes for r in ranks)
            self._whole[tokens] = found
        return found

    # --- pages ----------------------------------------------------------------------------------

    @cached_property
    def _groups(self) -> tuple[PlacedGroup, ...]:
        setting = VllmSetting(tensor_parallel=self.spread.sharding.tensor_parallel)
        return page_groups(self.arch, self._any, setting)

    @cached_property
    def block_bytes(self) -> Peaks:
        """Bytes of an entry of any table of pages: a page in each of the layers that its largest group has there.

        Groups are of the whole model; a stage keeps the pages of its own layers (vllm 0.19.0,
        vllm/v1/core/kv_cache_utils.py, `get_kv_cache_configs`).
        """
        if self.spread.stages == 1:
            return (max((placed.group.block_bytes for placed in self._groups), default=0),)
        found = [0] * self.spread.stages
        for placed in self._groups:
            inside = [0] * self.spread.stages
            for page, layer in zip(placed.group.layers, placed.layers, strict=True):
                inside[self._stages[layer]] += page.page_bytes
            found = [max(pair) for pair in zip(found, inside, strict=True)]
        return tuple(found)

    def blocks(self, tokens: int) -> int:
        """Entries of all tables that a sequence holds at most after any pass on its way to `tokens`."""
        source = self.passes.source_tokens(tokens)
        return sum(_on_the_way(placed.group.layers[0], tokens, source) for placed in self._groups)

    def blocks_at_most(self, tokens: int, passes: int) -> int:
        """Those that it holds while its prompt is computed in chunks: what vLLM divides its pool by when it starts.

        `passes` are in flight at once, and windows keep the tokens of all of them. Read in vllm 0.19.0 and 0.33.0,
        vllm/v1/kv_cache_interface.py, `max_memory_usage_bytes`, on 2026-11-30.
        """
        source, flight = self.passes.source_tokens(tokens), passes * self.passes.chunk
        return sum(_most(placed.group.layers[0], tokens, source, flight) for placed in self._groups)

    # --- parts ----------------------------------------------------------------------------------

    @cached_property
    def _stages(self) -> tuple[int, ...]:
        """The stage of every layer."""
        return stage_of_layers(self.spread.sharding.stage_depths(self.arch.n_layers))

    @property
    def _any(self) -> Workload:
        """A pass of some length: its dtypes alone matter."""
        return self.passes.at_rest(1)


def _on_the_way(pages: Pages, tokens: int, source: int) -> int:
    """The most pages of a layer that a sequence holds after any pass up to `tokens`.

    Windows and chunks give pages back, so that a few tokens less may hold a page more: a window does when its newest
    token begins a page, and a chunk when it is full.
    """
    match pages.kind:
        case "full" | "cross" | "state":
            return pages.count(tokens, source)
        case "window":
            return pages.count((tokens - 1) // pages.page_tokens * pages.page_tokens + 1, source)
        case "chunk":
            # Where chunks end within pages repeats after as many chunks as a page has tokens.
            full = range(1, min(tokens // pages.reach, pages.page_tokens) + 1)
            ends = (pages.count(number * pages.reach, source) for number in full)
            return max(pages.count(tokens, source), *ends, 0)


def _most(pages: Pages, tokens: int, source: int, flight: int) -> int:
    """The pages of a layer while `flight` tokens of a prompt of `tokens` are being computed."""
    match pages.kind:
        case "full" | "cross" | "state":
            return pages.count(tokens, source)
        case "window":
            return -(-min(pages.reach - 1 + flight, tokens) // pages.page_tokens) + 1
        case "chunk":
            return -(-min(pages.reach + flight, tokens) // pages.page_tokens)

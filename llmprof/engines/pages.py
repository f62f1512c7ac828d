"""vLLM's layers of cache and the groups that its allocator puts them into.

Rules read in https://github.com/vllm-project/vllm (all read 2026-11-24): bytes of a page in
vllm/v1/kv_cache_interface.py and groups in vllm/v1/core/kv_cache_utils.py (`get_kv_cache_groups`,
`unify_kv_cache_spec_page_size`, `_get_kv_cache_groups_uniform_page_size`), both at
001cabc1be16a59a70d720ed61a13b678c060a18.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llmprof.errors import InputError

Kind = Literal["full", "window", "chunk", "cross", "state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The pages of one layer on one device. Layers are of a group where all of this is equal.

    `kind` and `reach` (of a window or chunk) say which pages are kept; `shape` is what else tells caches apart. A page
    has `page_tokens` tokens and `page_bytes` bytes; a state is one page.
    """

    kind: Kind
    reach: int
    shape: tuple[object, ...]
    page_tokens: int
    page_bytes: int

    def count(self, context: int, source_tokens: int) -> int:
        """Pages of one sequence when the token at position `context` - 1 is computed, `context` - 1 being computed.

        Those that lie wholly before the window or chunk of that token have been given back: vLLM's
        vllm/v1/core/single_type_kv_cache_manager.py at 129ab7c60cbb8eb11e875373e67f7e521b74aa30,
        `get_num_skipped_tokens`, read 2026-11-24.
        """
        match self.kind:
            case "state":
                return 1
            case "cross":
                return -(-source_tokens // self.page_tokens)
            case "window":
                skipped = max(0, context - self.reach)
            case "chunk":
                skipped = (context - 1) // self.reach * self.reach
            case "full":
                skipped = 0
        return -(-context // self.page_tokens) - skipped // self.page_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that share a table of pages; `padding` layers keep pages and exist for the groups' equal size alone.

    `members` says where in the sequence that was grouped each of `layers` stood.
    """

    layers: tuple[Pages, ...]
    padding: int = 0
    members: tuple[int, ...] = ()

    @property
    def block_bytes(self) -> int:
        """Bytes of one entry of the table: a page in every layer."""
        return sum(layer.page_bytes for layer in self.layers) + self.padding * self.layers[0].page_bytes


def groups_of(layers: Sequence[Pages]) -> tuple[Group, ...]:
    """The groups of all layers with a cache. InputError where pages cannot be brought to one size.

    One group where all layers keep the same tokens; else groups of equal size, which is the number of layers of the
    rarest cache, or of the most frequent where that is less than one and a half times as many.
    """
    if not layers:
        return ()
    if len({(layer.kind, layer.reach, layer.page_tokens) for layer in layers}) == 1:
        return (Group(layers=tuple(layers), members=tuple(range(len(layers)))),)
    alike: dict[Pages, list[int]] = {}
    for index, layer in enumerate(_of_one_size(layers)):
        alike.setdefault(layer, []).append(index)
    least, most = min(map(len, alike.values())), max(map(len, alike.values()))
    size = most if 2 * most < 3 * least else least
    made = []
    for layer, places in alike.items():
        tables = -(-len(places) // size)
        # Layers are dealt out one by one, so that the padding spreads over the last groups.
        for table in range(tables):
            held = tuple(places[table::tables])
            made.append(Group(layers=(layer,) * len(held), padding=size - len(held), members=held))
    return tuple(made)


def _of_one_size(layers: Sequence[Pages]) -> list[Pages]:
    """The layers with as many tokens to a page as make all pages equally large."""
    largest = max(layer.page_bytes for layer in layers)
    made = []
    for layer in layers:
        times, rest = divmod(largest, layer.page_bytes)
        if rest or (times > 1 and layer.kind == "state"):
            raise InputError(f"vLLM cannot bring pages of {layer.page_bytes:,} and of {largest:,} bytes to one size")
        made.append(replace(layer, page_tokens=layer.page_tokens * times, page_bytes=largest))
    return made

"""Counts what autograd saves for backward, by the leaf that saves it first, through the hooks that it has for that."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn

from llmprof.twin.block import Layer
from llmprof.twin.leaf import Leaf
from llmprof.twin.model import Twin


@dataclass(slots=True, weakref_slot=True)
class _Saved:
    """What autograd keeps in the place of a saved tensor; it goes when the node that saved it goes."""

    path: str
    storage: UntypedStorage


class SavedBytes:
    """`saved_bytes` per path. Forward passes within `watching` save nothing: no backward can follow them.

    `ignored` are the tensors that live anyway, parameters and constants.
    """

    def __init__(self, *, ignored: Iterable[Tensor]) -> None:
        self._ignored = {storage._cdata: storage for storage in (tensor.untyped_storage() for tensor in ignored)}
        self._notes: list[weakref.ref[_Saved]] = []
        self._found: dict[int, _Saved] = {}
        self._path: list[str] = []

    @property
    def by_path(self) -> Mapping[str, int]:
        """Bytes of the paths that saved something: leaves, and layers that are to run again."""
        found: Counter[str] = Counter()
        for saved in self._found.values():
            found[saved.path] += saved.storage.nbytes()
        return found

    def together_with(self, *others: Tensor) -> int:
        """Bytes of all that was saved and of the storages of `others`, each once."""
        whole = {key: saved.storage for key, saved in self._found.items()}
        whole.update((storage._cdata, storage) for storage in (other.untyped_storage() for other in others))
        return sum(storage.nbytes() for storage in whole.values())

    def _save(self, tensor: Tensor) -> _Saved:
        saved = _Saved(self._path[-1] if self._path else "", tensor.untyped_storage())
        self._notes.append(weakref.ref(saved))
        return saved

    def _settle(self) -> None:
        """Look at what is still saved: nodes that lead to nothing have let go of theirs."""
        for saved in (note() for note in self._notes):
            if saved is not None and saved.storage._cdata not in self._ignored:
                self._found.setdefault(saved.storage._cdata, saved)

    @contextmanager
    def watching(self, twin: Twin) -> Iterator[None]:
        """Count what the enclosed forward pass of `twin` saves; its result must outlive the block."""

        def attribute(path: str, module: nn.Module) -> list[Any]:
            def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
                self._path.append(path)

            def leave(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
                self._path.pop()

            return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]

        def refuse(_: Any) -> Tensor:
            raise RuntimeError("a pass that was watched saved nothing; run backward on another")

        places = [(path, m) for path, m in twin.named_modules() if isinstance(m, Leaf | Layer)]
        hooks = [hook for path, module in places for hook in attribute(path, module)]
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._save, refuse):
                yield
            self._settle()
        finally:
            for hook in hooks:
                hook.remove()

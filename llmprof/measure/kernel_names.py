"""Which kernel or reference each core ran, told by the ops that were seen there and by nothing that was planned."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from llmprof.measure.trace import Launch
from llmprof.twin.desk import Prepares
from llmprof.twin.model import Twin


class KernelNames:
    """The kernel of each core that ran, by the core's path."""

    def __init__(self, twin: Twin) -> None:
        self._known = {path: module for path, module in twin.named_modules() if isinstance(module, Prepares)}
        self._seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._last: dict[str, str] = {}

    def observe(self, launch: Launch) -> None:
        """Note an op of a core, or of a leaf beside one."""
        path, _, leaf = launch.path.rpartition(".")
        if launch.is_kernel and path in self._known:
            op = launch.op._schema.name.removeprefix("aten::")
            name = op if leaf == self._known[path].core_leaf else f"{leaf}.{op}"
            self._seen[path][name] += 1
            self._seen[path][f"{self._last.get(path)} {name}"] += 1
            self._last[path] = name

    @property
    def by_path(self) -> Mapping[str, str]:
        """The first reference of a core's kind that fits what was seen; cores that fit none are missing."""
        found: dict[str, str] = {}
        for path, seen in self._seen.items():
            for reference in self._known[path].references:
                if all(seen[op] >= times for op, times in reference.ops.items()):
                    found[f"{path}.{self._known[path].core_leaf}"] = reference.name
                    break
        return found

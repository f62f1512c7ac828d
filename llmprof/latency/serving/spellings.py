"""How tables of served runs spell a model: short names, copies by other owners, folders of a hub's cache.

What is understood stands for one spec of the catalogue or for none: a name that fits two is refused.
"""

from __future__ import annotations

import re

from llmprof import catalog
from llmprof.spec.nodes import Scalar, Seq
from llmprof.spec.source import read_file
from llmprof.spec.yamlload import parse

ALIKE = {
    "qwen3_235b": "qwen3-235b-a22b",
    "qwen3_480b": "qwen3-coder-480b-a35b",
    "moe_mixtral8x7b": "mixtral-8x7b",
    "moe_mixtral8x22b": "mixtral-8x22b",
    "nemotron_super_v1.1": "nemotron-super-49b",
    "kimi-k2-instruct-0905": "kimi-k2",
    "kimi-k2.5": "kimi-k2-thinking",
    "minimax-m2.7": "minimax-m2",
}
"""Names that are no alias, and a spec with the same layers: it may state fewer positions, which decide no time.

Short names are those of ai-dynamo/aiconfigurator (sdk/common.py of its first releases, SupportedModels: the same layers
and widths); Kimi-K2-Instruct-0905 has 262,144 positions (recalled), MiniMax-M2.7 204,800 (config.json of
https://huggingface.co/amd/MiniMax-M2.7-BF16, read 2026-11-30), and Kimi-K2.5 a tower of images that text does not pass
(the notes of kimi-k2-thinking).
"""


def of_path(path: str) -> tuple[str, str]:
    """The owner ('' where none is said) and the repository of a path.

    A hub's cache keeps ``owner/name`` in a folder ``models--owner--name``, and other folders end in the repository.
    """
    cached = re.search(r"(?:^|/)(?:models--)?([^/]+?)--([^/]+)(?:/|$)", path)
    if cached:
        return cached[1], cached[2]
    owner, _, repository = path.rstrip("/").rpartition("/")
    return owner, repository


def spec_called(owner: str, repository: str) -> catalog.Entry | None:
    """The one spec of this repository, under its owner or else under any, however its words are joined.

    None where no spec is called so, or several are.
    """
    wanted, name, alike = _key(repository), f"{owner}/{repository}".lower(), ALIKE.get(repository.lower())
    fits: dict[str, catalog.Entry] = {}
    for entry in catalog.entries():
        if entry.path.parent.parent.name != "models":
            continue
        if entry.name == alike:
            return entry
        text = read_file(entry.path)
        if _key(entry.name) == wanted:
            fits[entry.name] = entry
        elif wanted in _key(text):
            for alias in _aliases(text, str(entry.path)):
                if alias == name:
                    return entry
                if _key(alias.rpartition("/")[2]) == wanted:
                    fits[entry.name] = entry
    return next(iter(fits.values())) if len(fits) == 1 else None


def _key(text: str) -> str:
    """``LLAMA3.1_8B`` and ``llama-3.1-8b`` are one name."""
    return re.sub("[-_]", "", text.lower())


def _aliases(text: str, file: str) -> list[str]:
    written = parse(text, file=file).get("aliases")
    items = written.items if isinstance(written, Seq) else ()
    return [item.text.lower() for item in items if isinstance(item, Scalar)]

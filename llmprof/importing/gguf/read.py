"""From a GGUF file to a spec: the table of its architecture makes a config, and the family's table reads that."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llmprof.errors import SpecError
from llmprof.importing.gguf import dense, experts, gemma, older
from llmprof.importing.gguf.keys import Keys
from llmprof.importing.headers.gguf import read_gguf
from llmprof.importing.headers.reading import wrong
from llmprof.importing.headers.tensor import StoredFile
from llmprof.importing.jsontext import JsonText, shown
from llmprof.importing.read import Imported, import_config
from llmprof.spec.words import did_you_mean

ARCHITECTURE = "general.architecture"

TABLES: Mapping[str, Callable[[Keys], str]] = MappingProxyType(
    {
        "bloom": older.bloom,
        "deepseek2": experts.deepseek2,
        "falcon": older.falcon,
        "gemma": gemma.gemma,
        "gemma2": gemma.gemma2,
        "gemma3": gemma.gemma3,
        "gpt-oss": experts.gpt_oss,
        "gpt2": older.gpt2,
        "gptneox": older.gpt_neox,
        "granite": dense.granite,
        "llama": dense.llama,
        "mamba": older.mamba,
        "olmo2": dense.olmo2,
        "phi3": dense.phi3,
        "qwen2": dense.qwen2,
        "qwen2moe": experts.qwen2moe,
        "qwen3": dense.qwen3,
        "qwen3moe": experts.qwen3moe,
        "starcoder2": dense.starcoder2,
    }
)
"""``general.architecture`` -> its table, which fills the fields of a config and returns its ``model_type``."""


def read_gguf_spec(path: Path, *, name: str | None = None) -> Imported:
    """The architecture that the metadata of a GGUF file describes.

    Raises SpecError where the header is wrong, of an architecture without a table, or has a key that is not understood.
    """
    return import_gguf(read_gguf(path), path, name=name)


def import_gguf(file: StoredFile, path: Path, *, name: str | None = None) -> Imported:
    """The same of a header that has been read already."""
    config, keys = config_of(file)
    source = JsonText(file.path, json.dumps(config, ensure_ascii=True), config)
    where = f"the header: {ARCHITECTURE} {keys.architecture}, {len(file.tensors):,} tensors"
    try:
        return import_config(source, path, name=name, where=where, remarks=keys.remarks)
    except SpecError as error:
        raise keys.renamed(error) from None


def config_of(file: StoredFile) -> tuple[dict[str, Any], Keys]:
    """The config that the metadata come to, and what was read of them."""
    architecture = file.metadata.get(ARCHITECTURE)
    table = TABLES.get(architecture) if isinstance(architecture, str) else None
    if table is None:
        near = did_you_mean(architecture, list(TABLES)) if isinstance(architecture, str) else None
        found = "the key is missing" if architecture is None else f"found {shown(architecture)}"
        raise wrong(file.path, ARCHITECTURE, found, "one of " + ", ".join(TABLES), near or None)
    assert isinstance(architecture, str)
    keys = Keys(file, architecture)
    model_type = table(keys)
    keys.finish()
    called = file.metadata.get("general.name")
    title = {"_name_or_path": called} if isinstance(called, str) else {}
    return {"model_type": model_type, **title, **keys.fields}, keys

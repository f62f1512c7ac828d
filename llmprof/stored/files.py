"""Which references are files of weights, and reading them."""

from __future__ import annotations

import os
from pathlib import Path

from llmprof.importing.headers.gguf import read_gguf
from llmprof.importing.headers.safetensors import read_safetensors
from llmprof.importing.headers.shards import INDEX, read_folder, read_index
from llmprof.importing.headers.tensor import StoredFile
from llmprof.spec.source import whole_file

GGUF, SAFETENSORS = ".gguf", ".safetensors"


def is_weights(ref: str) -> bool:
    """Whether a reference is surely a file of weights, an index of such files, or a folder that has some."""
    if ref.endswith((SAFETENSORS, INDEX, GGUF)):
        return True
    return os.path.isdir(ref) and has_weights(Path(ref))


def has_weights(folder: Path) -> bool:
    """Whether a folder has a file of weights."""
    try:
        return any(each.name.endswith((SAFETENSORS, INDEX, GGUF)) for each in folder.iterdir())
    except OSError:
        return False


def read_weights(path: Path) -> StoredFile:
    """The headers of a file, of the shards that an index names, or of the release in a folder.

    Raises SpecError where there is none, or where one is wrong.
    """
    if path.is_dir():
        ggufs = sorted(each for each in path.iterdir() if each.name.endswith(GGUF)) if has_weights(path) else []
        if len(ggufs) == 1 and not any(each.name.endswith((SAFETENSORS, INDEX)) for each in path.iterdir()):
            return read_gguf(ggufs[0])
        if ggufs:
            raise whole_file(str(path), f"{len(ggufs)} GGUF files, and what else there is", "a folder of one release")
        return read_folder(path)
    if path.name.endswith(INDEX):
        return read_index(path)
    return read_gguf(path) if path.name.endswith(GGUF) else read_safetensors(path)

"""Which reader a file of the world goes to, by what it is."""

from __future__ import annotations

from pathlib import Path

from llmprof.importing.read import CONFIG, Imported, read_config
from llmprof.spec.source import whole_file

SAFETENSORS = (".safetensors", ".safetensors.index.json")
GGUF = ".gguf"


def read_file(path: Path, *, name: str | None = None) -> Imported:
    """The architecture in a config, in the header of a GGUF file, or in a folder that has one of the two.

    A safetensors file names tensors and no architecture: the config beside it is read. Raises SpecError where there is
    none, or where it is not understood.
    """
    if path.name.lower().endswith(GGUF) and not path.is_dir():
        return _gguf(path, name)
    if path.name.lower().endswith(SAFETENSORS) and not path.is_dir():
        beside = path.with_name(CONFIG)
        if beside.is_file():
            return read_config(beside, name=name)
        raise whole_file(
            str(path),
            f"tensors without an architecture, and no {CONFIG} beside them",
            f"the {CONFIG} of the model, or a spec",
            hint="`llmprof compare SPEC FILE` explains a file of weights by a spec",
        )
    if path.is_dir() and not (path / CONFIG).is_file():
        files = sorted(each for each in path.iterdir() if each.name.lower().endswith(GGUF))
        if len(files) == 1:
            return _gguf(files[0], name)
        raise whole_file(str(path), f"a folder without {CONFIG}", "a folder with one, or the file itself")
    return read_config(path, name=name)


def _gguf(path: Path, name: str | None) -> Imported:
    from llmprof.importing.gguf.read import read_gguf_spec  # the readers of headers are of no use to a config

    return read_gguf_spec(path, name=name)

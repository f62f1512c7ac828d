"""A release of several safetensors files: an index, or a folder of shards.

An index is ``{"metadata": {"total_size": bytes}, "weight_map": {tensor: file}}``, as `save_pretrained` writes it
(transformers 5.23.0, https://pypi.org/project/transformers/5.23.0/, read 2026-11-30). It is held against the shards
themselves: their headers say what there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llmprof.importing import jsontext
from llmprof.importing.headers.reading import opened, wrong
from llmprof.importing.headers.safetensors import MAX_HEADER, bounded, read_safetensors
from llmprof.importing.headers.tensor import MAX_TENSORS, StoredFile, StoredTensor
from llmprof.importing.jsontext import shown
from llmprof.spec.nodes import short
from llmprof.spec.source import whole_file

INDEX = ".safetensors.index.json"
MAX_SHARDS = 10_000
_NUMBERED = re.compile(r"(?P<stem>.*-)(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.safetensors", re.DOTALL)
_EXPECTED = "an index of safetensors files"


def read_index(path: Path) -> StoredFile:
    """The tensors of the shards that an index names.

    Raises SpecError where the index or a shard is wrong, where a shard's name leads out of the index's folder, and
    where a tensor is not in its shard, or in another, or in two. The index's ``total_size`` is compared and never
    trusted: it becomes a fact.
    """
    name = str(path)
    root = _index(path)
    weight_map, metadata = root.get("weight_map"), root.get("metadata", {})
    if not isinstance(weight_map, dict) or not weight_map:
        raise wrong(name, "weight_map", f"found {shown(weight_map)}", "an object of tensors and their files")
    if not isinstance(metadata, dict):
        raise wrong(name, "metadata", f"found {shown(metadata)}", "an object")
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or not _is_plain(file):
            raise wrong(name, f"weight_map.{tensor}", f"found {shown(file)}", "the name of a file beside the index")
    shards = sorted(set(weight_map.values()))
    if len(shards) > MAX_SHARDS:
        raise whole_file(name, f"{len(shards):,} files", f"at most {MAX_SHARDS:,}")
    found = _together(name, [path.parent / shard for shard in shards])
    _hold(name, weight_map, found)
    return StoredFile(
        path=name, kind=found.kind, tensors=found.tensors, files=found.files, facts=_total_size(metadata, found)
    )


def read_folder(path: Path) -> StoredFile:
    """The release in a folder: by its one index, its one safetensors file, or its one complete set of numbered shards.

    Raises SpecError where the folder has none of these, or several: nobody should have to guess which one was meant.
    """
    name, names = str(path), _listed(path)
    indices = [each for each in names if each.endswith(INDEX)]
    files = [each for each in names if each.endswith(".safetensors")]
    if len(indices) == 1:
        return read_index(path / indices[0])
    if indices:
        raise whole_file(name, f"several indices: {_some(indices)}", "a folder with one, or the index itself")
    if len(files) == 1 and not _NUMBERED.fullmatch(files[0]):
        return read_safetensors(path / files[0])
    if not files:
        raise whole_file(name, "a folder without safetensors files", "one, an index, or a set of shards")
    return _together(name, [path / each for each in _one_set(name, files)])


def _one_set(name: str, files: list[str]) -> list[str]:
    """The files of the one complete set ``model-00001-of-00003.safetensors`` that a folder is."""
    numbered = [_NUMBERED.fullmatch(file) for file in files]
    sets = {(match["stem"], match["count"]) for match in numbered if match}
    if len(sets) != 1 or not all(numbered):
        raise whole_file(name, f"files that are no one set: {_some(files)}", "an index, one file, or one set of shards")
    ((stem, count),) = sets
    wanted = int(count)
    first = 0 if any(match and match["number"] == "00000" for match in numbered) else 1
    there = {int(match["number"]) for match in numbered if match}
    missing = [n for n in range(first, min(wanted, MAX_SHARDS) + first) if n not in there]
    if missing or len(files) != wanted:
        lacking = f"{stem}{missing[0]:05}-of-{count}.safetensors is missing" if missing else f"{len(files)} files"
        raise whole_file(name, lacking, f"all {wanted:,} shards")
    return files


def _together(name: str, paths: Iterable[Path]) -> StoredFile:
    """The tensors of several files, of which no two may have the same name."""
    tensors: dict[str, StoredTensor] = {}
    files: dict[str, int] = {}
    for path in paths:
        shard = read_safetensors(path)
        files.update(shard.files)
        if len(tensors) + len(shard.tensors) > MAX_TENSORS:
            raise whole_file(name, f"more than {MAX_TENSORS:,} tensors", f"at most {MAX_TENSORS:,} in all files")
        for tensor in shard.tensors:
            other = tensors.setdefault(tensor.name, tensor)
            if other is not tensor:
                raise wrong(name, tensor.name, f"found in {other.file} and in {tensor.file}", "each tensor once")
    return StoredFile(path=name, kind="safetensors", tensors=tuple(tensors.values()), files=files)


def _hold(name: str, weight_map: Mapping[str, str], found: StoredFile) -> None:
    """SpecError where the index and the shards disagree on which tensors there are and where."""
    there = {tensor.name: tensor.file for tensor in found.tensors}
    for tensor, file in weight_map.items():
        if there.get(tensor) != file:
            elsewhere = f"which is in {there[tensor]}" if tensor in there else "which is in none of its files"
            raise wrong(name, f"weight_map.{tensor}", f"found {short(file)} for a tensor {elsewhere}", "its file")
    for tensor, file in there.items():
        if tensor not in weight_map:
            raise wrong(name, f"weight_map.{tensor}", f"not in the index, and in {file}", "every tensor of the files")


def _total_size(metadata: Mapping[str, Any], found: StoredFile) -> tuple[str, ...]:
    """What the index says of the total, against what the headers say."""
    said = metadata.get("total_size")
    if said is None:
        return ("the index states no total_size",)
    if type(said) is int and said == found.nbytes:
        return (f"the index states a total_size of {said:,} bytes, which the headers confirm",)
    return (f"the index states a total_size of {shown(said)}, and the headers come to {found.nbytes:,} bytes",)


def _index(path: Path) -> dict[str, Any]:
    name = str(path)
    with opened(path, _EXPECTED) as (stream, size):
        if size > MAX_HEADER:
            raise whole_file(name, f"{size:,} bytes", f"{_EXPECTED} of at most {MAX_HEADER:,}")
        data = stream.read(MAX_HEADER + 1)
    bounded(data, name, _EXPECTED)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise whole_file(name, "this is not UTF-8 text", _EXPECTED) from None
    root = jsontext.parse(text, name, expected=_EXPECTED, bounded=True)
    if not isinstance(root, dict):
        raise whole_file(name, f"the root is {shown(root)}", _EXPECTED)
    return root


def _is_plain(file: str) -> bool:
    """Whether this names a safetensors file in the folder itself."""
    return file.endswith(".safetensors") and not set("/\\\0:") & set(file)


def _listed(path: Path) -> list[str]:
    """The names in a folder, sorted. SpecError where it cannot be read."""
    try:
        return sorted(each.name for each in path.iterdir())
    except OSError as error:
        raise whole_file(str(path), f"cannot be read: {error.strerror}", "a folder of safetensors files") from None


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(short, names[:3])) + rest

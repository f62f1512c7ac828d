"""From a file of the world to a spec: finds the family, lets its table read the config, and leaves nothing unread."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from llmprof.importing import CONFIG, families, jsontext
from llmprof.importing.common import idle
from llmprof.importing.config import Config
from llmprof.importing.document import Doc, leaves, placed, plain
from llmprof.importing.jsontext import JsonText
from llmprof.importing.quantised import release
from llmprof.importing.released_class import headed
from llmprof.importing.unknown import refuse_family
from llmprof.spec.emit import emit
from llmprof.spec.load import SpecFile, load_tree
from llmprof.spec.nodes import short
from llmprof.spec.words import did_you_mean
from llmprof.spec.yamlload import parse

MOST_DEFAULTS = 8
"""So many are named where there is one line for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A spec that was read from a config.

    `text` is the YAML, comments and all, of the plain `document` under `heading`; loading it gives `spec`'s
    architecture again. `notes` are path of the spec -> what was inferred or defaulted there, `defaults` are field of
    the config -> the default of `family` that was taken for it, `remarks` what was left out and why.
    """

    spec: SpecFile
    document: Doc
    heading: str
    model_type: str
    family: str
    notes: dict[str, str]
    defaults: dict[str, str]
    remarks: tuple[str, ...]

    @property
    def text(self) -> str:
        """The YAML, made when it is asked for: most imports are only counted."""
        return self.heading + emit(self.document, self.notes)

    @property
    def summary(self) -> str:
        """How the file was read, on one line."""
        if not self.defaults:
            return f"read as {self.model_type}; every field that decides something is in the file"
        said = [f"{key} = {value}" for key, value in self.defaults.items()]
        more = f" and {len(said) - MOST_DEFAULTS} more" if len(said) > MOST_DEFAULTS else ""
        return (
            f"read as {self.model_type}; not in the file, so taken from {self.family}: "
            f"{', '.join(said[:MOST_DEFAULTS])}{more} (`llmprof import` lists all)"
        )


def read_config(path: Path, *, name: str | None = None) -> Imported:
    """The architecture in a ``config.json``, or in a folder that has one.

    Raises SpecError where it is no strict JSON, of no known family, or has a field that is not understood, and where
    what it says is no architecture.
    """
    file = path / CONFIG if os.path.isdir(path) else path
    return import_config(jsontext.read(file), file, name=name)


def import_text(text: str, path: PurePath, *, name: str | None = None) -> Imported:
    """The architecture in the text of a config that stands, or stood, at `path`. Raises what `read_config` raises."""
    return import_config(jsontext.decode(text.encode(), str(path)), path, name=name)


def import_config(
    source: JsonText,
    path: PurePath | None,
    *,
    name: str | None = None,
    where: str | None = None,
    remarks: Sequence[str] = (),
) -> Imported:
    """The architecture in a config that has been read already; `path` is its file, `name` the spec's.

    `where` says what of the file was read, where that is not all of it, `remarks` what is known of it already.
    """
    model_type = source.root.get("model_type")
    account = Config(source, source.root, family=str(model_type))
    for remark in remarks:
        account.remark(remark)
    account.ignore(*release.KEYS)
    body = headed(account, table(account))
    account.finish()
    head: Doc = {"name": name or _name(source.root, path), "source": [_source(source, path, where)]}
    stored = release.release(account, lambda: _loaded(head | body, source, None).base)
    said = account.account.remarks
    doc = head | ({"notes": "; ".join(said) + "."} if said else {}) | body
    if stored is not None:
        doc["release"] = stored
    notes = {leaf.path: leaf.note for leaf in leaves(doc) if leaf.note is not None}
    return Imported(
        spec=_loaded(doc, source, path if isinstance(path, Path) else None),
        document=plain(doc),
        heading=_heading(source, account),
        model_type=str(model_type),
        family=account.family,
        notes=notes,
        defaults=dict(account.account.defaults),
        remarks=tuple(account.account.remarks),
    )


def _loaded(doc: Doc, source: JsonText, path: Path | None) -> SpecFile:
    """The spec that a document says; what is wrong with it is reported at the fields of the config."""
    return load_tree(placed(parse(emit(plain(doc)), file=source.file), doc, source), source.file, path)


def table(c: Config, default_type: str | None = None) -> Doc:
    """What the family of an object's ``model_type`` makes of it; a field that nobody read stops the import.

    Families of models with several towers use it for the tower of text; `default_type` is then what its class takes
    for granted. Problems are collected in the account of `c`.
    """
    kind = c.raw("model_type")
    if kind is None:
        kind = default_type
    found = families.family(kind) if isinstance(kind, str) else None
    if found is None:
        refuse_family(c, kind)
    c.family = found.config_class or str(kind)
    body = found.document(c)
    c.ignore(*found.idle)
    for part in c.parts():
        for key, value in part.unread().items():
            if not idle(key, value) and not c.account.report.full:
                near = did_you_mean(key, sorted(part.asked))
                part.wrong(
                    key,
                    f"only fields that the table of the family {kind} understands: this one may decide a shape",
                    near or None,
                )
    return body


def _heading(source: JsonText, c: Config) -> str:
    lines = [f"# Read from {_written(Path(source.file).name)}, family {c.family}. Comments say what the file does not."]
    return "".join(f"{line}\n" for line in lines)


def _name(root: dict[str, Any], path: PurePath | None) -> str:
    """What the model is called: by the config itself, else by its file or folder."""
    said = root.get("_name_or_path") or root.get("name_or_path")
    said = said.rstrip("/").rpartition("/")[2] if isinstance(said, str) else ""
    if not slug(said) and path is not None:
        # By the name that was given: a link of a cache of downloads leads to a file that is named by a digest.
        whole = path.absolute() if isinstance(path, Path) else path
        said = whole.parent.name if whole.name == CONFIG else whole.stem
    return slug(said) or "imported"


def slug(text: str) -> str:
    """A text as the spec language lets a name be written."""
    return short(re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._"), 90).rstrip(".-")


def _written(name: str) -> str:
    """A file's name as a spec may have it: line breaks and all that a text may not hold are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _source(source: JsonText, path: PurePath | None, where: str | None) -> Doc:
    digest = hashlib.sha256(source.text.encode()).hexdigest()
    return {
        "url": _written(path.name if path is not None else source.file),
        "where": where or f"sha256 {digest}",
        "read": datetime.date.today().isoformat(),
    }

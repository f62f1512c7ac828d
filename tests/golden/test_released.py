"""Configs of released models, as others have published copies of them, and what must come of each.

`tests/released/RELEASED.csv` has a row for each: where its text was read, the parameters that it must come to, how that
total is known, and the bytes that one further token adds to the cache in bf16, which an encoder has not. Where it says
transformers, both figures are those of its class of the same config, built and run on meta; a cache is by the arithmetic
that stands there where the class keeps the keys and values of every head, though they are made of latents or of a group.
A ``_name_or_path`` of somebody's disk was taken out of the copies; else they are as they were read, spaced alike.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from llmprof.importing.read import read_config
from llmprof.predict.api import parameters
from llmprof.predict.record import count_record
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Logits, Workload

HERE = Path(__file__).parent.parent / "released"
SOUND_POSITIONS = 1500
"""Positions that an encoder of sound makes of its 30 seconds."""

with (HERE / "RELEASED.csv").open(newline="", encoding="utf-8") as _file:
    ROWS = list(csv.DictReader(_file))


def per_token(arch: ArchSpec) -> int:
    """Bytes of the cache that one more token takes."""
    source = 0 if arch.encoder is None else 1 if arch.encoder.front is None else SOUND_POSITIONS
    logits: Logits = "none" if arch.head.kind == "none" else "all"
    prompt = Workload(phase="prefill", batch=1, new_tokens=1, context=1, source_tokens=source, logits=logits)
    return int(count_record(arch, prompt)["kv_cache_bytes_per_token"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_a_released_config_is_read_exactly(row: dict[str, str]) -> None:
    arch = read_config(HERE / row["file"]).spec.base
    assert parameters(arch).total == int(row["params_total"])
    if row["kv_bytes_per_token"]:
        assert per_token(arch) == int(row["kv_bytes_per_token"])
    else:
        assert arch.structure == "encoder"


def test_every_file_has_a_row_and_a_source() -> None:
    assert sorted(row["file"] for row in ROWS) == sorted(path.name for path in HERE.glob("*.json"))
    assert all(row["source"].startswith("https://github.com/") and row["known_from"] for row in ROWS)


def test_the_files_are_of_many_families() -> None:
    kinds = {json.loads((HERE / row["file"]).read_text(encoding="utf-8"))["model_type"] for row in ROWS}
    assert len(kinds) >= 30

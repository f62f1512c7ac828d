"""Configs of released models of further families, as published copies say them: exact, or refused at a named field.

`tests/released_others/RELEASED.csv` has a row for each: where its text was read, and the parameters it comes to with how
they are known, or ``refused`` with the field at which the import stops (none where ``model_type`` itself is missing).
Where it says transformers, the total is that of its class of the same config, built on meta. Bytes of the cache are what
one further token adds in bf16: transformers' cache of the same config holds as many, and where transformers cannot say,
they are two rows for each key-value head of each layer. A ``_name_or_path`` of somebody's disk was taken out of the copies;
else they are as they were read, spaced alike.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from llmprof.errors import SpecError
from llmprof.importing.inexpressible import INEXPRESSIBLE
from llmprof.importing.read import read_config
from llmprof.predict.api import parameters
from llmprof.predict.record import count_record
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload

HERE = Path(__file__).parent.parent / "released_others"

with (HERE / "RELEASED.csv").open(newline="", encoding="utf-8") as _file:
    ROWS = list(csv.DictReader(_file))
EXACT = [row for row in ROWS if row["params_total"] != "refused"]
REFUSED = [row for row in ROWS if row["params_total"] == "refused"]


def label(row: dict[str, str]) -> str:
    return row["name"]


def per_token(arch: ArchSpec) -> int:
    """Bytes of the cache that one more token takes."""
    source = 0 if arch.encoder is None else 1
    prompt = Workload(
        phase="prefill",
        batch=1,
        new_tokens=1,
        context=1,
        source_tokens=source,
        logits="none" if arch.head.kind == "none" else "all",
    )
    return int(count_record(arch, prompt)["kv_cache_bytes_per_token"])


@pytest.mark.parametrize("row", EXACT, ids=label)
def test_a_released_config_is_read_exactly(row: dict[str, str]) -> None:
    arch = read_config(HERE / row["file"]).spec.base
    assert parameters(arch).total == int(row["params_total"])
    if row["kv_bytes_per_token"]:
        assert per_token(arch) == int(row["kv_bytes_per_token"])
    else:
        assert arch.structure == "encoder"


@pytest.mark.parametrize("row", REFUSED, ids=label)
def test_or_it_is_refused_at_a_named_field(row: dict[str, str]) -> None:
    with pytest.raises(SpecError) as caught:
        read_config(HERE / row["file"])
    problem = caught.value.problems[0]
    assert problem.path == row["refused_at"]
    assert (row["refused_at"] or "model_type") in str(caught.value)
    config = json.loads((HERE / row["file"]).read_text(encoding="utf-8"))
    if problem.path == "model_type":  # what is known is listed, or what stands in the way is said
        why = INEXPRESSIBLE.get(config["model_type"], "all are ")
        assert why in problem.expected


def test_every_file_has_a_row_and_a_source() -> None:
    assert sorted(row["file"] for row in ROWS) == sorted(path.name for path in HERE.glob("*.json"))
    assert all(row["source"].startswith(("https://github.com/", "https://huggingface.co/")) for row in ROWS)
    assert all(row["known_from"].startswith(("transformers ", "arithmetic: ")) for row in EXACT)


def test_the_files_are_of_many_families() -> None:
    kinds = {json.loads((HERE / row["file"]).read_text(encoding="utf-8"))["model_type"] for row in EXACT}
    assert len(kinds) >= 35

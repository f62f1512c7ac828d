"""Files that transformers itself writes, of every family that is imported: each tensor has its place, none is left.

Of each family the first config and the last of its variations are saved; with ``LLMPROF_EVERY=1`` all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from llmprof.importing.headers.shards import read_folder
from llmprof.stored.join import join
from llmprof.stored.joined import Kind
from tests.importing import EVERYTHING, Case, cases, imported
from tests.saving import save

CASES = [case for case in cases() if not case.params and case.head != "tower"]
NOT_SAVED = {"marian": {"encoder.pos_embed", "decoder.pos_embed"}}
"""Families -> parameters of the class that it leaves out of its files: Marian's sinusoids, which it makes again."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model_type}-{case.head}")
def test_every_tensor_of_a_saved_model_has_its_place(case: Case, tmp_path: Path) -> None:
    configs = list(case.configs())
    for number, (name, config) in enumerate(configs if EVERYTHING else dict([configs[0], configs[-1]]).items()):
        arch = imported(config).spec.base
        made = join(arch, read_folder(save(case, config, tmp_path / str(number))))
        wrong = [item for item in made.items if item.kind in (Kind.UNEXPLAINED, Kind.DIFFERS)]
        assert not wrong, (name, [(item.tensor.name, item.note) for item in wrong])
        assert {each.path for each in made.lacking} == NOT_SAVED.get(case.model_type, set()), name
        left_out = sum(each.expected for each in made.lacking)
        assert made.by_kind[Kind.PARAMETER][1] == made.params_total - left_out, name
        assert sum(values for _, values in made.balance()) == made.values, name


def test_most_families_are_saved() -> None:
    assert len({case.model_type for case in CASES}) > 60

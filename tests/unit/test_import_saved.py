"""What transformers writes of a config is read as the config was: a model that a user saves anew is the same model."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmprof.importing.read import read_config
from llmprof.predict.parameters import parameters
from tests.importing import Case, cases, imported

CASES = [case for case in cases() if not case.params]
"""Where a count is given by hand, no class of transformers reads the config as its releases are."""

WRITES_ANOTHER = {
    # It ties the output matrix whatever the config says, and writes that down (llmprof/conformance/known.py, t5-forced-tying).
    ("t5", "as it stands"),
    ("mt5", "as it stands"),
    # It writes its own sizes beside the names that the releases use, and these contradict each other.
    ("nomic_bert", "as it stands"),
    ("nomic_bert", "with both lengths"),
    ("nomic_bert", "unsaid class"),
    # It writes a rotation where the releases mean none.
    ("olmo_hybrid", "as converted"),
    # It writes a flag of its own beside the list or the tower that counts, and the two contradict each other.
    ("deepseek_v32", "layers by a list alone"),
    ("llama4", "tied in the tower"),
}
"""Where transformers writes another config than it was given."""

SAVED = [(case, name) for case in CASES for name, _ in case.configs() if (case.model_type, name) not in WRITES_ANOTHER]
FIRSTS = [pytest.param(case, name, id=case.model_type) for case, name in SAVED if name == "as it stands"]
OTHERS = [pytest.param(case, name, id=f"{case.model_type}: {name}") for case, name in SAVED if name != "as it stands"]


def check(case: Case, name: str, folder: Path) -> None:
    import transformers

    config = dict(case.configs())[name]
    transformers.AutoConfig.for_model(**config).save_pretrained(folder)
    ours, saved = imported(config).spec.base, read_config(folder).spec.base
    assert parameters(saved) == parameters(ours)
    assert saved.tied_embeddings == ours.tied_embeddings
    assert [layer.attention for layer in saved.main.layers] == [layer.attention for layer in ours.main.layers]


@pytest.mark.parametrize(("case", "name"), FIRSTS)
def test_a_saved_config_is_the_same(case: Case, name: str, tmp_path: Path) -> None:
    check(case, name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), OTHERS)
def test_and_so_are_its_variations(case: Case, name: str, tmp_path: Path) -> None:
    check(case, name, tmp_path)

"""Every family against transformers where parameters do not tell: FLOPs of a prompt and a step, and bytes of the cache.

Each small config of `tests/import_cases` is imported, and built and run by transformers on meta. A wrong window, a wrong
number of heads for keys or a wrong choice of experts shows here. Known errors of classes are explained as `llmprof verify`
does it; what a class cannot do on meta is in `CANNOT`, and nothing else may be unmeasured.
"""

from __future__ import annotations

import re

import pytest

from llmprof.conformance import transformers
from llmprof.conformance.rows import Result
from llmprof.conformance.workloads import workloads
from tests.importing import EVERYTHING, Case, cases, imported

CASES = [case for case in cases() if not case.params]
"""Where a count is given by hand, no class of transformers reads the config as its releases are."""
FIRSTS = [pytest.param(case, "as it stands", id=case.model_type) for case in CASES]
OTHERS = [
    pytest.param(case, name, id=f"{case.model_type}: {name}")
    for case in CASES
    for number, (name, _) in enumerate(case.configs())
    if number and (EVERYTHING or number % 4 == len(case.model_type) % 4)
]
"""A quarter of the variations, another one in each family, if not all are asked for."""

CANNOT = re.compile(
    "|".join(
        (
            "has no class of the model_type",  # the family is of remote code
            "for this kind of AutoModel: AutoModelForCausalLM",  # a tower of text without a head of its own
            r"cannot be run on meta: NotImplementedError: The register_meta function for torch.*nonzero",
            r"Tensor\.item\(\) cannot be called on meta",
            "Could not find a `sliding_window`",  # its masks ask for a window where no layer has one
            "`get_seq_length` can only be called on Attention layers",  # its masks ask a cache that has none
            "its class keeps no cache",
            "RwkvForCausalLM cannot be run on meta",  # its state is as wide as the model, whatever attention_hidden_size says
        )
    )
)


def found(case: Case, name: str) -> Result:
    """What transformers says of a config, of two sequences at once."""
    config = dict(case.configs())[name]
    arch = imported(config).spec.base
    result = Result(arch=arch)
    transformers.add_rows(result, workloads(arch, config, least=24, batch=2), config)
    return result


def check(case: Case, name: str) -> None:
    result = found(case, name)
    assert [row for row in result.rows if row.verdict == "DIFFERS"] == []
    assert {row.note for row in result.rows if row.verdict == "UNMEASURED" and not CANNOT.search(row.note)} == set()
    if "transformers" in result.matched:
        matched, _, total, _ = result.matched["transformers"].split()
        assert matched == total, "llmprof/conformance/names.py has not all of its modules"


@pytest.mark.parametrize(("case", "name"), FIRSTS)
def test_flops_and_cache_are_those_of_the_class(case: Case, name: str) -> None:
    check(case, name)


@pytest.mark.parametrize(("case", "name"), OTHERS)
def test_and_so_are_those_of_its_variations(case: Case, name: str) -> None:
    check(case, name)


def test_a_wrong_window_would_show() -> None:
    """Planted: a config whose window is two tokens wider than that of the architecture."""
    (case,) = (case for case in CASES if case.model_type == "mistral" and case.head == "causal-lm")
    config = {**dict(case.configs())["as it stands"], "sliding_window": 16}
    arch = imported(config).spec.base
    result = Result(arch=arch)
    transformers.add_rows(result, workloads(arch, config, least=24, batch=2), {**config, "sliding_window": 18})
    assert {row.quantity for row in result.rows if row.verdict == "DIFFERS"} == {"matmul_flops", "kv_cache_bytes"}

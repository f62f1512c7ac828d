"""The studies of the catalogue as the tests of their pages ask for them: a variant's figures, and the tables of a page.

Sizes: n positions; the base of a study goes by the name ``base``.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from llmprof import catalog
from llmprof.predict.api import Prediction, parameters, predict
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Execution, LatentForm, Logits, Phase, Workload
from tests.documentation import ROOT

PAGES = (ROOT / "docs" / "studies.md", ROOT / "docs" / "studies-modern.md")
KI = 1024
MI = KI * KI


@functools.cache
def variants(study: str) -> dict[str, ArchSpec]:
    """The variants of a study by their names, with ``base``."""
    return {arch.variant or "base": arch for arch in catalog.resolve([study], all_variants=True)}


@functools.cache
def found(
    study: str,
    variant: str,
    n: int,
    *,
    phase: Phase = "prefill",
    attention: str = "fused",
    batch: int = 1,
    logits: Logits = "all",
    source: int = 0,
    prefix: int = 0,
    latent: LatentForm = "absorbed",
    mtp: bool = False,
) -> Prediction:
    """The prediction of a variant at `n` positions."""
    work = Workload(
        phase=phase,
        batch=batch,
        new_tokens=1 if phase == "decode" else n,
        context=n,
        source_tokens=source,
        prefix_tokens=prefix,
        logits=logits,
        latent=latent,
        mtp=mtp,
    )
    return predict(variants(study)[variant], work, Execution(attention=attention))  # type: ignore[arg-type]


def flops(*words: object, **options: object) -> int:
    """Dense FLOPs of the contractions; the arguments are those of `found`."""
    return found(*words, **options).cost.matmul_flops


def hbm(*words: object, **options: object) -> int:
    """Op-level HBM bytes; the arguments are those of `found`."""
    return found(*words, **options).cost.hbm_bytes


def params(study: str, variant: str = "base") -> int:
    """Parameters of a variant, without those of layers that predict further tokens."""
    return parameters(variants(study)[variant]).total


def kernels(made: Prediction) -> int:
    """How many kernels the reference launches in a pass."""
    layers = sum(group.count * sum(op.times for op in group.ops) for group in made.program.groups)
    return layers + sum(op.times for op in made.program.ops)


def table(page: Path, name: str, mark: str = "crossings") -> list[list[str]]:
    """The rows of the table of a page behind ``<!-- mark: name -->``, without its head."""
    body = re.search(rf"<!-- {mark}: {name} -->\n\|.*\n\|[-|]+\n((?:\|.*\n)+)", page.read_text(encoding="utf-8"))
    assert body is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body[1].splitlines()]

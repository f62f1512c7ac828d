"""Falcon Mamba: Mamba with norms without weights on the step sizes, B and C."""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.families.mamba import stack_of_mamba_1
from llmprof.importing.family import TRANSFORMERS, Family
from llmprof.importing.mixers import IDLE


def document(c: Config) -> Doc:
    """The table."""
    eps = c.number("mixer_rms_eps", default=1e-6)
    return stack_of_mamba_1(c, inner_norm={"kind": "rmsnorm", "weight": False, "eps": eps})


FAMILY = Family(
    document=document,
    config_class="FalconMambaConfig",
    source=TRANSFORMERS,
    idle=IDLE | {"use_falcon_mambapy", "_from_model_config"},
)

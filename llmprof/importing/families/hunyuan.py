"""Hunyuan-A13B as its own code calls it: the config of `hunyuan_v1_moe`. Its relatives of that name are refused.

Hunyuan-Large shares keys and values between neighbours before their norms and rotations, so that each layer keeps
copies and norms of its own, which the spec language does not say; and a single expert is a plain feed-forward there.
Read in mlx-lm 0.32.2, mlx_lm/models/hunyuan.py (https://pypi.org/project/mlx-lm/0.32.2/, read 2026-11-30).
"""

from __future__ import annotations

from llmprof.importing.config import Config
from llmprof.importing.document import Doc
from llmprof.importing.families import hunyuan_v1_moe
from llmprof.importing.family import Family


def document(c: Config) -> Doc:
    """The table."""
    if c.raw("use_cla"):
        c.stop("use_cla", "false: keys and values that neighbours share before their norms and rotations")
    if c.size("num_experts").value == 1:
        c.stop("num_experts", "more than one: the code then has a feed-forward without a router")
    c.ignore("cla_share_factor")
    return hunyuan_v1_moe.document(c)


FAMILY = Family(
    document=document,
    config_class=None,
    source=hunyuan_v1_moe.FAMILY.source,
    idle=hunyuan_v1_moe.FAMILY.idle,
)

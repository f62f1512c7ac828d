"""What a command line says of a pass that cannot be spread: options in place of names, and the model once."""

from __future__ import annotations

import re
from dataclasses import fields

from llmprof.errors import InputError
from llmprof.sharding import Sharding
from llmprof.spec.arch import ArchSpec
from llmprof.workload import Workload

_DEGREES = re.compile(r"\b(" + "|".join(field.name for field in fields(Sharding)) + r")\b")


def as_options(error: InputError, arch: ArchSpec, workload: Workload, sharding: Sharding) -> InputError:
    """`error` of `check_sharding` for whoever gave options: which pass it is of, and how a step can be left out."""
    said = _DEGREES.sub(lambda found: f"--{found[0].replace('_', '-')}", str(error))
    named = re.search(rf"(?<![\w.-]){re.escape(arch.label)}(?![\w-])", said) is not None
    of_prompts = sharding.splits_rows or sharding.sends_tokens or sharding.context_parallel > 1
    alone = "; --phase prefill asks for no decode" if workload.phase == "decode" and of_prompts else ""
    return InputError(f"{'' if named else arch.label + ' '}in {workload.phase}: {said}{alone}")

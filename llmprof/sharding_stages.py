"""How many layers each stage of a pipeline has (docs/reference-sharding.md, section 3).

The rule is that of vLLM 0.33.0 (`get_pp_indices` in vllm/distributed/utils.py of the package,
https://pypi.org/project/vllm/0.33.0/, read 2026-11-30). Which layers these are, what stands at the ends, and what a
stage then holds and runs is for either half to say.
"""

from __future__ import annotations

from llmprof.errors import InputError


def depths(n_layers: int, stages: int, told: tuple[int, ...] = ()) -> tuple[int, ...]:
    """How many of `n_layers` each of `stages` has: as `told`, or as evenly as can be.

    What is left over is dealt to the stages before the last, one layer each: the last has the head.
    """
    if told:
        return told
    each, left = divmod(n_layers, stages)
    before, behind = stages - 1 - left, stages - 1
    return tuple(each + (before <= stage < behind) for stage in range(stages))


def stage_of_layers(split: tuple[int, ...]) -> tuple[int, ...]:
    """The stage of every layer, where stages have so many each."""
    return tuple(stage for stage, depth in enumerate(split) for _ in range(depth))


def check_stages(label: str, n_layers: int, stages: int, told: tuple[int, ...]) -> None:
    """Raise InputError where `n_layers` of the architecture `label` cannot be split so, saying what would do."""
    if stages < 1:
        raise InputError(f"pipeline_parallel is {stages}; it must be at least 1")
    if stages > n_layers:
        asked = f"pipeline_layers is {text_of(told)}" if len(told) == stages else f"pipeline_parallel is {stages}"
        raise InputError(f"{asked}: more stages than the {n_layers} layers of {label}; use at most {n_layers}")
    if not told:
        return
    given, example = text_of(told), text_of(depths(n_layers, stages))
    if len(told) != stages:
        raise InputError(
            f"pipeline_layers is {given}, for {len(told)} of {stages} stages (pipeline_parallel); give one number for "
            f"each, such as {example}"
        )
    if min(told) < 1 or sum(told) != n_layers:
        raise InputError(
            f"pipeline_layers is {given}; each has to be at least 1, and all together the {n_layers} layers of {label} "
            f"(these are {sum(told)}), such as {example}"
        )


def text_of(split: tuple[int, ...]) -> str:
    """``16,15,15,15``."""
    return ",".join(map(str, split))

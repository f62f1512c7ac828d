"""How many layers each stage of a pipeline has, by hand, and what is no split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmprof import catalog
from llmprof.errors import InputError
from llmprof.predict.sharding.api import sharded
from llmprof.sharding import Sharding, check_sharding
from llmprof.sharding_stages import depths, stage_of_layers
from llmprof.workload import Workload


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [
        (61, 4, (15, 15, 16, 15)),  # 4 x 15 + 1: one before the last
        (94, 4, (23, 24, 24, 23)),  # 4 x 23 + 2
        (61, 8, (7, 7, 8, 8, 8, 8, 8, 7)),  # 8 x 7 + 5
        (7, 4, (2, 2, 2, 1)),  # 4 x 1 + 3: all but the last
        (3, 2, (2, 1)),
        (80, 4, (20, 20, 20, 20)),
        (61, 61, (1,) * 61),
        (61, 1, (61,)),
    ],
)
def test_what_is_left_over_goes_to_the_stages_before_the_last(
    layers: int, stages: int, expected: tuple[int, ...]
) -> None:
    assert depths(layers, stages) == Sharding(pipeline_parallel=stages).stage_depths(layers) == expected


@given(st.integers(1, 200), st.data())
def test_stages_have_all_layers_as_evenly_as_can_be_and_the_last_no_more_than_another(
    layers: int, data: st.DataObject
) -> None:
    stages = data.draw(st.integers(1, layers))
    found = depths(layers, stages)
    assert len(found) == stages
    assert sum(found) == layers
    assert found[-1] == min(found) == layers // stages
    assert max(found) == -(-layers // stages)
    ranges = stage_of_layers(found)
    assert list(ranges) == sorted(ranges)
    assert [ranges.count(stage) for stage in range(stages)] == list(found)


def test_a_split_that_is_told_takes_the_place_of_the_rule() -> None:
    told = Sharding(pipeline_parallel=4, pipeline_layers=(16, 15, 15, 15))
    assert told.stage_depths(61) == (16, 15, 15, 15)


DECODE = Workload(phase="decode", batch=1, new_tokens=1, context=64)


@pytest.mark.parametrize(
    ("stages", "told", "reason"),
    [
        (13, (), r"pipeline_parallel is 13: more stages than the 12 layers of gpt2; use at most 12$"),
        (13, (1,) * 13, r"pipeline_layers is 1,1,.*: more stages than the 12 layers of gpt2; use at most 12$"),
        (2, (4, 4, 4), r"pipeline_layers is 4,4,4, for 3 of 2 stages .* such as 6,6$"),
        (1, (6, 6), r"for 2 of 1 stages \(pipeline_parallel\); .* such as 12$"),
        (2, (12, 0), r"pipeline_layers is 12,0; each has to be at least 1, .* the 12 layers of gpt2 \(these are 12\)"),
        (5, (2, 2, 2, 2, 2), r"all together the 12 layers of gpt2 \(these are 10\), such as 2,2,3,3,2$"),
    ],
)
def test_what_is_no_split_is_refused(stages: int, told: tuple[int, ...], reason: str) -> None:
    [arch] = catalog.resolve(["gpt2"])
    with pytest.raises(InputError, match=reason):
        check_sharding(arch, DECODE, Sharding(pipeline_parallel=stages, pipeline_layers=told))


def test_the_ranks_of_a_61_layer_model_on_four_stages_by_hand() -> None:
    """DeepSeek-V3: 3 dense layers, then 58 with experts; D 7168, 129,280 rows (https://arxiv.org/abs/2412.19437)."""
    [arch] = catalog.resolve(["deepseek-v3"])
    ranks = sharded(arch, DECODE, pipeline_parallel=4).ranks
    table, d = 129_280 * 7168, 7168
    attention = d * 1536 + 1536 + 1536 * 128 * 192 + d * 576 + 512 + 512 * 128 * 256 + 128 * 128 * d
    dense = 3 * d * 18_432
    each = attention + 2 * d + 256 * 3 * d * 2048 + 3 * d * 2048 + 256 * d  # of the experts' layers
    assert [rank.params for rank in ranks] == [
        table + 3 * (attention + 2 * d + dense) + 12 * each,
        15 * each,
        16 * each,
        15 * each + d + table,
    ]
    assert [rank.kv_cache_bytes for rank in ranks] == [64 * 576 * 2 * layers for layers in (15, 15, 16, 15)]

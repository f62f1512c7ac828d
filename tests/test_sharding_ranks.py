"""With 2 and 4 processes that really talk, each rank computes what one device does, and does what is predicted."""

from __future__ import annotations

from functools import cache

import pytest

from llmprof.measure.sharded.account import accounts_on_meta
from llmprof.measure.sharded.ranks import RankFailed, on_ranks
from llmprof.sharding import StageAccount
from tests.importing import EVERYTHING
from tests.sharded_ranks import CASES, FAULTS, Case, count_and_notice, fail
from tests.sharded_specs import spec
from tests.test_sharding import UNFUSED, agree, predicted

Answers = tuple[list[StageAccount], ...]


@cache
def answers(ranks: int) -> tuple[tuple[list[StageAccount], list[bool]], ...]:
    """What each of so many processes counted, and noticed; they failed if an output or a cache was wrong."""
    return on_ranks(ranks, count_and_notice)


@pytest.fixture(params=[2, 4])
def processes(request: pytest.FixtureRequest) -> Answers:
    """What each of 2 or 4 processes counted, case by case."""
    return tuple(counted for counted, _ in answers(request.param))


def test_real_ranks_do_what_is_predicted(processes: Answers) -> None:
    cases = CASES[len(processes)]
    assert all(len(counted) == len(cases) for counted in processes)
    for index, case in enumerate(cases):
        expected = predicted(spec(case.name), case.workload, case.sharding)
        ranks_of_stage = dict.fromkeys(range(case.sharding.pipeline_parallel), 0)
        for rank, counted in enumerate(processes):
            account = counted[index]
            ranks_of_stage[account.stage] += 1
            first = account.stage * case.sharding.tensor_parallel * case.sharding.context_parallel
            if case.even or rank == first:
                agree((account,), (expected[account.stage],), UNFUSED)
            else:
                flops, most = (each.ledger.total("matmul_flops") for each in (account, processes[first][index]))
                assert flops <= most, f"{case}: more goes to the experts of rank {rank} than to those of rank {first}"
        each = case.sharding.ranks // case.sharding.pipeline_parallel
        assert set(ranks_of_stage.values()) == {each}, case


def test_a_rank_that_fails_is_heard_of() -> None:
    with pytest.raises(RankFailed, match=r"(?s)rank [01] of 2 failed: .*ValueError: no cases for these ranks"):
        on_ranks(2, fail)


def test_a_twin_that_is_wrong_is_noticed_by_some_rank() -> None:
    noticed = [by_fault for _, by_fault in answers(2)]
    assert all(any(by_rank) for by_rank in zip(*noticed, strict=True)), list(zip(FAULTS, *noticed, strict=True))
    assert len(noticed[0]) == len(FAULTS)


def test_real_ranks_do_what_ranks_on_meta_do(processes: Answers) -> None:
    cases = CASES[len(processes)]
    for case in dict.fromkeys(
        Case(case.name, case.workload, case.sharding) for case in cases[:: 1 if EVERYTHING else 9] if case.even
    ):
        on_meta = accounts_on_meta(spec(case.name), case.workload, case.sharding)
        for counted in processes:
            account = counted[cases.index(case)]
            agree((account,), (on_meta[account.stage],), UNFUSED)

"""Looking for unreachable cycles is put off within a block, and goes on behind it as before."""

from __future__ import annotations

import gc

import pytest

from llmprof.collection import paused


@pytest.mark.parametrize("collecting", [True, False])
def test_collection_goes_on_as_before(collecting: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        with paused():
            assert not gc.isenabled()
            with paused():
                pass
            assert not gc.isenabled()
        assert gc.isenabled() == collecting
        with pytest.raises(ZeroDivisionError), paused():
            _ = 1 / 0
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()

"""Restarts with exponential backoff."""

import itertools
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from ctxfs.supervise import Backoff, Restarts, supervise


def pauses_of(restarts: Restarts, run_seconds: Sequence[float]) -> list[float]:
    """Supervise a process whose runs last these seconds, and return the pauses after them as the clock shows them."""
    starts: list[float] = []
    ends: list[float] = []
    reported: list[float] = []
    runs = iter(run_seconds)

    async def start() -> str:
        starts.append(trio.current_time())
        seconds = next(runs, None)
        if seconds is None:
            raise EOFError
        await trio.sleep(seconds)
        ends.append(trio.current_time())
        return "ended"

    def on_end(result: str, pause: float) -> None:
        assert result == "ended"
        reported.append(pause)

    with pytest.raises(EOFError):
        trio.run(supervise, start, restarts, on_end, clock=trio.testing.MockClock(autojump_threshold=0))
    pauses = [start - end for start, end in zip(starts[1:], ends, strict=True)]
    assert pauses == pytest.approx(reported)
    return reported


def test_pause_doubles_up_to_its_maximum() -> None:
    assert pauses_of(Restarts(Backoff(1.0, 10.0)), [0] * 6) == [1, 2, 4, 8, 10, 10]


def test_healthy_run_starts_again_with_the_first_pause() -> None:
    restarts = Restarts(Backoff(1.0, 60.0, healthy_seconds=30.0))
    assert pauses_of(restarts, [0, 0, 30, 31, 0]) == [1, 2, 4, 1, 2]


def test_factor_of_one_keeps_the_pause_constant() -> None:
    assert pauses_of(Restarts(Backoff(1.0, 1.0, factor=1.0)), [0, 100, 0]) == [1, 1, 1]


def test_initial_end_doubles_the_first_pause_but_not_the_one_after_a_healthy_run() -> None:
    restarts = Restarts(Backoff(0.5, 60.0, healthy_seconds=30.0), ends=1)
    assert pauses_of(restarts, [0, 0, 31, 0]) == [1, 2, 0.5, 1]


def test_progress_resets_the_pause() -> None:
    restarts = Restarts(Backoff(1.0, 60.0))
    assert [restarts.record_end(), restarts.record_end()] == [1, 2]
    restarts.reset()
    assert (restarts.ends, restarts.record_end(), restarts.ends) == (0, 1, 1)


def test_backoff_is_finite_after_very_many_ends() -> None:
    backoff = Backoff(1.0, 60.0)
    assert {backoff.pause_after(ends) for ends in (10, 1000, 10**9)} == {60}


def test_pause_that_returns_early_restarts_early() -> None:
    starts: list[float] = []

    async def start() -> None:
        starts.append(trio.current_time())
        if len(starts) == 3:
            raise EOFError

    async def wait_half(seconds: float) -> None:
        await trio.sleep(seconds / 2)

    async def run() -> None:
        await supervise(start, Restarts(Backoff(1.0, 60.0)), lambda _result, _pause: None, wait_half)

    with pytest.raises(EOFError):
        trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [round(later - sooner, 3) for sooner, later in itertools.pairwise(starts)] == [0.5, 1.0]

"""Long pieces of own work: one at a time, beside the other cases, and no wait for a turn in anybody's latency."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from steelyard.approaches.own_work import WAITING, in_turn


async def test_pieces_are_done_one_at_a_time_beside_the_event_loop() -> None:
    running: list[int] = []
    most_at_once = 0
    may_end = threading.Event()

    def piece() -> str:
        nonlocal most_at_once
        running.append(1)
        most_at_once = max(most_at_once, len(running))
        may_end.wait(10)
        running.pop()
        return threading.current_thread().name

    pieces = [asyncio.ensure_future(in_turn(piece)) for _ in range(4)]
    await asyncio.sleep(0)  # the loop goes on while the first piece is being done
    may_end.set()
    names = set(await asyncio.gather(*pieces))
    assert most_at_once == 1
    assert len(names) == 1
    assert threading.current_thread().name not in names


async def test_only_the_wait_for_a_turn_is_marked_as_waiting() -> None:
    """The block is open until the piece begins, and closed while it is done."""
    log: list[str] = []

    @contextmanager
    def block() -> Iterator[None]:
        log.append("waits")
        yield
        log.append("has its turn")

    def piece() -> None:
        time.sleep(0.05)
        log.append("is done")

    WAITING.set(block)
    await in_turn(piece)
    assert log == ["waits", "has its turn", "is done"]


async def test_what_a_piece_raises_comes_through() -> None:
    def piece() -> None:
        raise ValueError("no such passage")

    with pytest.raises(ValueError, match="no such passage"):
        await in_turn(piece)


async def test_a_case_that_is_cancelled_before_its_turn_is_never_begun() -> None:
    may_end, begun = threading.Event(), []
    first = asyncio.ensure_future(in_turn(lambda: may_end.wait(10)))
    second = asyncio.ensure_future(in_turn(lambda: begun.append(2)))
    await asyncio.sleep(0.01)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    may_end.set()
    await first
    await in_turn(lambda: begun.append(3))
    assert begun == [3]

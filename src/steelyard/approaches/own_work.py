"""Work of an approach that is long enough for other cases to wait for it: one piece at a time, in a thread.

Done where the case is, half a second of it would hold up every case whose call just came back, and their wait would be
measured as latency of their calls. Done in many threads, the pieces would wait for each other's cores and each be measured
too long. So one thread takes them one after the other, and a case that waits for its turn waits for nothing of its own:
that time is in no latency, as the wait for a free place at an endpoint is in none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

WAITING: ContextVar[Callable[[], AbstractContextManager[None]]] = ContextVar("WAITING", default=nullcontext)
"""Makes a block whose seconds are not the case's own; whoever times a case sets it."""
_WORKER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="own-work")


async def in_turn(work: Callable[[], T]) -> T:
    """Do work in the one thread, and return what it gives; whatever it raises comes through.

    Args:
        work: Must not touch what belongs to the event loop. It is not begun when the case is cancelled before its turn.
    """
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()

    def do() -> T:
        loop.call_soon_threadsafe(begun.set)
        return work()

    done = loop.run_in_executor(_WORKER, do)
    try:
        with WAITING.get()():
            await begun.wait()
    except asyncio.CancelledError:
        done.cancel()
        raise
    return await done

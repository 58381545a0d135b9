"""Ctrl-C while calls are in flight: what was sent is paid for, so it may end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from steelyard.engine.tries import Stop
from steelyard.errors import Problem, RunStopped


@contextmanager
def interruptible(stop: Stop, note: Callable[[str], None] | None) -> Iterator[None]:
    """Ctrl-C lets the calls in flight end and be kept; a second one does not wait for them.

    Args:
        stop: Told of it.
        note: Shows a line to the person.
    """
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt() -> None:
        if stop.reason is not None:
            stop.hurry()
            return
        stop.set(RunStopped(Problem(what="stopped by Ctrl-C", hint="the same command goes on from here")))
        if note is not None:
            note("stopping: waiting for the calls in flight; Ctrl-C again does not wait")

    before = signal.getsignal(signal.SIGINT)
    try:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    except NotImplementedError:  # Windows: Ctrl-C cancels at once
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)

"""Lines of progress while approaches are prepared: one line that changes on a terminal, a few lines when piped."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

PIPED_EVERY_S = 5.0


class Talk:
    """Shows lines on a stream, or nowhere; callable, so that it can be handed down as a plain function."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._is_terminal = stream is not None and stream.isatty()
        self._topic = ""
        self._said_at = 0.0

    def __call__(self, line: str) -> None:
        """Show a line. Lines of one topic (what stands before the colon) replace each other, or are thinned out."""
        if self._stream is None:
            return
        topic = line.split(":", 1)[0]
        is_new = topic != self._topic
        now = time.monotonic()
        if self._is_terminal:
            width = shutil.get_terminal_size((100, 40)).columns - 1
            self._stream.write(("\n" if is_new and self._topic else "") + "\r\x1b[K" + line[:width])
        elif is_new or now - self._said_at >= PIPED_EVERY_S:
            self._stream.write(line + "\n")
            self._said_at = now
        self._topic = topic
        self._stream.flush()

    def end(self) -> None:
        """Close the changing line, before something else writes to the stream."""
        if self._stream is not None and self._is_terminal and self._topic:
            self._stream.write("\n")
        self._topic = ""

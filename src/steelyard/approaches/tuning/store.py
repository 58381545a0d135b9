"""Where trained things are kept: one folder each, addressed by content, complete from the moment it exists."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from steelyard.approaches.approach import Setup
from steelyard.errors import InputError, Problem, StorageFailed

CARD = "card.json"


def content_digest(body: object) -> str:
    """Content address of plain data, 32 hexadecimal characters."""
    return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def is_complete(folder: Path) -> bool:
    """Whether the folder holds a finished training."""
    return (folder / CARD).exists()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write to that becomes `folder` in one step when the block ends well, and vanishes when it does not.

    Raises:
        StorageFailed: It cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-", ignore_cleanup_errors=True) as partial:
            made = Path(partial) / folder.name
            made.mkdir()
            yield made
            if folder.exists() and not is_complete(folder):
                shutil.rmtree(folder)
            try:
                os.replace(made, folder)
            except OSError:
                if not is_complete(folder):  # else another process finished the same training first
                    raise
    except OSError as error:
        raise StorageFailed(
            Problem(what=f"what was trained cannot be written ({error})", where=str(folder), hint="make room there")
        ) from error


def write_card(
    folder: Path, card: Mapping[str, Any], *, seconds: float, cpu_seconds: float, cpu_hour_usd: float
) -> None:
    """Write the tuning card with what the training took; the cost is unknown where a GPU computed."""
    costs = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "cpu_hours": cpu_seconds / 3600,
        "cpu_hour_usd": cpu_hour_usd,
        "cost_usd": cpu_seconds * cpu_hour_usd / 3600 if card.get("device", "cpu") == "cpu" else None,
    }
    (folder / CARD).write_text(json.dumps({**card, **costs}, indent=2) + "\n", encoding="utf-8")


def read_setup(folder: Path, *, cpu_hour_usd: float, reused: bool) -> Setup:
    """What the training in a folder took, at today's price of a core; unknown where a GPU computed.

    Raises:
        InputError: The card is damaged.
    """
    try:
        card: Mapping[str, Any] = json.loads((folder / CARD).read_bytes())
        cpu_usd = card["cpu_seconds"] * cpu_hour_usd / 3600
        return Setup(
            seconds=card["seconds"],
            cost_usd=cpu_usd if card.get("device", "cpu") == "cpu" else None,
            n_examples=card["n_examples"],
            reused=reused,
            card=card,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, f"its {CARD} cannot be read ({error})") from error


def damaged(folder: Path, why: str, *, hint: str = "delete this folder, and it is trained again") -> InputError:
    """What is said of a finished training that is not what it was."""
    return InputError(Problem(what=f"what was trained is damaged: {why}", where=str(folder), hint=hint))

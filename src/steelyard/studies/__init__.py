"""Studies and scenarios that ship with the package: data and YAML only, written for it."""

from __future__ import annotations

import difflib
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from steelyard.errors import InputError, Problem


def available() -> list[str]:
    """Names of the studies that ship."""
    return sorted(item.name for item in files(__name__).iterdir() if item.joinpath("study.yaml").is_file())


def copy_study(name: str, folder: Path) -> None:
    """Copy the user's files of a shipped study (study.yaml, cases, documents, README) into a folder.

    Files that are already there are left as they are, so that a second demo goes on where the first stopped.

    Raises:
        InputError: There is no study of that name.
    """
    if name not in available():
        nearest = difflib.get_close_matches(name, available(), n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise InputError(
            Problem(
                what=f"no study called {name!r} ships with Steelyard", hint=f"{hint}there is: {', '.join(available())}"
            )
        )
    _copy(files(__name__).joinpath(name), folder)


def scenarios() -> list[str]:
    """Names of the plans that ship for `steelyard whatif`."""
    return sorted(item.name.removesuffix(".yaml") for item in files(__name__).joinpath("scenarios").iterdir())


def scenario(name: str) -> Traversable:
    """The plan file of a scenario that ships."""
    return files(__name__).joinpath("scenarios", f"{name}.yaml")


# ---- private --------------------------------------------------------------------------------------------------------


def _copy(folder: Traversable, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for item in folder.iterdir():
        if item.is_dir():
            if item.name != "__pycache__":
                _copy(item, target / item.name)
        elif not (target / item.name).exists():
            with as_file(item) as source:
                (target / item.name).write_bytes(source.read_bytes())

"""The file in which a study keeps what a search found, and what later runs make of it for as long as it applies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
from pydantic import ValidationError

from steelyard.approaches.spec import ApproachSpec
from steelyard.errors import InputError, Problem, StorageFailed
from steelyard.figures import Figure
from steelyard.study.file import StudyFile
from steelyard.study.material import Material
from steelyard.study.optimised import FOLDER, OPTIMISED_SCHEMA, Finding, Optimised, Ranked, Trial
from steelyard.task.task import Task


def found_for(approach: str, file: StudyFile, task: Task, material: Material) -> str:
    """Digest of all that a search depends on: the approach without its `optimise:`, task, model, documents, train and dev cases."""
    spec = file.approaches[approach]
    endpoint = file.models.endpoints.get(spec.model)
    body: list[Any] = [
        spec.model_dump(mode="json", exclude={"optimise"}),
        task.digest(),
        endpoint.model_dump(mode="json", include={"base_url", "model", "extra_body"}) if endpoint else None,
        file.models.local.folder or file.models.local.gguf if spec.model == "local" else None,
        [sorted(case.digest() for case in cases) for cases in (material.splits.train, material.splits.dev)],
    ]
    if spec.knowledge is not None and file.knowledge is not None:
        # Where the documents lie and how they are cut; what they say changes too often to search anew each time.
        body.append(file.knowledge.model_dump(mode="json"))
    return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


class InForce(NamedTuple):
    """Approaches as a run uses them: with what searches found."""

    specs: dict[str, ApproachSpec]
    """Without their `optimise:`, so that what may be tried changes no fingerprint."""
    searched: dict[str, Optimised]
    notes: tuple[str, ...]


def in_force(
    specs: Mapping[str, ApproachSpec], *, folder: Path, file: StudyFile, task: Task, material: Material
) -> InForce:
    """Put what searches found into the approaches it was found for.

    Raises:
        InputError: What a search found cannot be read.
    """
    used: dict[str, ApproachSpec] = {}
    searched: dict[str, Optimised] = {}
    notes: list[str] = []
    for name, spec in specs.items():
        found = read_optimised(name, folder)
        used[name] = spec.model_copy(update={"optimise": None})
        if found is None:
            continue
        if found.found_for != found_for(name, file, task, material):
            notes.append(
                f"{name}: task, cases or the approach were changed after the search for its {found.words.one}; it uses"
                f" {found.words.as_written} (search again: steelyard optimise {folder} --approach {name})"
            )
            continue
        searched[name] = found
        if found.is_changed:
            used[name] = found.put_into(used[name])
            notes.append(
                f"{name}: uses the {found.words.one} a search found, {found.trials[found.winner].name!r} ({found.file})"
            )
    return InForce(used, searched, tuple(notes))


def keep_optimised(found: Optimised, folder: Path) -> Path:
    """Write it into the study folder, whole or not at all; replaces what an earlier search of the approach found.

    Raises:
        StorageFailed: It cannot be written.
    """
    path = folder / found.file
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(orjson.dumps(found.to_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
        os.replace(temporary, path)
    except OSError as error:
        raise StorageFailed(Problem(what=f"cannot be written: {error.strerror}", where=str(path))) from error
    return path


def read_optimised(approach: str, folder: Path) -> Optimised | None:
    """What the last search of an approach found; `None` where there was none.

    Raises:
        InputError: The file is there but cannot be understood.
    """
    path = folder / FOLDER / f"{quote(approach, safe='')}.json"
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from error
    try:
        shape = orjson.loads(data)
        if shape["schema"] != OPTIMISED_SCHEMA:
            raise _unusable(path, f"it says {shape['schema']!r}")
        found = _from_json(shape)
        _ = found.winning
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, ValidationError) as error:
        raise _unusable(path, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    return found


# ---- private --------------------------------------------------------------------------------------------------------


def _from_json(shape: Mapping[str, Any]) -> Optimised:
    return Optimised(
        approach=shape["approach"],
        found_for=shape["found_for"],
        winner=shape["winner"],
        rival=shape["rival"],
        difference=_figure(shape["difference"]),
        trials=tuple(
            Trial(
                name=one["name"],
                changes={section: one[section] for section in ("prompt", "knowledge") if section in one},
                fingerprint=one["fingerprint"],
                prompt_chars=one["prompt_chars"],
                prompt_tokens=one.get("prompt_tokens"),
                n_cases=one["cases"],
                score=one["score"],
                success=one["success"],
                schema_pass=one["schema_pass"],
                calls=one["calls"],
                cost_usd=one["cost_usd"],
                is_finalist=one["finalist"],
            )
            for one in shape["trials"]
        ),
        n_trial_calls=shape["trial_calls"],
        trial_cost_usd=shape["trial_cost_usd"],
        n_dev=shape["dev_cases"],
        budget_calls=shape["budget_calls"],
        budget_usd=shape["budget_usd"],
        spent_calls=shape["spent_calls"],
        spent_usd=shape["spent_usd"],
        ended=shape["ended"],
        finding=_finding(shape["finding"]) if shape.get("finding") is not None else None,
        notes=tuple(shape.get("notes", ())),
    )


def _finding(shape: Mapping[str, Any]) -> Finding:
    return Finding(
        n_cases=shape["dev_cases"],
        level=shape["level"],
        seconds=shape["seconds"],
        ranked=tuple(
            Ranked(
                name=one["name"],
                knowledge=one["knowledge"],
                recall=one["recall"],
                mrr=one["mrr"],
                prompt_tokens=one["prompt_tokens"],
                is_kept=one["kept"],
            )
            for one in shape["settings"]
        ),
        chosen=shape["chosen"],
        difference=_figure(shape["difference"]),
    )


def _figure(shape: Mapping[str, Any]) -> Figure:
    return Figure(
        value=shape["value"], low=shape["low"], high=shape["high"], unknown_because=shape.get("unknown_because")
    )


def _unusable(path: Path, why: str) -> InputError:
    return InputError(
        Problem(
            what=f"what a search found cannot be read ({why})",
            where=str(path),
            hint="delete the file to use the approach as study.yaml has it, or search again",
        )
    )

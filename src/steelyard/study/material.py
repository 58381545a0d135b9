"""The cases of a study, read, audited, split and checked for leakage: everything that can go wrong before money flows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.approaches.images import refuse_bad_images
from steelyard.cases.audit import Audit, audit, findings
from steelyard.cases.case import Case, Splits
from steelyard.cases.distilled import Distilled, by_teacher, for_training, read_distilled
from steelyard.cases.leakage import check_leakage, refuse_pool_leak
from steelyard.cases.read import read_cases
from steelyard.cases.split import split_cases
from steelyard.errors import InputError, Problem
from steelyard.study.file import StudyFile
from steelyard.task.accepted import expected_fault
from steelyard.task.task import Task

MOST_NOTES = 12
"""More findings than this are counted, not listed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What a study works with."""

    cases: tuple[Case, ...]
    """All cases of the file."""
    splits: Splits
    """The labelled ones by use."""
    audit: Audit
    notes: tuple[str, ...]
    """Findings worth knowing, one sentence each; none of them stops a run."""
    distilled: tuple[Case, ...] = ()
    """Cases that a teacher labelled, for training alone; see `steelyard.cases.distilled`."""


def load_material(folder: Path, file: StudyFile, task: Task) -> Material:
    """Read and check the cases of a study.

    Raises:
        InputError: A row or a picture cannot be read, an expected output breaks the schema, nothing is left to test on, or a
            declared split leaks. All problems of one kind at once.
    """
    cases = read_cases(
        folder / file.cases.file, file.cases, input_fields=task.input_fields, expected_fields=task.expected_fields
    )
    refuse_bad_images(cases, task.image_fields, folder)
    found = audit(
        cases,
        validate_expected=lambda expected: expected_fault(expected, task),
        near_duplicates=file.cases.near_duplicates,
        label_field=task.expected_fields[0] if task.labels else None,
    )
    if found.invalid_expected:
        raise InputError(found.invalid_expected)
    labelled = [case for case in cases if case.expected is not None]
    if not labelled:
        raise InputError(
            Problem(
                where=file.cases.file,
                what=f"none of the {len(cases)} cases has an expected output, so nothing can be scored",
                hint="fill in task.expected's column for at least some cases",
            )
        )
    splits = split_cases(
        labelled,
        file.cases.split,
        groups=found.groups,
        stratify_by=task.expected_fields[0] if task.labels else None,
    )
    check_leakage(splits, found.groups)
    refuse_pool_leak((*splits.train, *splits.dev), splits.test, found.groups)
    empty = [name for name in ("train", "test") if not getattr(splits, name)]
    if empty:
        raise InputError(
            Problem(
                where=file.cases.file,
                what=f"the {' and the '.join(empty)} split is empty: there are only {len(labelled)} labelled cases",
                hint="bring more cases, or change cases.split in study.yaml",
            )
        )
    distilled = _distilled(folder, file, task, splits, found)
    notes = (*_notes(found, task), *_notes_on_distilled(file, distilled))
    return Material(cases=tuple(cases), splits=splits, audit=found, notes=notes, distilled=distilled.cases)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class CheckResult:
    """What `steelyard check` found."""

    study: str
    n_cases: int
    n_by_split: dict[str, int]
    n_distilled: dict[str, int]
    """Cases beside them that a teacher labelled, by teacher."""
    label_counts: dict[str, int]
    notes: tuple[str, ...]
    approaches: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What `check --json` prints."""
        return {
            "schema": "steelyard.check/1",
            "study": self.study,
            "n_cases": self.n_cases,
            "n_by_split": self.n_by_split,
            "n_distilled": self.n_distilled,
            "label_counts": self.label_counts,
            "notes": list(self.notes),
            "approaches": list(self.approaches),
        }

    def __str__(self) -> str:
        sizes = ", ".join(f"{count:,} {name}" for name, count in self.n_by_split.items())
        lines = [f"{self.n_cases:,} cases read; {sizes}; no leakage between them"]
        if self.n_distilled:
            taught = ", ".join(f"{n:,} distilled from {name!r}" for name, n in self.n_distilled.items())
            lines.append(f"{taught}, for training alone")
        if self.label_counts:
            counts = self.label_counts
            most, least = max(counts, key=lambda k: counts[k]), min(counts, key=lambda k: counts[k])
            lines.append(
                f"{len(counts)} labels, from {counts[most]:,} cases ({most}) down to {counts[least]:,} ({least})"
            )
        lines += [f"note: {note}" for note in self.notes]
        plural = "" if len(self.approaches) == 1 else "es"
        lines.append(f"{len(self.approaches)} approach{plural}: {', '.join(self.approaches)}")
        return "\n".join(lines)

    __repr__ = __str__


def check_material(file: StudyFile, material: Material) -> CheckResult:
    """Put what loading found into one result."""
    splits = material.splits
    return CheckResult(
        study=file.study,
        n_cases=len(material.cases),
        n_by_split={"train": len(splits.train), "dev": len(splits.dev), "test": len(splits.test)},
        n_distilled=by_teacher(material.distilled),
        label_counts=dict(material.audit.label_counts),
        notes=material.notes,
        approaches=tuple(file.approaches),
    )


def _distilled(folder: Path, file: StudyFile, task: Task, splits: Splits, found: Audit) -> Distilled:
    """The labels of teachers that may be learned from.

    Raises:
        InputError: A line of their file is wrong, or an answer breaks the schema.
    """
    if file.cases.distilled is None or not (path := folder / file.cases.distilled).exists():
        return Distilled()  # `steelyard distill` may be about to write it
    cases = read_distilled(path, input_fields=task.input_fields, expected_fields=task.expected_fields)
    refuse_bad_images(cases, task.image_fields, folder)
    problems = [
        Problem(
            where=f"{case.where}:expected",
            what=f"the distilled output of case {case.id!r} breaks the output schema: {fault}",
            hint="remove the line, or distil again after a change of the task",
        )
        for case in cases
        if (fault := expected_fault(case.expected or {}, task)) is not None
    ]
    if problems:
        raise InputError(problems)
    return for_training(
        cases, splits, file.cases.split, groups=found.groups, near_duplicates=file.cases.near_duplicates
    )


def _notes_on_distilled(file: StudyFile, found: Distilled) -> list[str]:
    name = file.cases.distilled
    notes = [f"{n:,} lines of {name} are left out: {why}" for why, n in (found.left_out or {}).items()]
    if name is not None and not found.cases and not found.left_out:
        notes.append(f"there is no distilled label in {name} yet; `steelyard distill` grows some")
    return notes


def _notes(found: Audit, task: Task) -> list[str]:
    """The audit's findings and labels nobody used, one line each; many of one kind are cut."""
    problems = findings(found)
    notes = [_line(problem) for problem in problems[:MOST_NOTES]]
    if len(problems) > MOST_NOTES:
        notes.append(f"... and {len(problems) - MOST_NOTES:,} more findings like these")
    unused = [label for label in task.labels if label not in found.label_counts]
    if unused:
        notes.append(f"no case carries the label {', '.join(map(repr, unused))}: nothing is known about it")
    return notes


def _line(problem: Problem) -> str:
    place = f" (first: {problem.where})" if problem.where else ""
    return f"{problem.what}{place}" + (f"; {problem.hint}" if problem.hint else "")

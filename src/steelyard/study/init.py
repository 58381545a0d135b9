"""Write a study for a person's own cases: study.yaml, the case file beside it, and the schema for editors."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml

from steelyard.cases.layout import Column, Layout, detect_layout
from steelyard.cases.read import TIME_NAMES
from steelyard.errors import InputError, Problem, StorageFailed
from steelyard.study.file import StudyFile, standard_ladder
from steelyard.study.reference import study_schema
from steelyard.study.yaml_source import read_study_file
from steelyard.task.resolve import schema_of_fields


@dataclass(frozen=True, kw_only=True, slots=True)
class NewStudy:
    """What `init` wrote."""

    folder: Path
    file: StudyFile
    n_rows: int
    guessed: tuple[str, ...]
    """What was guessed from the data, one sentence each."""

    def to_json(self) -> dict[str, Any]:
        """What `init --json` prints."""
        return {
            "schema": "steelyard.init/1",
            "folder": str(self.folder),
            "input": self.file.task.input,
            "expected": self.file.task.expected,
            "labels": list(self.file.task.labels or ()),
            "n_rows": self.n_rows,
            "guessed": list(self.guessed),
        }

    def lines(self) -> list[str]:
        """What `init` prints."""
        task = self.file.task
        labels = f", one of {len(task.labels)} labels" if task.labels else ""
        fields = f"{', '.join(task.input)} -> {', '.join(task.expected)}{labels}"
        wrote = f"wrote {self.folder / 'study.yaml'}: {self.n_rows:,} cases, {fields}; {len(self.file.approaches)} approaches"
        return [wrote, *(f"guessed: {guess}" for guess in self.guessed)]


def init_study(
    folder: Path,
    *,
    cases: Path,
    inputs: Sequence[str] = (),
    expected: Sequence[str] = (),
    name: str | None = None,
) -> NewStudy:
    """Write study.yaml for a file of labelled cases.

    Args:
        folder: Made if it is not there; must not hold a study yet.
        cases: CSV, JSONL or Parquet; copied into the folder.
        inputs: Columns the model sees; left out, guessed.
        expected: Columns with the right answer; left out, guessed.
        name: Name of the study; left out, the folder's name.

    Raises:
        InputError: The file cannot be read, a column is not there or cannot be guessed, or a study or another file of
            that name is already there.
    """
    path = folder / "study.yaml"
    if path.exists():
        raise InputError(
            Problem(
                where=str(path), what="there is a study here already", hint="name another folder, or edit that file"
            )
        )
    layout = detect_layout(cases)
    target = folder / cases.name
    if target.exists() and target.read_bytes() != cases.read_bytes():
        raise InputError(
            Problem(
                where=str(target),
                what="there is another file of this name here, which is not overwritten",
                hint="name another folder, or rename one of the two files",
            )
        )
    guessed: list[str] = []
    input_columns = _columns(layout, inputs, "input", guessed)
    expected_columns = _columns(layout, expected, "expected", guessed)
    text = _study_yaml(name or folder.resolve().name, cases.name, layout, input_columns, expected_columns, guessed)
    try:
        (folder / ".steelyard").mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(cases, target)
        schema = orjson.dumps(study_schema(), option=orjson.OPT_INDENT_2)
        (folder / ".steelyard" / "study.schema.json").write_bytes(schema + b"\n")
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageFailed(
            Problem(where=str(folder), what=f"the study cannot be written here: {error.strerror}")
        ) from error
    return NewStudy(folder=folder, file=read_study_file(path), n_rows=layout.n_rows, guessed=tuple(guessed))


_CASE_ROLES: tuple[Literal["id", "time", "segment", "cluster"], ...] = ("id", "time", "segment", "cluster")
"""What a column may tell about a case besides input and answer, in the order study.yaml lists it."""


# Choosing columns


def _columns(
    layout: Layout, names: Sequence[str], role: Literal["input", "expected"], guessed: list[str]
) -> list[Column]:
    if names:
        return [layout.column(name, role=role) for name in names]
    candidates = layout.with_role(role)
    if not candidates:
        listed = ", ".join(column.name for column in layout.columns)
        what = {"input": "no column looks like the input", "expected": "no column looks like the expected answer"}
        raise InputError(
            Problem(where=layout.file, what=what[role], hint=f"name one with --{role}; columns here: {listed}")
        )
    chosen = list(candidates) if layout.is_nested else [candidates[0]]
    guessed.append(f"{role} is {', '.join(column.name for column in chosen)} (change it with --{role})")
    return chosen


# Writing the file


def _study_yaml(
    name: str,
    case_file: str,
    layout: Layout,
    inputs: Sequence[Column],
    expected: Sequence[Column],
    guessed: list[str],
) -> str:
    labels = expected[0].labels if len(expected) == 1 and len(expected[0].labels) >= 2 else ()
    if labels:
        instruction = f"Read the {inputs[0].name} and say which {expected[0].name} it belongs to."
    else:
        listed = ", ".join(column.name for column in expected)
        instruction = f"Read the {inputs[0].name} and give its {listed}."
    lines = [
        "# yaml-language-server: $schema=.steelyard/study.schema.json",
        f"study: {_scalar(name)}",
        *_cases_lines(case_file, layout, guessed),
        "task:",
        f"  instruction: {_scalar(instruction)}  # say it as you would to a new colleague",
        f"  input: {_flow([column.name for column in inputs])}",
        f"  expected: {_flow([column.name for column in expected])}",
    ]
    if labels:
        lines += ["  labels:  # better with definitions: `label: what belongs here`", *_wrapped(labels)]
    else:
        lines += [
            "  scorer: normalised",
            f"  max_output_tokens: {_enough_tokens(expected)}",
            *_optional_fields(expected, layout.n_rows, guessed),
        ]
    lines.append("approaches:")
    for approach, spec in standard_ladder(classification=bool(labels)).items():
        shape = spec.model_dump(exclude_unset=True, mode="json")
        lines.append(f"  {approach}: {_flow(shape) if shape else ''}".rstrip())
    lines += [
        "money:  # assumed until you write down your own",
        "  volume_per_month: 10000",
        "  wage_per_hour_usd: 40",
        "  review_share: 0.1",
        "  review_seconds: 30",
        "  failed_task_usd: 0  # what a wrong answer costs you; it often decides",
    ]
    return "\n".join(lines) + "\n"


def _cases_lines(case_file: str, layout: Layout, guessed: list[str]) -> list[str]:
    lines = []
    for role in _CASE_ROLES:
        for column in layout.with_role(role)[:1]:
            is_found_anyway = column.name == "id" or (role == "time" and column.name in TIME_NAMES)
            if is_found_anyway or (role == "id" and column.n_filled < layout.n_rows):
                continue
            lines.append(f"  {role}: {_scalar(column.name)}")
            guessed.append(f"{role} is {column.name} (change it in study.yaml)")
    if not lines:
        return [f"cases: {_scalar(case_file)}"]
    return ["cases:", f"  file: {_scalar(case_file)}", *lines]


def _enough_tokens(expected: Sequence[Column]) -> int:
    """Tokens for an answer four times as long as the mean one, at four characters a token, names included."""
    chars = sum(column.mean_chars + len(column.name) + 16 for column in expected)
    return max(48, math.ceil(chars / 16) * 16)


def _optional_fields(expected: Sequence[Column], n_rows: int, guessed: list[str]) -> list[str]:
    """An output schema in which fields that some cases lack may be missing; nothing where every case has all."""
    optional = [column.name for column in expected if column.n_filled < n_rows]
    if not optional or len(expected) == 1:
        return []
    schema = schema_of_fields(tuple(column.name for column in expected))
    schema["required"] = [name for name in schema["required"] if name not in optional]
    guessed.append(f"{', '.join(optional)} may be missing from an output, as in some cases (task.output_schema)")
    return [f"  output_schema: {_flow(schema)}"]


def _scalar(text: str) -> str:
    return yaml.safe_dump(text, allow_unicode=True, width=10_000).removesuffix("\n...\n").rstrip("\n")


def _flow(value: Any) -> str:  # noqa: ANN401 - any plain data
    fresh = orjson.loads(orjson.dumps(value))  # no object twice: YAML would write anchors
    return yaml.safe_dump(fresh, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False).rstrip(
        "\n"
    )


def _wrapped(labels: Sequence[str]) -> list[str]:
    body = yaml.safe_dump(list(labels), default_flow_style=True, allow_unicode=True, width=100)
    return [f"    {line.strip()}" for line in body.rstrip("\n").splitlines()]

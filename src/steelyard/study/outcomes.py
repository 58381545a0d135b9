"""Outcomes from anywhere: a file of results made elsewhere gives the scorecards, ledger and verdict that a run gives.

Everything is computed by the functions that compute it for a run. What such a file cannot say stays unknown: which
levers an approach pulls (unless a column `levers` says it), what labels and training cost, where it ran.

An imported study is a folder with two files: `outcomes.jsonl`, the checked outcomes, and `settings.yaml`, the money and
the goal they are weighed under, which is there to be edited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from steelyard.decision import wording
from steelyard.decision.deciding import decide
from steelyard.decision.spec import GoalSpec
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.errors import InputError, Problem, StorageFailed
from steelyard.figures import Provenance
from steelyard.measure.results import ApproachResults, from_rows
from steelyard.models.spec import Section
from steelyard.study.outcome_rows import OutcomeRows, read_outcome_rows
from steelyard.study.results import Decision, Scores
from steelyard.study.scoring import no_such_approach, score_results

OUTCOMES_FILE = "outcomes.jsonl"
SETTINGS_FILE = "settings.yaml"


class Settings(Section):
    """The sections of study.yaml that outcomes made elsewhere are weighed under."""

    money: MoneySpec = MoneySpec()
    """Volume, wages and hours; what is left out is assumed and marked so."""
    goal: GoalSpec = GoalSpec()
    """What an approach must reach to be considered at all."""
    as_of: date | None = None
    """Day of the figures; left out, the newest time among the outcomes, or else today."""


@dataclass(frozen=True)
class Outcomes:
    """Results made elsewhere, checked, with the settings they are weighed under."""

    read: OutcomeRows
    settings: Settings
    as_of: date
    """Day of the verdict."""

    @cached_property
    def results(self) -> Mapping[str, ApproachResults]:
        """By approach."""
        return from_rows(self.read.rows)

    @cached_property
    def facts(self) -> Mapping[str, ApproachFacts]:
        """What the ledger and the gates may know of approaches that ran elsewhere."""
        price = Provenance(kind="measured", source=f"{self.read.name}: cost_usd")
        return {
            name: ApproachFacts(name=name, levers=levers, price=price, is_local=False, is_imported=True)
            for name, levers in self.read.levers.items()
        }

    def score(self, *, approaches: Sequence[str] = ()) -> Scores:
        """Six metrics per approach with intervals, and paired comparisons.

        Args:
            approaches: Only these; left out, all.

        Raises:
            InputError: There is no approach of that name.
        """
        absent = [name for name in approaches if name not in self.results]
        if absent:
            raise no_such_approach(absent, self.results, place=self.read.name)
        names = list(approaches) or list(self.results)
        notes = self.read.notes
        if any(row["cost_usd"] is not None for row in self.read.rows):
            left_out = wording.not_counted(names, levers_known=all(self.facts[name].levers for name in names))
            notes = (*notes, f"not in the cost per success: {left_out}")
        return score_results(
            {name: self.results[name] for name in names},
            {name: self.facts[name] for name in names},
            self.settings.money,
            notes=notes,
        )

    def decide(self) -> Decision:
        """Gates, ledger and verdict."""
        verdict = decide(self.results, self.facts, as_of=self.as_of, money=self.settings.money, goal=self.settings.goal)
        return Decision(verdict=verdict, notes=self.read.notes)


def load_outcomes(
    path: str | Path,
    *,
    threshold: float | None = None,
    settings: str | Path | None = None,
    as_of: date | None = None,
) -> Outcomes:
    """Read outcomes made elsewhere.

    Args:
        path: CSV, JSONL, JSON or Parquet file with a row an outcome, or a folder made by `import_outcomes`.
        threshold: Score from which on an outcome is a success, 1 if left out; used where there is no column `success`.
        settings: YAML file with `money:` and `goal:` as in study.yaml; left out, what an imported folder holds, or the
            defaults.
        as_of: Day of the verdict; left out, the settings' own, the newest time among the outcomes, or else today.

    Raises:
        InputError: A file is not as it must be; lists every problem found.
    """
    path = Path(path)
    if is_imported(path):
        settings = settings if settings is not None else path / SETTINGS_FILE
        path = path / OUTCOMES_FILE
    weighed = _read_settings(Path(settings)) if settings is not None else Settings()
    read = read_outcome_rows(path, threshold=threshold)
    newest = max((row["time"] for row in read.rows if row["time"] is not None), default=None)
    of_data = date.fromisoformat(newest[:10]) if newest else None
    return Outcomes(read=read, settings=weighed, as_of=as_of or weighed.as_of or of_data or date.today())


def is_imported(folder: Path) -> bool:
    """Whether a folder was made by `import_outcomes`."""
    return (folder / OUTCOMES_FILE).is_file()


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import wrote."""

    folder: Path
    outcomes: Outcomes

    def to_json(self) -> dict[str, Any]:
        """What `import --json` prints."""
        return {
            "schema": "steelyard.import/1",
            "folder": str(self.folder),
            "outcomes": len(self.outcomes.read.rows),
            "cases": {name: one.n for name, one in self.outcomes.results.items()},
            "notes": list(self.outcomes.read.notes),
        }

    def __str__(self) -> str:
        n_cases = len({row["case_id"] for row in self.outcomes.read.rows})
        n_approaches = len(self.outcomes.results)
        n_outcomes = len(self.outcomes.read.rows)
        lines = [f"{n_outcomes:,} outcomes of {n_approaches} approaches on {n_cases:,} cases, in {self.folder}"]
        lines += [f"  {name}: {one.n:,} cases" for name, one in self.outcomes.results.items()]
        lines.append(f"money and goal are in {self.folder / SETTINGS_FILE}; what stands there may be edited")
        return "\n".join(lines)


def import_outcomes(
    path: str | Path,
    folder: str | Path,
    *,
    threshold: float | None = None,
    settings: str | Path | None = None,
    as_of: date | None = None,
) -> Imported:
    """Write results made elsewhere into a folder that can be scored and decided on later; overwrites nothing.

    Args:
        path: As for `load_outcomes`.
        folder: Folder to make, or an empty one.
        threshold: As for `load_outcomes`; applied now and for good.
        settings: As for `load_outcomes`; what it says is copied.
        as_of: As for `load_outcomes`; written into the settings, so that the same folder gives the same verdict.

    Raises:
        InputError: The outcomes or settings are not as they must be, or there is something in the folder already.
        StorageFailed: The folder cannot be written.
    """
    outcomes = load_outcomes(path, threshold=threshold, settings=settings, as_of=as_of)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            hint = "name another folder with -o"
            raise InputError(Problem(where=str(folder), what="there is something here already", hint=hint))
        (folder / SETTINGS_FILE).write_text(_settings_text(outcomes), encoding="utf-8")
        (folder / OUTCOMES_FILE).write_bytes(b"".join(_line(row) for row in outcomes.read.rows))
    except FileExistsError:
        raise InputError(
            Problem(where=str(folder), what="this is a file, not a folder", hint="name another with -o")
        ) from None
    except OSError as error:
        raise StorageFailed(Problem(where=str(folder), what=f"this cannot be written: {error.strerror}")) from error
    return Imported(folder=folder, outcomes=outcomes)


# --- private ---------------------------------------------------------------------------------------------------------


def _read_settings(path: Path) -> Settings:
    from steelyard.study.yaml_source import read_checked

    absent = Problem(where=str(path), what="there is no such file of settings", hint="it holds money: and goal:")
    settings = read_checked(path, Settings, absent=absent)
    return settings.model_copy(update={"money": settings.money.written_in(path.name)})


def _settings_text(outcomes: Outcomes) -> str:
    import yaml

    # Only what the user wrote: a default that is shown as assumed must stay a default.
    written = outcomes.settings.model_dump(mode="json", exclude_unset=True)
    shape = {"as_of": outcomes.as_of, "money": {}, "goal": {}} | {k: v for k, v in written.items() if k != "as_of"}
    head = "# What the outcomes are weighed under; docs/study-yaml.md lists the fields of money and goal.\n"
    return head + yaml.safe_dump(shape, sort_keys=False, allow_unicode=True)


def _line(row: Mapping[str, Any]) -> bytes:
    """Unknown is left out, but for success: that there is a column must be seen even where nothing was scored."""
    shape = {key: value for key, value in row.items() if value is not None or key == "success"}
    if row["levers"]:
        shape["levers"] = "+".join(row["levers"])
    return orjson.dumps(shape, option=orjson.OPT_APPEND_NEWLINE)

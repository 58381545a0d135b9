"""Outcomes from anywhere: a file of results made elsewhere gives the scorecards, ledger and verdict that a run gives.

Everything is computed by the functions that compute it for a run. What such a file cannot say stays unknown: which
levers an approach pulls (unless a column `levers` says it), what labels and training cost, where it ran.

An imported study is a folder with two files: `outcomes.jsonl`, the checked outcomes, and `settings.yaml`, the money and
the goal they are weighed under, which is there to be edited.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from steelyard.decision import wording
from steelyard.decision.deciding import decide
from steelyard.decision.spec import GoalSpec
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.economics.summary import Count, LeverName
from steelyard.errors import InputError, Problem, StorageFailed
from steelyard.figures import Provenance
from steelyard.measure.results import ApproachResults, from_frame
from steelyard.measure.scoring import in_ladder_order
from steelyard.models.spec import NotNegative, Section
from steelyard.study.outcome_rows import OutcomeRows, read_outcome_rows
from steelyard.study.results import Decision, Scores
from steelyard.study.scoring import no_such_approach, score_results
from steelyard.study.where import conditions

if TYPE_CHECKING:
    import polars

OUTCOMES_FILE = "outcomes.jsonl"
SETTINGS_FILE = "settings.yaml"


class ApproachSettings(Section):
    """What a file of outcomes does not say about one of its approaches."""

    levers: Annotated[list[LeverName], Field(min_length=1)] | None = None
    """What it pulls, where the file has no column `levers`; for all approaches or for none."""
    cost_per_task_usd: NotNegative | None = None
    """What the calls and computing of one task cost, where the file has no `cost_usd` for this approach."""
    labels: Count | None = None
    """Labelled cases it needs; left out, unknown and not counted."""
    setup_usd: NotNegative | None = None
    """What preparing it (training, indexing) cost in computing; left out, unknown and not counted."""
    authoring_hours: NotNegative | None = None
    """Hours to build it, once; left out, those of its levers under `money`."""
    maintenance_hours_per_month: NotNegative | None = None
    """Hours a month to keep it; left out, those of its levers under `money`."""
    calls_model: bool = True
    """Whether it asks a generative model at all."""
    is_local: bool = False
    """Whether it runs on hardware of one's own, without a provider."""
    source: Annotated[str, Field(min_length=1)] | None = None
    """Where these figures were read; with `as_of` they count as quoted, else as assumed."""
    as_of: date | None = None
    """The day they were read."""

    @model_validator(mode="after")
    def _is_quoted_whole(self) -> Self:
        if (self.source is None) != (self.as_of is None):
            raise ValueError("a quoted figure needs both: source (where it was read) and as_of (when)")
        return self

    def provenance(self, where: str) -> Provenance:
        """Of these figures; `where` names the section they stand in."""
        if self.source is not None and self.as_of is not None:
            return Provenance(kind="quoted", source=self.source, as_of=self.as_of.isoformat())
        return Provenance(kind="assumed", source=where)


class Settings(Section):
    """The sections of study.yaml that outcomes made elsewhere are weighed under."""

    money: MoneySpec = MoneySpec()
    """Volume, wages and hours; what is left out is assumed and marked so."""
    goal: GoalSpec = GoalSpec()
    """What an approach must reach to be considered at all."""
    approaches: dict[str, ApproachSettings] = Field(default_factory=dict)
    """What the outcomes do not say about their approaches, by name."""
    as_of: date | None = None
    """Day of the figures; left out, the newest time among the outcomes, or else today."""


@dataclass(frozen=True)
class Outcomes:
    """Results made elsewhere, checked, with the settings they are weighed under."""

    read: OutcomeRows
    settings: Settings
    as_of: date
    """Day of the verdict."""

    settings_name: str = ""
    """File of the settings, for provenance."""

    @cached_property
    def results(self) -> Mapping[str, ApproachResults]:
        """By approach."""
        results = from_frame(self.read.frame)
        for name in self.priced:
            cost = np.full(results[name].n, self.settings.approaches[name].cost_per_task_usd)
            cost.setflags(write=False)
            results[name] = replace(results[name], cost_usd=cost)
        return results

    @cached_property
    def priced(self) -> tuple[str, ...]:
        """Approaches whose cost per task is that of the settings, because the file has none."""
        stated = [name for name, one in self.settings.approaches.items() if one.cost_per_task_usd is not None]
        if "cost_usd" not in self.read.frame.columns:
            return tuple(stated)
        known = self.read.frame.drop_nulls("cost_usd")["approach"].unique().to_list()
        return tuple(name for name in stated if name not in known)

    @cached_property
    def facts(self) -> Mapping[str, ApproachFacts]:
        """What the ledger and the gates may know of approaches that ran elsewhere."""
        return {name: self._facts(name, levers) for name, levers in self.read.levers.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about how the outcomes were read and completed."""
        stated = [name for name, one in self.settings.approaches.items() if one.cost_per_task_usd is not None]
        unused = [name for name in stated if name not in self.priced]
        if not unused:
            return self.read.notes
        return (
            *self.read.notes,
            f"cost_per_task_usd was not used for {', '.join(unused)}: the outcomes say their cost",
        )

    def _facts(self, name: str, levers: tuple[str, ...]) -> ApproachFacts:
        stated = self.settings.approaches.get(name, ApproachSettings())
        where = f"{self.settings_name}: approaches.{name}"
        price = Provenance(kind="measured", source=f"{self.read.name}: cost_usd")
        known = {"n_labels": stated.labels, "setup_cost_usd": stated.setup_usd}
        return ApproachFacts(
            name=name,
            levers=levers,
            calls_model=stated.calls_model,
            n_labels=stated.labels or 0,
            setup_cost_usd=stated.setup_usd or 0.0,
            price=stated.provenance(f"{where}.cost_per_task_usd") if name in self.priced else price,
            is_local=stated.is_local,
            authoring_hours=stated.authoring_hours,
            maintenance_hours_per_month=stated.maintenance_hours_per_month,
            is_imported=True,
            stated=frozenset(field for field, value in known.items() if value is not None),
            stated_by=stated.provenance(where),
        )

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
        notes = self.notes
        if any(not np.isnan(self.results[name].cost_usd).all() for name in names) and (
            left_out := self._left_out(names)
        ):
            notes = (*notes, f"not in the cost per success: {left_out}")
        return score_results(
            {name: self.results[name] for name in names},
            {name: self.facts[name] for name in names},
            self.settings.money,
            notes=notes,
        )

    def _left_out(self, names: Sequence[str]) -> str | None:
        """What the cost per success does not hold of these approaches."""
        partly = [name for name in names if self.facts[name].leaves_costs_out]
        return (
            wording.not_counted(partly, levers_known=all(self.facts[name].levers for name in partly))
            if partly
            else None
        )

    def decide(self) -> Decision:
        """Gates, ledger and verdict."""
        verdict = decide(self.results, self.facts, as_of=self.as_of, money=self.settings.money, goal=self.settings.goal)
        return Decision(verdict=verdict, notes=self.notes)


def load_outcomes(
    path: str | Path,
    *,
    threshold: float | None = None,
    settings: str | Path | None = None,
    as_of: date | None = None,
    where: Sequence[str] = (),
) -> Outcomes:
    """Read outcomes made elsewhere.

    Args:
        path: CSV, JSONL, JSON or Parquet file with a row an outcome, or a folder made by `import_outcomes`.
        threshold: Score from which on an outcome is a success, 1 if left out; used where there is no column `success`.
        settings: YAML file with `money:` and `goal:` as in study.yaml, and `approaches:` (`ApproachSettings`); left
            out, what an imported folder holds, or the defaults.
        as_of: Day of the verdict; left out, the settings' own, the newest time among the outcomes, or else today.
        where: Conditions `COLUMN=VALUE`; only the rows that meet all of them are read.

    Raises:
        InputError: A file is not as it must be; lists every problem found.
    """
    path = Path(path)
    if is_imported(path):
        settings = settings if settings is not None else path / SETTINGS_FILE
        path = path / OUTCOMES_FILE
    weighed = _read_settings(Path(settings)) if settings is not None else Settings()
    settings_name = Path(settings).name if settings is not None else ""
    levers = {name: in_ladder_order(one.levers) for name, one in weighed.approaches.items() if one.levers}
    read = read_outcome_rows(path, threshold=threshold, where=conditions(where), levers=levers)
    _check_approaches(weighed, settings_name, read, levers)
    newest = read.frame["time"].max() if "time" in read.frame.columns else None
    of_data = date.fromisoformat(str(newest)[:10]) if newest else None
    day = as_of or weighed.as_of or of_data or date.today()
    return Outcomes(read=read, settings=weighed, as_of=day, settings_name=settings_name)


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
            "outcomes": self.outcomes.read.frame.height,
            "cases": {name: one.n for name, one in self.outcomes.results.items()},
            "notes": list(self.outcomes.notes),
        }

    def __str__(self) -> str:
        n_cases = self.outcomes.read.frame["case_id"].n_unique()
        n_approaches = len(self.outcomes.results)
        n_outcomes = self.outcomes.read.frame.height
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
    where: Sequence[str] = (),
) -> Imported:
    """Write results made elsewhere into a folder that can be scored and decided on later; overwrites nothing.

    Args:
        path: As for `load_outcomes`.
        folder: Folder to make, or an empty one.
        threshold: As for `load_outcomes`; applied now and for good.
        settings: As for `load_outcomes`; what it says is copied.
        as_of: As for `load_outcomes`; written into the settings, so that the same folder gives the same verdict.
        where: As for `load_outcomes`; the other rows are not written.

    Raises:
        InputError: The outcomes or settings are not as they must be, or there is something in the folder already.
        StorageFailed: The folder cannot be written.
    """
    outcomes = load_outcomes(path, threshold=threshold, settings=settings, as_of=as_of, where=where)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            hint = "name another folder with -o"
            raise InputError(Problem(where=str(folder), what="there is something here already", hint=hint))
        (folder / SETTINGS_FILE).write_text(_settings_text(outcomes), encoding="utf-8")
        _to_write(outcomes.read).write_ndjson(folder / OUTCOMES_FILE)
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


def _to_write(read: OutcomeRows) -> polars.DataFrame:
    """Columns that say nothing are left out, but for success: that there is one must be seen also if it is unknown."""
    import polars as pl

    frame = read.frame
    said = [name for name in frame.columns if name == "success" or frame[name].null_count() < frame.height]
    frame = frame.select(said)
    if not any(read.levers.values()):
        return frame
    levers = pl.DataFrame({"approach": list(read.levers), "levers": ["+".join(one) for one in read.levers.values()]})
    return frame.cast({"approach": pl.String}).join(levers, on="approach", how="left", maintain_order="left")


def _check_approaches(settings: Settings, name: str, read: OutcomeRows, levers: Mapping[str, tuple[str, ...]]) -> None:
    problems = []
    for approach in settings.approaches:
        where = f"{name}: approaches.{approach}"
        if approach not in read.levers:
            nearest = difflib.get_close_matches(approach, read.levers, n=1)
            guess = f"did you mean {nearest[0]!r}? " if nearest else ""
            what = f"{read.name} holds no outcomes of {approach!r}"
            problems.append(Problem(where=where, what=what, hint=f"{guess}there is: {', '.join(read.levers)}"))
        elif approach in levers and levers[approach] != read.levers[approach]:
            said = "+".join(read.levers[approach])
            what = f"{approach!r} pulls {said} according to {read.name}, and {'+'.join(levers[approach])} here"
            problems.append(Problem(where=f"{where}.levers", what=what, hint="say it in one of the two places"))
    if problems:
        raise InputError(problems)

"""Score, decide and report: pure computation over what the journal holds."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from steelyard.approaches.approach import Setup
from steelyard.decision.deciding import decide
from steelyard.economics.accounting import ledger
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec, source_of
from steelyard.engine.entries import DropRecord, StepSums
from steelyard.engine.journal import JOURNAL_FILE, Journal
from steelyard.errors import InputError, Problem
from steelyard.figures import Figure
from steelyard.measure.comparing import comparisons
from steelyard.measure.fields import FieldRow, field_rows
from steelyard.measure.forgetting import Forgetting
from steelyard.measure.results import ApproachResults, from_rows
from steelyard.measure.scoring import scorecards
from steelyard.measure.segments import segment_tables
from steelyard.models.spec import PriceSpec
from steelyard.report.forgetting import forgetting_warning
from steelyard.study.cascade_use import CascadeUse, cascade_uses
from steelyard.study.file import StudyFile
from steelyard.study.forgetting import forgetting_of
from steelyard.study.record import ApproachRecord, StudyRecord, read_record, settings_of
from steelyard.study.results import Decision, Scores
from steelyard.study.retrieving import study_retrieval


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the journal says about the approaches of a study on the test split."""

    record: StudyRecord
    file: StudyFile
    """The settings in force: today's study.yaml where there is one, else the recorded one."""
    approaches: Mapping[str, ApproachRecord]
    results: Mapping[str, ApproachResults]
    setups: Mapping[str, Setup | None]
    steps: Mapping[str, Sequence[StepSums]] = field(default_factory=dict)
    """What the steps of each approach took."""
    fields: tuple[FieldRow, ...] = ()
    """What is right field by field."""
    cascades: tuple[CascadeUse, ...] = ()
    """What the cascades did."""
    forgotten: Mapping[str, Forgetting] = field(default_factory=dict)
    """What tuned approaches forgot; no figure of the task."""
    drops: Mapping[str, DropRecord] = field(default_factory=dict)
    """Approaches that a race took out and that did fewer cases than the others."""
    outdated: tuple[str, ...] = ()
    """Sentences on approaches about which study.yaml says something else than when they were run."""
    not_run: tuple[str, ...] = ()
    """Sentences on approaches that were asked for and have no outcomes."""

    @property
    def facts(self) -> dict[str, ApproachFacts]:
        """What the ledger has to know of each approach."""
        return {
            name: one.facts(
                self.setups[name],
                steps=self.steps.get(name, ()),
                n_outcomes=self.results[name].n_outcomes,
                paid=_price(self.record.file, one),
                now=_price(self.file, one),
            )
            for name, one in self.approaches.items()
        }

    @property
    def dropped(self) -> dict[str, str]:
        """Why each dropped approach is out."""
        return {name: drop.reason for name, drop in self.drops.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before trusting the figures."""
        raced = [f"{name} was {drop.reason}" for name, drop in self.drops.items()]
        changed = [name for name, drop in self.drops.items() if drop.terms != terms_of(self.file)]
        if changed:
            raced.append(
                f"the race that dropped {', '.join(changed)} weighed another money or goal section than study.yaml has"
                " now: complete them with a run without --race"
            )
        warnings = (forgetting_warning(name, found) for name, found in self.forgotten.items())
        forgetful = [warning for warning in warnings if warning is not None]
        return (*self.outdated, *self.not_run, *raced, *map(str, self.cascades), *forgetful)

    @property
    def n_waiting(self) -> int:
        """Labelled test cases that some approach still in the running has not done."""
        done = [one.n for name, one in self.results.items() if name not in self.drops]
        return max(0, self.record.split_counts.get("test", 0) - min(done, default=0))

    @property
    def baseline(self) -> str | None:
        """The approach every other one must beat: looking up the most similar example, without any model call."""
        return next(
            (n for n, one in self.approaches.items() if one.endpoint is None and one.levers == ("retrieval",)), None
        )

    @property
    def as_of(self) -> date:
        """The day of the figures: when the last run ended, not today."""
        return date.fromisoformat(self.record.finished_utc[:10])


def read_evidence(journal: Journal, file: StudyFile | None, *, where: str, approaches: Sequence[str] = ()) -> Evidence:
    """Read what there is.

    Args:
        journal: The study's journal.
        file: Today's study.yaml; `None` uses the settings of the last run.
        where: The study folder, for messages.
        approaches: Only these; left out, all of study.yaml that were run.

    Raises:
        InputError: Nothing was run yet, or none of the approaches asked for.
    """
    record = read_record(journal, where=where)
    settings = file or record.file
    unknown = [name for name in approaches if name not in settings.approaches and name not in record.approaches]
    if unknown:
        raise no_such_approach(unknown, settings.approaches)
    wanted = list(approaches) or list(settings.approaches)
    known = {name: record.approaches[name] for name in wanted if name in record.approaches}
    rows = journal.measurements({name: one.fingerprint for name, one in known.items()}, split="test")
    found = from_rows(rows)
    if not found:
        raise InputError(
            Problem(
                where=where,
                what=f"there are no outcomes of {', '.join(map(repr, wanted))} yet",
                hint=f"steelyard run {where}" + "".join(f" --approach {name}" for name in approaches),
            )
        )
    names = [name for name in wanted if name in found]
    fingerprints = {name: known[name].fingerprint for name in names}
    steps = journal.step_sums(fingerprints, split="test")
    today = settings.model_dump(mode="json", exclude_unset=True)
    changed = [name for name in names if known[name].settings != settings_of(today, name)]
    missing = [name for name in wanted if name not in found]
    setups = {name: journal.preparation(name, known[name].fingerprint) for name in names}
    return Evidence(
        record=record,
        file=settings,
        approaches={name: known[name] for name in names},
        results={name: found[name] for name in names},
        setups=setups,
        cascades=cascade_uses({name: known[name] for name in names}, setups, journal),
        forgotten=_forgotten(record, setups, journal),
        fields=field_rows(journal.field_verdicts(fingerprints, split="test")),
        steps={name: [step for step in steps if step.approach == name] for name in names},
        drops={drop.approach: drop for drop in journal.drops() if fingerprints.get(drop.approach) == drop.fingerprint},
        outdated=(
            (
                f"study.yaml was changed after {', '.join(changed)} ran: these figures are from before (run the study again)",
            )
            if changed
            else ()
        ),
        not_run=(f"not run yet: {', '.join(missing)}",) if missing else (),
    )


def score_evidence(evidence: Evidence, journal: Journal) -> Scores:
    """Six metrics per approach, the full cost of a success included, all paired comparisons, and what was retrieved."""
    scores = score_results(evidence.results, evidence.facts, evidence.file.money, notes=evidence.notes)
    retrieval = study_retrieval(
        evidence.file, evidence.approaches, evidence.setups, journal, models=evidence.record.models
    )
    return replace(scores, fields=evidence.fields, retrieval=retrieval, cascades=evidence.cascades)


def score_results(
    results: Mapping[str, ApproachResults],
    facts: Mapping[str, ApproachFacts],
    money: MoneySpec,
    *,
    notes: tuple[str, ...] = (),
) -> Scores:
    """The same for outcomes from wherever they come."""
    cards = scorecards(
        results,
        levers={name: one.levers for name, one in facts.items()},
        prices={name: one.price for name, one in facts.items()},
        assumed_review_s=Figure(value=money.review_seconds, provenance=source_of(money, "review_seconds")),
    )
    full = [
        card.with_cost_per_success(ledger(results[card.name], facts[card.name], money).cost_per_success_usd)
        for card in cards
    ]
    # The better one of a pair is named first.
    by_success = sorted(full, key=lambda card: -(card.success.value or 0.0))
    pairs = comparisons({card.name: results[card.name] for card in by_success})
    return Scores(scorecards=tuple(full), comparisons=tuple(pairs), notes=notes, segments=segment_tables(results))


def decide_evidence(evidence: Evidence) -> Decision:
    """Gates, ledger and verdict."""
    verdict = decide(
        evidence.results,
        evidence.facts,
        as_of=evidence.as_of,
        money=evidence.file.money,
        goal=evidence.file.goal,
        baseline=evidence.baseline,
        dropped=evidence.dropped,
        n_waiting=evidence.n_waiting,
    )
    return Decision(verdict=verdict, notes=evidence.notes)


def _forgotten(record: StudyRecord, setups: Mapping[str, Setup | None], journal: Journal) -> dict[str, Forgetting]:
    """What is known of it, by approach."""
    known = {name: (record.approaches[name], setup.card or {}) for name, setup in setups.items() if setup is not None}
    found = {
        name: forgetting_of(
            name, one.fingerprint, card, journal, endpoint=one.endpoint, file=record.file, models=record.models
        )
        for name, (one, card) in known.items()
    }
    return {name: one for name, one in found.items() if one is not None}


def terms_of(file: StudyFile) -> dict[str, Any]:
    """What a race weighs besides outcomes: the money and the goal."""
    return file.model_dump(mode="json", include={"money", "goal"}, exclude_unset=True)


def no_such_approach(names: Sequence[str], known: Iterable[str], *, place: str = "this study") -> InputError:
    """The error for approaches asked for by a name that is not there, with the nearest that is."""
    there = list(known)
    nearest = difflib.get_close_matches(names[0], there, n=1)
    guess = f"did you mean {nearest[0]!r}? " if nearest else ""
    return InputError(
        Problem(
            where="--approach",
            what=f"no approach called {', '.join(map(repr, names))} in {place}",
            hint=f"{guess}there is: {', '.join(there)}",
        )
    )


def _price(file: StudyFile, approach: ApproachRecord) -> PriceSpec | None:
    """The price of the one endpoint it calls; a cascade over two has none that holds for all its calls."""
    found = file.models.endpoints.get(approach.endpoints[0]) if len(approach.endpoints) == 1 else None
    return found.price_per_million if found else None


def journal_path(folder: Path) -> Path:
    """Where the journal of a study lies."""
    return folder / JOURNAL_FILE

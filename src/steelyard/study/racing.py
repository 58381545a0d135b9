"""A race over a study: who runs which cases next, and what is written down of who was dropped.

Rounds interleave the approaches: each runs the same few cases more, then those still in are weighed. Within a round one
approach comes after the other, because a local server must not switch adapters back and forth, and rounds grow, so that
there are few of them. What is decided hangs on the seed and the outcomes in the journal alone; a race that was killed
and is given again comes to the same decisions and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.approaches.approach import Prepared
from steelyard.cases.case import Case
from steelyard.cases.sample import draw
from steelyard.decision.racing import ROUND, Race, entrant, lane, race
from steelyard.engine.entries import DropRecord
from steelyard.engine.journal import Journal
from steelyard.engine.run import Work
from steelyard.measure.results import from_rows
from steelyard.study.file import StudyFile
from steelyard.study.record import read_record
from steelyard.study.scoring import terms_of

_ORDER = 0x7ACE
"""Added to the seed, so that the order of a race is another one than that of the split and of samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceResult:
    """How a race went."""

    race: Race
    n_cases: int
    """Test cases there are."""
    n_outcomes: int
    """Outcomes in the journal now, all approaches of the race together."""
    n_all_outcomes: int
    """What running everything would have come to."""
    saved: float
    """Share of all model calls (without any: of all outcomes) that were not needed; estimated from those made."""

    def to_json(self) -> dict[str, Any]:
        """The part `race` of `run --json`."""
        return {
            "cases": self.n_cases,
            "cases_raced": self.race.n_cases,
            "outcomes": self.n_outcomes,
            "outcomes_without_race": self.n_all_outcomes,
            "calls_saved": self.saved,
            "dropped": [
                {"name": drop.name, "after_cases": drop.n_cases, "by": drop.by, "reason": drop.reason}
                for drop in self.race.dropped
            ],
            "left": list(self.race.left),
            "winner": self.race.winner,
            "sentence": self.race.sentence,
        }

    def __str__(self) -> str:
        lines = [f"  {drop.name}: {drop.reason}" for drop in self.race.dropped]
        fewer = f"{self.saved:.0%} fewer calls" if self.n_outcomes < self.n_all_outcomes else "nothing saved"
        raced = f"raced: {self.n_outcomes:,} of {self.n_all_outcomes:,} outcomes, {fewer}"
        return "\n".join([f"{raced}; {self.race.sentence}", *lines])


class Rounds:
    """The rounds of one race, and its state in between."""

    def __init__(
        self,
        file: StudyFile,
        test: Sequence[Case],
        prepared: Mapping[str, Prepared],
        journal: Journal,
        *,
        where: str,
        note: Callable[[str], None],
    ) -> None:
        """Begin, or go on with, a race.

        Args:
            file: The study; its money and goal are what is weighed.
            test: The test cases.
            prepared: The approaches, at least two.
            journal: With the run already begun, so that it knows the approaches.
            where: The study folder, for messages.
            note: Told what was decided.
        """
        self._file = file
        self._order = race_order(test, file.cases.split.seed)
        self._digests = [case.digest() for case in self._order]
        self._prepared = prepared
        self._journal = journal
        self._note = note
        self._fingerprints = {name: one.approach.fingerprint for name, one in prepared.items()}
        records = read_record(journal, where=where).approaches
        self._entrants = [
            entrant(
                records[name].facts(journal.preparation(name, one.approach.fingerprint)),
                file.money,
                n_cases=len(self._order),
            )
            for name, one in prepared.items()
        ]
        self._known = {drop.approach: drop.n_cases for drop in journal.drops()}
        self._n_handed_out = 0
        self.n_outcomes_before = self._n_outcomes()
        """Outcomes that were there before this run."""
        self.now = self._weigh()
        if self.now.next_look is not None:
            n = len(self._order)
            note(
                f"racing {len(prepared)} approaches over {n:,} cases in random order, {ROUND} at a time and later more"
            )

    def more(self) -> list[Work]:
        """Write down what is decided, and hand out the next round; empty once the race is over."""
        self.now = self._weigh()
        self._write_down()
        if self.now.next_look is None:
            return []
        assert self.now.next_look > self._n_handed_out, "a round ended without all its outcomes"
        work = [self._work(name, self._n_handed_out, self.now.next_look) for name in self.now.left]
        self._n_handed_out = self.now.next_look
        return work

    def all_left(self) -> list[Work]:
        """All that may still be asked for."""
        return [] if self.now.is_over else [self._work(name, 0, len(self._order)) for name in self.now.left]

    def result(self) -> RaceResult:
        """How it went."""
        repeats = self._file.run.repeats
        n_done = self._n_done()
        calls = dict.fromkeys(self._fingerprints, 0.0)
        for step in self._journal.step_sums(self._fingerprints, split="test"):
            calls[step.approach] += step.calls / max(1, n_done[step.approach])
        per_case = calls if any(calls.values()) else dict.fromkeys(calls, 1.0)
        everything = sum(per_case.values()) * len(self._order)
        made = sum(each * n_done[name] for name, each in per_case.items())
        return RaceResult(
            race=self.now,
            n_cases=len(self._order),
            n_outcomes=self._n_outcomes(),
            n_all_outcomes=len(self._fingerprints) * len(self._order) * repeats,
            saved=1 - made / everything,
        )

    def _n_done(self) -> dict[str, int]:
        return {name: len(self._done(name)) for name in self._fingerprints}

    def _n_outcomes(self) -> int:
        return sum(self._n_done().values()) * self._file.run.repeats

    def _work(self, name: str, start: int, stop: int) -> Work:
        return Work(
            approach=self._prepared[name].approach,
            cases=self._order[start:stop],
            split="test",
            repeats=self._file.run.repeats,
        )

    def _weigh(self) -> Race:
        clusters = [case.cluster for case in self._order]
        order = [case.id for case in self._order]
        done = {name: self._done(name) for name in self._fingerprints}
        rows = self._journal.measurements(self._fingerprints, split="test")
        results = from_rows(row for row in rows if row["case_id"] in done[row["approach"]])
        return race(
            self._entrants,
            {name: lane(results.get(name), order) for name in self._fingerprints},
            n_cases=len(order),
            goal=self._file.goal,
            clusters=clusters,
        )

    def _done(self, name: str) -> set[str]:
        """Cases done in all repeats, as they read now."""
        done = self._journal.done(name, self._fingerprints[name])
        return {
            case.id
            for case, digest in zip(self._order, self._digests, strict=True)
            if all((case.id, digest, "test", repeat) in done for repeat in range(self._file.run.repeats))
        }

    def _write_down(self) -> None:
        for drop in self.now.dropped:
            if self._known.get(drop.name) == drop.n_cases:
                continue
            self._known[drop.name] = drop.n_cases
            self._note(f"{drop.name}: {drop.reason}")
            if len(self._done(drop.name)) == len(self._order):
                self._journal.clear_drop(drop.name)  # an earlier run did all its cases: nothing of it is missing
                continue
            self._journal.record_drop(
                DropRecord(
                    approach=drop.name,
                    fingerprint=self._fingerprints[drop.name],
                    n_cases=drop.n_cases,
                    reason=drop.reason,
                    terms=terms_of(self._file),
                )
            )
        if self.now.is_over:
            self._note(f"race {self.now.sentence}")
            for name in self.now.left:
                self._journal.clear_drop(name)


def race_order(cases: Sequence[Case], seed: int) -> tuple[Case, ...]:
    """A random order that hangs on the seed and the cases alone, the cases of a cluster next to each other."""
    clusters: dict[object, list[Case]] = {}
    for case in cases:
        clusters.setdefault(case.id if case.cluster is None else (case.cluster,), []).append(case)
    keyed = []
    for members in clusters.values():
        drawn = sorted(members, key=lambda case: draw(seed + _ORDER, case))
        # Not the first drawn: with more to draw from, large clusters would come first.
        keyed.append((draw(seed + _ORDER, min(members, key=lambda case: case.id)), drawn))
    return tuple(case for _, members in sorted(keyed, key=lambda one: one[0]) for case in members)


def complete_after_all(journal: Journal, fingerprints: Mapping[str, str], others: Mapping[str, str]) -> None:
    """Forget the drops of approaches that have meanwhile done as many test cases as any other.

    Args:
        journal: With all outcomes on disk.
        fingerprints: Versions of the approaches that may be complete now, by name.
        others: Versions of all approaches of the study.
    """
    dropped = {drop.approach for drop in journal.drops()}
    if not dropped:
        return
    done = journal.n_cases_done({**others, **fingerprints}, split="test")
    most = max(done.values(), default=0)
    for name in dropped & set(fingerprints):
        if done.get(name, 0) == most:
            journal.clear_drop(name)

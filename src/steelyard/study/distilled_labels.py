"""From a teacher's answers in the journal to labels beside the cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from steelyard.cases.case import Case
from steelyard.cases.distilled import distilled_line, read_distilled
from steelyard.engine.journal import Journal
from steelyard.engine.outcome import Outcome
from steelyard.engine.writer import storage_failed
from steelyard.figures import Figure, unknown
from steelyard.measure.intervals import wilson
from steelyard.study.distilled_review import Review, read_review, review_path, write_review
from steelyard.study.teaching import Acceptance, Taught, judged, parse_acceptance

if TYPE_CHECKING:
    from steelyard.study.study import Study

UNLABELLED: Final = "nobody has labelled this case"
"""Why the answer to such a case has no score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What one command makes of answers."""

    cases: Sequence[Case]
    """Those accepted, with their labels."""
    asked: set[str]
    """Ids of all inputs that were decided about."""
    n_to_review: int = 0
    n_corrected: int = 0
    review_file: Path | None = None


def labels_from_answers(
    study: Study, taught: Taught, journal: Journal, cases: Sequence[Case], terms: Acceptance
) -> Labels:
    """What the terms of acceptance make of the answers in the journal; writes the review list of the others."""
    answers = _answers(journal, taught)
    asked = [case for case in cases if case.id in answers]
    labels, reviews = [], []
    for case in asked:
        answer = judged(answers[case.id], terms, study.task)
        if answer.is_accepted:
            meta = taught.meta(accepted_by=str(terms), confidence=answer.confidence)
            labels.append(replace(case, expected=answer.expected, teacher=taught.name, meta=meta))
        elif answer.expected is not None:
            reviews.append(Review(case=case, given=answer.expected, why=answer.why))
    path = write_review(review_path(study.folder, taught.name), reviews) if reviews else None
    return Labels(cases=labels, asked={case.id for case in asked}, n_to_review=len(reviews), review_file=path)


def labels_from_review(study: Study, taught: Taught, journal: Journal, file: Path) -> Labels:
    """What a person decided about answers in the journal; asks nothing."""
    given = {}
    for case_id, outcomes in _answers(journal, taught).items():
        answer = judged(outcomes, parse_acceptance("valid"), study.task)
        if answer.expected is not None:
            given[case_id] = answer.expected
    decisions = read_review(file, given, study.task)
    inputs, known = journal.cases(), {case.id: case for case in study.material.cases}
    labels = []
    for one in decisions:
        if one.expected is not None:
            case = known.get(one.case_id) or Case(id=one.case_id, input=inputs[one.case_id]["input"])
            accepted_by = "reviewer, corrected" if one.is_corrected else "reviewer"
            meta = taught.meta(accepted_by=accepted_by, confidence=None)
            labels.append(replace(case, expected=one.expected, teacher=taught.name, meta=meta))
    return Labels(
        cases=labels,
        asked={one.case_id for one in decisions},
        n_corrected=sum(one.is_corrected for one in decisions),
    )


def _answers(journal: Journal, taught: Taught) -> dict[str, list[Outcome]]:
    """Outcomes of the teacher on cases that nobody has labelled, by case id, repeats in order."""
    found: dict[str, list[Outcome]] = {}
    for outcome in journal.outcomes({taught.name: taught.version}, split="train"):
        if outcome.unscored_because == UNLABELLED:
            found.setdefault(outcome.case_id, []).append(outcome)
    return found


def keep_labels(path: Path, study: Study, taught: Taught, labels: Labels, cost_usd: float | None) -> int:
    """Write the labels beside the cases, in the place of earlier ones to the same inputs; returns how many there are.

    What the teacher's answers have cost, turned down ones included, is shared evenly by the labels there are of it.

    Raises:
        InputError: The file that is there is damaged.
        StorageFailed: It cannot be written.
    """
    task = study.task
    earlier = (
        read_distilled(path, input_fields=task.input_fields, expected_fields=task.expected_fields)
        if path.exists()
        else []
    )
    everything = [*(case for case in earlier if case.id not in labels.asked), *labels.cases]
    its_own = [case.meta.get("teacher_version") == taught.version for case in everything]
    share = None if cost_usd is None else cost_usd / max(1, sum(its_own))
    lines = [
        distilled_line(replace(case, meta={**case.meta, "cost_usd": share}) if is_its_own else case)
        for case, is_its_own in zip(everything, its_own, strict=True)
    ]
    try:
        if not lines:
            path.unlink(missing_ok=True)
            return 0
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(b"".join(lines))
        new.replace(path)
    except OSError as error:
        raise storage_failed(error, str(path)) from error
    return len(lines)


def cost_of_answers(journal: Journal, taught: Taught) -> float | None:
    """What all answers of the teacher to unlabelled inputs have cost; `None` where a price is not known."""
    costs = [outcome.cost_usd for outcomes in _answers(journal, taught).values() for outcome in outcomes]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def success_on_dev(
    study: Study, taught: Taught, journal: Journal, terms: Acceptance, *, is_free: bool
) -> tuple[int, Figure]:
    """How often the teacher is right on dev where it would be accepted; never looks at test."""
    dev = {case.id for case in study.material.splits.dev}
    right = [
        outcome.success
        for outcome in journal.outcomes({taught.name: taught.version}, split="dev")
        if outcome.case_id in dev
        and outcome.repeat == 0
        and outcome.success is not None
        and outcome.output is not None
        and (terms.kind != "confident" or (outcome.confidence or 0.0) >= terms.least)
    ]
    if not right:
        because = "no dev case would be accepted" if is_free else "the teacher was never asked about labelled dev cases"
        return 0, unknown(because)
    share = sum(right) / len(right)
    low, high = wilson(share, len(right))
    return len(right), Figure(value=share, low=low, high=high)

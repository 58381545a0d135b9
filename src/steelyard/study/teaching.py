"""What makes an answer of a teacher a label: the terms of acceptance, and where the label then says it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from steelyard.approaches.workbench import Workbench
from steelyard.cases.distilled import UNKNOWN_LICENCE
from steelyard.engine.outcome import Outcome, OutcomeStatus
from steelyard.errors import InputError, Problem
from steelyard.study.file import StudyFile
from steelyard.task.accepted import expected_fault
from steelyard.task.task import Task

OWN_LABELS: Final = "none but that of the study's own labels: no model wrote these"
_MOST_REPEATS: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """When an answer is taken as a label."""

    kind: Literal["valid", "confident", "agree", "review"]
    least: float = 0.0
    """Of `confident`: least probability that the teacher gives its answer."""
    repeats: int = 1
    """Of `agree`: how often it is asked."""

    def __str__(self) -> str:
        more = {"confident": f":{self.least:g}", "agree": f":{self.repeats}"}
        return self.kind + more.get(self.kind, "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """Where labels come from."""

    name: str
    version: str
    """Fingerprint of the teacher."""
    licence: str

    def meta(self, *, accepted_by: str, confidence: float | None) -> dict[str, Any]:
        """What a distilled case says of itself, its cost apart."""
        return {
            "teacher_version": self.version,
            "licence": self.licence,
            "accepted_by": accepted_by,
            "confidence": confidence,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What came of one input."""

    expected: Mapping[str, Any] | None
    """The expected fields of the answer; `None` where there is no valid one."""
    is_accepted: bool
    why: str
    """Why it is not accepted."""
    confidence: float | None = None


def parse_acceptance(text: str) -> Acceptance:
    """Read `valid`, `confident:P`, `agree:K` or `review`.

    Raises:
        InputError: It is none of them.
    """
    kind, _, value = text.partition(":")
    try:
        if kind in ("valid", "review") and not value:
            return Acceptance(kind="valid" if kind == "valid" else "review")
        if kind == "confident" and 0 < float(value) <= 1:
            return Acceptance(kind="confident", least=float(value))
        if kind == "agree" and 2 <= int(value) <= _MOST_REPEATS:
            return Acceptance(kind="agree", repeats=int(value))
    except ValueError:
        pass  # no number: the message below says what there is
    hint = f"write valid, confident:0.9 (above 0, up to 1), agree:3 (2 to {_MOST_REPEATS}) or review"
    raise InputError(Problem(what=f"there is no way to accept called {text!r}", where="--accept", hint=hint))


def judged(outcomes: Sequence[Outcome], terms: Acceptance, task: Task) -> Judged:
    """Whether the answers to one input make a label.

    Args:
        outcomes: Of the repeats of one case, in order.
        terms: When they do.
        task: Says what a valid answer is.
    """
    answers = [_valid_answer(outcome, task) for outcome in outcomes]
    first = answers[0] if answers else None
    if first is None:
        problem = outcomes[0].problem if outcomes else None
        return Judged(expected=None, is_accepted=False, why=problem or "there is no valid answer")
    confidence = outcomes[0].confidence
    why = ""
    if terms.kind == "review":
        why = "waits for a reviewer"
    elif terms.kind == "confident" and (confidence is None or confidence < terms.least):
        said = "unknown" if confidence is None else f"{confidence:.1%}"
        why = f"confidence {said}, below {terms.least:.1%}"
    elif terms.kind == "agree" and (len(answers) < terms.repeats or any(one != first for one in answers)):
        why = f"{sum(one == first for one in answers)} of {terms.repeats} answers are the same"
    return Judged(expected=first, is_accepted=not why, why=why, confidence=confidence)


def licence_of(endpoint: str | None, file: StudyFile, bench: Workbench) -> str:
    """The licence note of a teacher, as its endpoint or its weights state it; `unknown` where they state none.

    Args:
        endpoint: What it asks; `None` for an approach without a generative model.
        file: May state the licence.
        bench: Has the weights of the local model.
    """
    if endpoint is None:
        return OWN_LABELS
    if endpoint != "local":
        return file.models.endpoints[endpoint].licence or UNKNOWN_LICENCE
    from steelyard.models.gguf_header import read_gguf_header
    from steelyard.models.weights import SMOLLM2_135M_INSTRUCT

    local = file.models.local
    if local.gguf is None and local.folder is None:
        return SMOLLM2_135M_INSTRUCT.licence
    stated = read_gguf_header(bench.base_gguf()).facts.get("general.license")
    return str(stated) if stated else UNKNOWN_LICENCE


# ---- private --------------------------------------------------------------------------------------------------------


def _valid_answer(outcome: Outcome, task: Task) -> dict[str, Any] | None:
    """The expected fields of an answer; `None` unless it passed schema and checks, and can be learned from as it is."""
    if outcome.status is not OutcomeStatus.ANSWERED or outcome.output is None:
        return None
    found = {name: outcome.output[name] for name in task.expected_fields if name in outcome.output}
    return found if len(found) == len(task.expected_fields) and expected_fault(found, task) is None else None

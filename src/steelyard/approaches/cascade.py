"""A cascade: a cheap approach answers first, a stronger one where the first is not sure enough.

How sure the first one is, it says itself; whether that can be believed is learned on dev (see `Calibration`), where the
threshold is chosen too (`steelyard.measure.escalation`). The calls of a cascade are those of its members, word for word,
so that whatever one of them was asked already is not paid again.

What counts where (design section 4): calls of the second approach are planned ones where the first was not sure enough,
and extra ones where its answer was no valid one. The schema passed where all that was asked gave valid answers as they
came. A valid answer is never given up for an invalid one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson
from numpy.typing import NDArray

from steelyard.approaches.approach import Answer, Approach, Ask
from steelyard.approaches.spec import Lever
from steelyard.approaches.tuning.calibration import platt, sigmoid
from steelyard.cases.case import CaseInput
from steelyard.models.calls import Attempt, ChatRequest

BEHAVIOUR = 1
"""Raised by one whenever a cascade of the same members would answer differently."""
Floats = NDArray[np.float64]

_MOST = 1 - 1e-6
"""Nobody is surer than one in a million; so a threshold of 1 lets everything go on."""
_LEAST = 1e-300
"""The probability of a long answer is tiny and still says how it compares with others; so only 0 itself is raised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """From the confidence an approach states to the share of such answers that is right.

    Log odds z become `scale * z + shift` (Platt). With `scale` at least 0 what was surer stays surer, so calibrating
    changes which number a threshold is, and not which cases go on.
    """

    scale: float
    shift: float

    def of(self, confidence: float) -> float:
        """Calibrated confidence, within 1e-6 and 1 - 1e-6."""
        return float(self.of_all(np.array([confidence]))[0])

    def of_all(self, confidences: Floats) -> Floats:
        """The same for many; shape (n,)."""
        found: Floats = np.clip(sigmoid(self.scale * _log_odds(confidences) + self.shift), 1 - _MOST, _MOST)
        return found


def calibrate(confidences: Floats, right: NDArray[np.bool_]) -> Calibration:
    """Learn how far confidence can be believed, on answers that had no part in training.

    Args:
        confidences: As stated, 0..1, shape (n,).
        right: Whether the answer was a success, shape (n,).
    """
    found = platt(_log_odds(confidences)[:, None], right[:, None])
    # Rounded, since what is kept decides cases, and the last digits differ from machine to machine.
    return Calibration(scale=round(float(found.scale[0]), 6), shift=round(float(found.shift[0]), 6))


@dataclass(frozen=True, kw_only=True, slots=True)
class Cascade:
    """Two prepared approaches and the confidence between them."""

    name: str
    first: Approach
    then: Approach
    calibration: Calibration
    threshold: float
    """Calibrated confidence below which a case goes on, 0..1."""

    @property
    def levers(self) -> frozenset[Lever]:
        """Those of both."""
        return self.first.levers | self.then.levers

    @property
    def endpoint(self) -> str | None:
        """The endpoint of the second approach, or else of the first; `endpoints_of` gives all."""
        return self.then.endpoint or self.first.endpoint

    @property
    def fingerprint(self) -> str:
        """Digest of both members, the calibration and the threshold."""
        chosen = [self.calibration.scale, self.calibration.shift, self.threshold]
        body = ["cascade", BEHAVIOUR, self.first.fingerprint, self.then.fingerprint, chosen]
        return hashlib.blake2b(orjson.dumps(body), digest_size=16).hexdigest()

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        """Ask the first; where it is not sure enough, or has no valid answer, the second."""
        door = _MembersDoor(ask, self.first.name)
        found = await self.first.answer(case, door)
        sure = 0.0 if found.confidence is None else self.calibration.of(found.confidence)
        confidence = None if found.confidence is None else sure
        first = self.first.name
        if found.valid and sure >= self.threshold:
            return replace(found, confidence=confidence, asked=(first,))
        why = f"{sure:.1%} sure, below {self.threshold:.1%}" if found.valid else f"no valid answer: {found.problem}"
        next_door = _MembersDoor(ask, self.then.name, is_extra=not found.valid)
        better = await self.then.answer(case, next_door)
        asked = (first, *(better.asked or (self.then.name,)))
        notes = (*found.notes, f"{first}: {why}; {self.then.name} was asked", *better.notes)
        taken = better
        if found.valid and not better.valid:
            taken, asked = replace(found, confidence=confidence), (*asked, first)
            notes = (*notes, f"{self.then.name} has no valid answer ({better.problem}), so that of {first} counts")
        return replace(
            taken,
            schema_pass=found.schema_pass and better.schema_pass,
            asked=asked,
            notes=notes,
            calls_s=door.seconds_of(found) + next_door.seconds_of(better),
        )


def endpoints_of(approach: Approach) -> tuple[str, ...]:
    """All endpoints an approach calls: its own, or those of its members, the first one's first."""
    if isinstance(approach, Cascade):
        return tuple(dict.fromkeys((*endpoints_of(approach.first), *endpoints_of(approach.then))))
    return () if approach.endpoint is None else (approach.endpoint,)


# ---- private --------------------------------------------------------------------------------------------------------


class _MembersDoor:
    """The engine's door for one member: its steps under its name, and the seconds of its calls."""

    def __init__(self, ask: Ask, member: str, *, is_extra: bool = False) -> None:
        self._ask = ask
        self._member = member
        self._is_extra = is_extra
        self._seconds: list[float] = []

    async def __call__(self, request: ChatRequest, *, step: str = "answer", extra: bool = False) -> Attempt:
        """See `Ask`."""
        attempt = await self._ask(request, step=f"{self._member}: {step}", extra=extra or self._is_extra)
        self._seconds.append(attempt.latency_s)
        return attempt

    def seconds_of(self, answer: Answer) -> float:
        """Seconds of calls that waited for each other."""
        return answer.calls_s if answer.calls_s is not None else sum(self._seconds)


def _log_odds(confidences: Floats | Sequence[float]) -> Floats:
    p = np.clip(np.asarray(confidences, np.float64), _LEAST, _MOST)
    found: Floats = np.log(p) - np.log1p(-p)
    return found

"""Every error a person can cause or meet, in one tree.

    SteelyardError                 exit code
    ├── InputError                 2   a file, field or option is wrong; the person can mend it
    │   ├── MissingExtra           2   a feature needs an optional dependency
    │   └── StudyLocked            2   another process is working on this study
    ├── RunStopped                 1   a run hit something outside this program and stopped; what was done is kept
    │   ├── EndpointUnusable       1   wrong key, unknown model, nobody listening, storm of errors
    │   ├── BudgetReached          1   the next call could have broken the budget
    │   └── StorageFailed          1   disk full, read-only folder
    └── CheckFailed                1   a check that was asked for did not hold

Anything else that escapes is our bug and keeps its traceback.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what to do about it."""

    what: str
    """What is wrong, with the offending value in quotes; one sentence without a full stop at the end."""
    where: str | None = None
    """`file:line:field`, as far as it is known."""
    hint: str | None = None
    """What the person should do."""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}{self.what}{hint}"


class SteelyardError(Exception):
    """Base of all errors that are reported in one sentence, without a traceback."""

    exit_code = 1


class InputError(SteelyardError):
    """Something the person gave is wrong; carries every problem found, not just the first."""

    exit_code = 2

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__(format_problems(self.problems))


class MissingExtra(InputError):
    """A feature needs an optional dependency that is not installed."""

    def __init__(self, *, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(
            Problem(
                what=f"{feature} needs the extra '{extra}', which is not installed",
                hint=f"pip install 'steelyard[{extra}]'",
            )
        )


class StudyLocked(InputError):
    """Another process is working on the same study."""


class RunStopped(SteelyardError):
    """A run stopped early; everything acknowledged so far is in the journal and the same command goes on from there."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


class EndpointUnusable(RunStopped):
    """An endpoint cannot be used at all: wrong key, unknown model, nobody listening, or nothing but errors."""


class BudgetReached(RunStopped):
    """The next call could have taken the study over its budget, so it was not started."""


class StorageFailed(RunStopped):
    """The study folder cannot be written: disk full, read-only, or damaged journal."""


class CheckFailed(SteelyardError):
    """A check that was asked for did not hold (a regression gate, a parity test)."""


def format_problems(problems: Sequence[Problem], *, limit: int = 20) -> str:
    """All problems, one a line, cut after `limit` with a count of the rest."""
    lines = [str(problem) for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"... and {len(problems) - limit} more problems")
    return "\n".join(lines)


def require(*modules: str, feature: str, extra: str) -> None:
    """Raise `MissingExtra` unless every module can be imported. Call before the lazy import it guards."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(feature=feature, extra=extra)

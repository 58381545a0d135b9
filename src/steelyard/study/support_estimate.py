"""What the judge of support would be asked at most, before a run: nobody knows yet which answers words leave undecided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.engine.limits import likely_prompt_tokens
from steelyard.study.readings import readings
from steelyard.study.support_judging import judge_name, recorded_marks
from steelyard.task.judge import MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from steelyard.engine.estimate import ApproachEstimate
    from steelyard.engine.journal import Journal
    from steelyard.engine.limits import ManagedEndpoint
    from steelyard.models.calls import ChatRequest
    from steelyard.study.running import Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class SupportEstimate:
    """What judging support would ask and cost, if words decided nothing."""

    judge: str
    n_calls: int
    """At most: one for each answer that is left to be given, and one for each given one that was not judged yet."""
    prompt_tokens: int
    """About: of an answer that is left to be given, as many as it takes to ask for it, since both show the passages."""
    likely_usd: float | None
    """If all are asked; `None` when no price is known."""


def estimate_support(
    plan: Plan,
    estimates: Sequence[ApproachEstimate],
    *,
    endpoints: Mapping[str, ManagedEndpoint],
    journal: Journal | None,
) -> SupportEstimate | None:
    """What the judge of support would be asked; `None` where there is none, or nothing for it to do.

    Args:
        plan: What would run.
        estimates: What its approaches would ask.
        endpoints: All of the study.
        journal: What is done already; `None` before the first run.
    """
    names = judge_name(plan.file)
    readers = [name for name, spec in plan.specs.items() if spec.knowledge is not None]
    if not names:
        return None
    waiting = _waiting(plan, journal) if journal is not None else ()
    n_calls, tokens = len(waiting), sum(map(likely_prompt_tokens, waiting))
    for one in estimates:
        if one.approach in readers:
            n_calls += one.n_cases
            tokens += one.prompt_tokens
    if not n_calls:
        return None
    price = endpoints[names[0]].endpoint.price
    usd = price.of_call(
        prompt_tokens=tokens, cached_tokens=0, completion_tokens=n_calls * MAX_TOKENS, seconds=float(n_calls)
    )
    return SupportEstimate(judge=names[0], n_calls=n_calls, prompt_tokens=tokens, likely_usd=usd)


# ---- private --------------------------------------------------------------------------------------------------------


def _waiting(plan: Plan, journal: Journal) -> tuple[ChatRequest, ...]:
    """Questions about recorded answers that were not put to the judge yet."""
    from steelyard.study.scoring import read_evidence

    if not journal.runs():
        return ()
    evidence = read_evidence(journal, plan.file, where=str(plan.folder), approaches=plan.chosen)
    found = readings(plan.file, evidence.approaches, evidence.setups, journal)
    return () if found is None else recorded_marks(plan.file, found, journal, models=evidence.record.models).waiting

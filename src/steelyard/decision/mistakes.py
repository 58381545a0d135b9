"""The five classic mistakes, each named only where the study shows it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from steelyard.decision import wording
from steelyard.decision.gates import Evidence, uses_only
from steelyard.decision.verdict import Gate, Mistake
from steelyard.economics.costs import is_tuned
from steelyard.measure.results import ApproachResults

LONG_PROMPT_TOKENS = 800
"""Prompts shorter than this are not called giant, whatever the others are."""

GIANT_FACTOR = 4.0
"""A giant prompt is so many times longer than one that does as well."""

ENOUGH_CASES = 30
"""Fewer scored cases than this are no evaluation."""


def find_mistakes(evidence: Evidence, gates: Mapping[str, Gate]) -> tuple[Mistake, ...]:
    """The mistakes this study shows, in the order of design section 6."""
    found = (
        _unstable_task(evidence, gates),
        _tuning_for_knowledge(evidence, gates),
        _giant_prompt(evidence),
        _no_exit_path(evidence),
        _no_evaluation(evidence),
    )
    return tuple(mistake for mistake in found if mistake is not None)


# --- private ---------------------------------------------------------------------------------------------------------


def _unstable_task(evidence: Evidence, gates: Mapping[str, Gate]) -> Mistake | None:
    tuned = _names(evidence, tuned=True)
    gate = gates["failures_recur"]
    if not tuned or gate.answer != "no":
        return None
    return Mistake(
        name="unstable_task",
        title="Tuning an unstable task",
        evidence=f"{wording.listed(tuned)} learned from past cases, but {gate.evidence}",
        remedy="hold the task still first, or plan for more frequent retraining and put it under money in study.yaml",
    )


def _tuning_for_knowledge(evidence: Evidence, gates: Mapping[str, Gate]) -> Mistake | None:
    tuned = evidence.best_where(lambda facts: is_tuned(facts) and "retrieval" not in facts.levers)
    retrieval = evidence.best_where(lambda facts: facts.levers == ("retrieval",))
    gate = gates["knowledge_failures"]
    if tuned is None or retrieval is None or gate.answer != "yes":
        return None
    comparison = evidence.compare(retrieval, tuned)
    if comparison.evidence not in ("a", "equivalent"):
        return None
    return Mistake(
        name="tuning_for_knowledge",
        title="Tuning for a knowledge problem",
        evidence=f"{gate.evidence}; and {retrieval} does at least as well as {tuned}",
        remedy="retrieve the knowledge instead of training it in: it can then be changed without training",
    )


def _giant_prompt(evidence: Evidence) -> Mistake | None:
    prompts = [name for name, facts in evidence.facts.items() if uses_only(facts, "prompt")]
    lengths = {
        name: float(np.nanmean(results.prompt_tokens))
        for name, results in evidence.results.items()
        if not np.isnan(results.prompt_tokens).all()
    }
    for name in prompts:
        if lengths.get(name, 0.0) < LONG_PROMPT_TOKENS:
            continue
        for shorter, tokens in lengths.items():
            if shorter == name or tokens * GIANT_FACTOR > lengths[name]:
                continue
            if evidence.compare(shorter, name).evidence in ("a", "equivalent"):
                return Mistake(
                    name="giant_prompt",
                    title="One giant prompt",
                    evidence=f"{name} sends {lengths[name]:,.0f} prompt tokens per task; {shorter} does at least as well"
                    f" with {tokens:,.0f}",
                    remedy="split the prompt, choose examples per case, or leave out what does not help",
                )
    return None


def _no_exit_path(evidence: Evidence) -> Mistake | None:
    endpoints = {facts.endpoint for facts in evidence.facts.values() if facts.calls_model and not facts.is_local}
    has_own = any(facts.is_local for facts in evidence.facts.values())
    if has_own or len(endpoints) != 1 or None in endpoints:  # of imported approaches nobody said where they run
        return None
    return Mistake(
        name="no_exit_path",
        title="No exit path from a provider",
        evidence=f"every approach depends on the one hosted endpoint {wording.listed([str(e) for e in endpoints])}",
        remedy="run the best prompt on a second provider or a local model, so that the price of leaving is known",
    )


def _no_evaluation(evidence: Evidence) -> Mistake | None:
    n_scored = max((_n_scored(results) for results in evidence.results.values()), default=0)
    if n_scored >= ENOUGH_CASES:
        return None
    return Mistake(
        name="no_evaluation",
        title="No evaluation",
        evidence=f"at most {n_scored} cases were scored for any approach",
        remedy=f"label at least {ENOUGH_CASES} real cases; a few hundred tell approaches apart",
    )


def _n_scored(results: ApproachResults) -> int:
    return int((~np.isnan(results.success)).sum())


def _names(evidence: Evidence, *, tuned: bool) -> list[str]:
    return [name for name, facts in evidence.facts.items() if is_tuned(facts) == tuned and name in evidence.results]

"""What tuned approaches forgot, from the journal alone: how bases and tuned models are named there, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steelyard.approaches.tuning.guarded import guard_fingerprint
from steelyard.engine.journal import Journal
from steelyard.engine.outcome import OutcomeStatus
from steelyard.measure.forgetting import Forgetting, forgetting
from steelyard.study.file import StudyFile

_UNKNOWN = (OutcomeStatus.FAILED, OutcomeStatus.TIMED_OUT, OutcomeStatus.CRASHED)
"""The endpoint failed, which says nothing about what the model can do."""


def forgetting_of(
    name: str,
    fingerprint: str,
    card: Mapping[str, Any],
    journal: Journal,
    *,
    endpoint: str | None,
    file: StudyFile,
    models: Mapping[str, str],
) -> Forgetting | None:
    """What a tuned approach forgot; `None` where it is not tuned, or the guard set was not asked.

    Args:
        name: Name of the approach.
        fingerprint: Its version.
        card: Its tuning card.
        journal: With the answers.
        endpoint: The endpoint it asks.
        file: Names the models of hosts.
        models: Identity of the model behind each endpoint.
    """
    if endpoint is None or card.get("kind") not in ("lora", "hosted"):
        return None
    base = base_model(endpoint, card, file)
    return forgetting(
        _done(journal, base_name(endpoint, base), base_fingerprint(endpoint, base, models)),
        _done(journal, name, guard_fingerprint(fingerprint)),
    )


def base_model(endpoint: str, card: Mapping[str, Any], file: StudyFile) -> str | None:
    """What the base of a hosted tuning is called, where it is not the endpoint's own model."""
    host = file.models.endpoints.get(endpoint)
    base = (card.get("base_model") or {}).get("name")
    return None if host is None or base in (None, host.model) else str(base)


def base_name(endpoint: str, base: str | None) -> str:
    """What a base is called in the journal."""
    return f"base model of {endpoint}" if base is None else f"base model {base} of {endpoint}"


def base_fingerprint(endpoint: str, base: str | None, models: Mapping[str, str]) -> str:
    """The version of a base in the journal: another model behind the endpoint is another base."""
    return guard_fingerprint(endpoint, models.get(endpoint), base)


# ---- private --------------------------------------------------------------------------------------------------------


def _done(journal: Journal, name: str, fingerprint: str) -> dict[str, bool]:
    """By instruction: whether it was done."""
    rows = journal.measurements({name: fingerprint}, split="guard")
    return {str(row["case_id"]): bool(row["success"]) for row in rows if row["status"] not in _UNKNOWN}

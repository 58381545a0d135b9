"""What a tuned model forgot, in words: one wording for the terminal, the report and the notes."""

from __future__ import annotations

from steelyard.measure.forgetting import CLEAR_LOSS, Forgetting
from steelyard.report.format import p_value, shown


def forgetting_facts(found: Forgetting) -> list[tuple[str, str]]:
    """Label and text of each line on a tuning card."""
    done = (
        f"general instructions done, of {found.n:,}",
        f"{found.base:,} by the base, {found.tuned:,} by the tuned model, both as served",
    )
    if found.kept_share.value is None:
        return [done, ("kept of what the base did", f"unknown ({found.kept_share.unknown_because})")]
    kept = (
        f"{found.kept:,} of {found.base:,}, {shown(found.kept_share, 'percent').plain}; {found.lost:,} lost,"
        f" {found.gained:,} gained, p {p_value(found.p_mcnemar)} (exact McNemar)"
    )
    return [done, ("kept of what the base did", kept)]


def forgetting_warning(name: str, found: Forgetting) -> str | None:
    """What to know of an approach that surely lost much of what its base could do; `None` where it did not."""
    if not found.is_clear_loss:
        return None
    return (
        f"{name} has forgotten general instructions: it keeps {found.kept:,} of the {found.base:,} its base did"
        f" ({shown(found.kept_share, 'percent').plain}, surely below {CLEAR_LOSS:.0%}), which matters only if it is asked"
        " anything besides this task"
    )

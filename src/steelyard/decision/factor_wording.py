"""Every sentence of the decision factors is built here, once; each number says whether it was measured or assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from steelyard.decision.wording import bill, listed, points, usd
from steelyard.economics.ledger import ApproachFacts, BreakEven
from steelyard.figures import Figure


def told(figure: Figure, unit: str) -> str:
    """A number with its unit and, where it was not measured, its provenance.

    >>> told(Figure(value=1200.0), "s")
    '20 min'
    """
    if figure.value is None:
        return f"unknown ({figure.unknown_because})"
    show = _SHOWN.get(unit)
    text = show(figure.value) if show else f"{figure.value:,.0f}{f' {unit}' if unit else ''}"
    return text if figure.provenance.kind == "measured" else f"{text} ({figure.provenance.kind})"


def speed(building: Figure, labelling: Figure, preparing: Figure) -> str:
    """Hours of people and machine until it can be used."""
    parts = [f"{told(building, 'h')} to build"]
    if labelling.value:
        parts.append(f"{told(labelling, 'h')} to label its cases")
    if preparing.value is None:
        parts.append(f"preparation {told(preparing, 's')}")
    elif preparing.value:
        parts.append(f"{told(preparing, 's')} to prepare")
    return f"{'; '.join(parts)}."


def labels(count: Figure, hours: Figure) -> str:
    """Labelled cases it rests on, and the work in them."""
    if count.value == 0:
        return "None, apart from the cases it is evaluated on."
    if count.value is None:
        return f"{_capital(told(count, ''))}."
    return f"{told(count, 'labels')}, {told(hours, 'h')} of labelling."


def knowledge(facts: ApproachFacts, index: Figure | None, *, is_tuned: bool, failures: str) -> str:
    """How it gets at knowledge the base model has not, and whether that matters here."""
    if not facts.levers:
        how = "Unknown (the outcomes do not say whether it retrieves)"
    elif index is not None:
        how = f"Looks up examples or documents for each task; new ones count once indexed, {told(index, 'bill')}"
    elif is_tuned:
        how = "Knows what it was trained on; new knowledge takes another training"
    else:
        how = "Knows what its base model knows and what stands in its prompt"
    known = {
        "yes": "failures here are knowledge failures",
        "no": "failures here are not knowledge failures",
        "unknown": "whether failures here are knowledge failures is unknown",
    }
    return f"{how}; {known[failures]}."


def change(total: Figure, parts: Mapping[str, Figure]) -> str:
    """What one change of the task costs."""
    work = [f"{told(parts['edit_hours'], 'h')} of editing"]
    if "relabelling_hours" in parts:
        work.append(f"{told(parts['relabelling_hours'], 'h')} of labelling")
    if "retraining_usd" in parts:
        machine = f" and {told(parts['retraining_s'], 's')} of machine time" if "retraining_s" in parts else ""
        work.append(f"another training at {told(parts['retraining_usd'], 'usd')}{machine}")
    else:
        work.append("no training")
    return f"{told(total, 'usd')} a change: {listed(work)}."


def overhead(
    p50: Figure, p95: Figure, tokens: Figure, times: Figure | None, least: str | None, *, calls_model: bool
) -> str:
    """Seconds and prompt tokens of a task."""
    seconds = f"Latency {told(p95, 's')}" if p95.value is None else f"p50 {told(p50, 's')}, p95 {told(p95, 's')}"
    if not calls_model and not tokens.value:
        return f"{seconds}; asks no model."
    if tokens.value is None:
        return f"{seconds}; prompt tokens {told(tokens, '')}."
    against = "" if times is None else f", {times.value:.1f} times those of {least}"
    return f"{seconds}; {told(tokens, 'prompt tokens')} a task{against}."


def evaluation(n_scored: int, once: Figure, hours: Figure, finds: Figure | None, rival: str | None) -> str:
    """What evaluating it takes, and how fine a difference that shows."""
    text = f"{n_scored:,} scored cases; once more costs {told(once, 'bill')} of calls, their labels took {told(hours, 'h')}"
    if finds is None:
        return f"{text}."
    if finds.value is None:
        return f"{text}; smallest difference to {rival} they show: {told(finds, 'points')}."
    return (
        f"{text}; they show differences to {rival} of {told(finds, 'points')} or more with 80% power, that pair alone."
    )


def switching(facts: ApproachFacts, leaving: Figure, *, is_tuned: bool) -> str:
    """What it depends on, and what leaving that costs."""
    if facts.is_imported:
        where = "Where it runs is not recorded"
    elif facts.is_local:
        where = "Runs on a machine of one's own"
    else:
        price = facts.price
        dated = f", price of {price.as_of}" if price.as_of else ", its price has no date"
        where = f"Depends on the provider behind {facts.endpoint}{dated}"
    if is_tuned:
        moved = f"its weights fit one base model only: another takes a training, {told(leaving, 'bill')}; labels move"
    elif facts.calls_model:
        moved = f"prompt and schema move to another model for the price of an evaluation, {told(leaving, 'bill')}"
    else:
        moved = "asks no model, so there is none to leave"
    return f"{where}; {moved}."


def no_use(because: str) -> str:
    """Best use of an approach that is out."""
    return f"None here: {because}."


def best_use(
    name: str,
    cost: Figure,
    volume: Figure,
    *,
    leader: str | None,
    is_settled: bool,
    crossing: BreakEven | None,
    strengths: Sequence[str],
) -> str:
    """Where an approach is the one to take."""
    costs = f"{told(cost, 'usd')} per successful task"
    at = f"at {volume.value:,.0f} tasks a month"
    best_at = f"; best in {listed(strengths)}" if strengths else ""
    if name == leader:
        return f"{'The one to take' if is_settled else 'Leads, not settled,'} {at}: {costs}{best_at}."
    where = f"{at} it costs {costs}"
    if crossing is None or crossing.kind == "unknown":
        return f"{_capital(where)}{best_at}."
    is_first = crossing.a == name
    if crossing.volume is None:
        dearer = "less" if (crossing.kind == "always") == is_first else "more"
        return f"{_capital(where)}, {dearer} than {leader} at every volume{best_at}."
    above = (crossing.kind == "from") == is_first
    side = "above" if above else "below"
    return f"{side.capitalize()} about {crossing.volume:,.0f} tasks a month, where it costs less than {leader}; {where}{best_at}."


# --- private ---------------------------------------------------------------------------------------------------------


def _hours(hours: float) -> str:
    return f"{hours:.3g} h" if hours >= 1 or hours == 0 else f"{60 * hours:.2g} min"


def _seconds(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.2g} h"
    return f"{seconds / 60:.2g} min" if seconds >= 120 else f"{seconds:.2g} s"


def _points(difference: float) -> str:
    return points(difference).lstrip("+")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_SHOWN: Mapping[str, Callable[[float], str]] = {"usd": usd, "bill": bill, "h": _hours, "s": _seconds, "points": _points}

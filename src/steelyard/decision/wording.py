"""Every sentence of a verdict is built here, once, in words a finance lead can follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

from steelyard.decision.spec import GoalSpec
from steelyard.decision.verdict import EvidenceWorth
from steelyard.economics.ledger import ApproachFacts
from steelyard.figures import Figure

FAILURES_COUNT_NOTHING = (
    "What a failed task costs: it is counted as nothing (money.failed_task_usd); follow ten failed tasks and add up what"
    " each cost."
)

NEARLY = 0.05
"""Where less than this is missing to certainty, how near the best a choice comes need not be said."""

REVIEWS_TO_TIME = 30
"""Reviews that give a usable mean."""


def percent(share: float) -> str:
    """A share as a percentage.

    >>> percent(0.923)
    '92.3%'
    """
    return f"{share:.1%}"


def points(difference: float) -> str:
    """A difference of two shares, in percentage points.

    >>> points(0.15), points(-0.239)
    ('+15.0 points', '-23.9 points')
    """
    return f"{100 * difference:+.1f} points"


def likelihood(probability: float) -> str:
    """A probability that was found by resampling, which can show neither certainty nor impossibility.

    >>> likelihood(0.923), likelihood(1.0), likelihood(0.0)
    ('92.3%', '>99.9%', '<0.1%')
    """
    if probability > 0.999:
        return ">99.9%"
    return "<0.1%" if probability < 0.001 else percent(probability)


def usd(amount: float) -> str:
    """An amount with as many digits as matter.

    >>> usd(1234.5), usd(0.01234), usd(0.2), usd(0)
    ('$1,234', '$0.0123', '$0.20', '$0')
    """
    if abs(amount) >= 100:
        return f"${amount:,.0f}"
    if abs(amount) >= 1 or amount == 0:
        return f"${amount:.2f}" if amount else "$0"
    decimals = 2 - math.floor(math.log10(abs(amount)))
    whole, _, digits = f"{amount:.{decimals}f}".partition(".")
    return f"${whole}.{digits.rstrip('0').ljust(2, '0')}"


def bill(amount: float) -> str:
    """An amount somebody would have to pay once: fractions of a cent are nobody's concern.

    >>> bill(0.0000117), bill(0.01634), bill(0)
    ('less than a cent', '$0.02', '$0')
    """
    return "less than a cent" if 0 < amount < 0.01 else usd(round(amount, 2))


def usd_per_month(amount: float) -> str:
    """A monthly amount; cents do not matter there.

    >>> usd_per_month(0.2), usd_per_month(1234.5)
    ('less than $1 a month', '$1,234 a month')
    """
    return "less than $1 a month" if abs(amount) < 1 else f"{'-' if amount < 0 else ''}${abs(amount):,.0f} a month"


def with_range(figure: Figure, kind: str) -> str:
    """A figure with its interval; `kind` is `share` or `usd`."""
    show = percent if kind == "share" else usd
    if figure.value is None:
        return f"unknown ({figure.unknown_because})"
    if figure.low is None or figure.high is None:
        return f"{show(figure.value)} (too few cases for a range)"
    return f"{show(figure.value)} ({show(figure.low)} to {show(figure.high)})"


def chosen(
    choice: str,
    p_best: float,
    loss_usd: float,
    runner_up: str | None,
    *,
    p_near: float,
    near: float,
    is_simpler: bool,
) -> str:
    """The verdict when there is one.

    Args:
        choice: Who is taken.
        p_best: Probability that it is the best.
        loss_usd: Expected loss a month.
        runner_up: The nearest rival.
        p_near: Probability that it is the best or no more than `near` dearer.
        near: Share of its monthly cost.
        is_simpler: Whether it was preferred to one with a lower expected loss for being simpler.
    """
    if runner_up is None:
        return f"Take {choice}: nothing else is in the running, so there is nothing cheaper to weigh it against."
    over = f" over {runner_up}"
    wrong = f"expected loss of being wrong: {usd_per_month(loss_usd)}"
    if is_simpler:
        return (
            f"Take {choice}{over}: it is the simpler way, and what a dearer one might save is within what the evidence"
            f" leaves open ({wrong})."
        )
    sure = f"it costs least per successful task with probability {likelihood(p_best)}"
    if p_best < 1 - NEARLY and likelihood(p_near) != likelihood(p_best):
        sure += f", and no more than {near:.0%} above the least with {likelihood(p_near)}"
    return f"Take {choice}{over}: {sure} ({wrong})."


def cannot_tell(leader: str, runner_up: str | None, p_best: float, loss_usd: float) -> str:
    """The verdict when the evidence does not carry one; `to_settle` says what would."""
    against = f" and {runner_up}" if runner_up else ""
    return (
        f"Cannot tell yet between {leader}{against}: {leader} leads with probability {likelihood(p_best)} only"
        f" (expected loss of being wrong: {usd_per_month(loss_usd)})."
    )


def to_settle(leader: str, more: int | None, worth: EvidenceWorth | None) -> str:
    """What would settle an open verdict, and whether that is worth its price."""
    needed = f"About {more:,} more cases should settle it." if more else None
    if worth is None:
        return needed or "No realistic number of further cases would settle it."
    if worth.is_worth_it:
        return f"{needed} {worth.sentence}" if needed else worth.sentence
    if needed is None:
        needed = "No realistic number of further cases would settle it; better figures for the assumed inputs might."
    return f"{needed} {worth.sentence} Until then {leader} will do."


def more_evidence(
    n: int, *, n_labelled: int = 0, worth: float, price: float, perfect: float, months: float, is_worth_it: bool
) -> str:
    """Whether further cases are worth their price; `n_labelled` of them are labelled already."""
    over = f"over {months:g} months"
    if is_worth_it:
        does = f"Label {n:,} more cases and run them"
        if n_labelled == n:
            does = f"Run {n:,} more of the labelled cases"
        elif n_labelled:
            does = f"Run the other {n_labelled:,} labelled cases and label {n - n_labelled:,} more"
        return f"{does}: that costs {bill(price)} and is worth {about(worth)} {over}."
    if perfect < 1:
        return (
            f"Stop, it does not matter: even knowing every case would be worth less than $1 {over}, and {n:,} more cases"
            f" would cost {usd(price)}."
        )
    return f"Stop: {n:,} more cases would cost {usd(price)} and are worth {about(worth)} {over}."


def about(amount: float) -> str:
    """An amount that is estimated: no cents.

    >>> about(0.3), about(52.4)
    ('less than $1', '$52')
    """
    return "less than $1" if abs(amount) < 1 else f"{'-' if amount < 0 else ''}${abs(amount):,.0f}"


def flips_with_unscored(leader: str, other: str, n_unscored: int) -> str:
    """The verdict when cases without a score could turn it."""
    return (
        f"Cannot tell yet: {leader} leads, but {n_unscored} unscored cases could turn the choice to {other}."
        " Score them first."
    )


def none_useful(best: str | None, success: Figure | None, goal: GoalSpec) -> str:
    """The verdict when nothing is good enough to use."""
    needed = "the goal" if goal != GoalSpec() else "a useful level"
    closest = f"; the closest, {best}, succeeds in {with_range(success, 'share')}" if best and success else ""
    return f"No approach reaches {needed}{closest}. Do not deploy any of them; read the failed cases first."


def nothing_known() -> str:
    """The verdict when no approach has a scored case."""
    return "Cannot tell: no approach has a scored case."


def no_cost_known(best: str, success: Figure, not_behind: Sequence[str]) -> str:
    """The verdict when success is known and no cost is."""
    lead = f"By success alone {best} leads with {with_range(success, 'share')}"
    if not_behind:
        lead += f"; {few(not_behind)} {'is' if len(not_behind) == 1 else 'are'} not clearly behind"
    return f"Cannot tell what a successful task costs: no approach has a known cost. {lead}."


def failures_are_free(winner_then: str, flips_at: float) -> str:
    """What a verdict that counts failures as nothing turns on."""
    return f"This counts a failed task as nothing; from {usd(flips_at)} each, {winner_then} would be the cheapest."


def out(names: Sequence[str], because: str) -> str:
    """Approaches that are out for the same reason."""
    return f"{names[0]} is out: {because}." if len(names) == 1 else f"{few(names)} are out, each because {because}."


def few(names: Sequence[str], *, most: int = 5) -> str:
    """Names in a sentence, only so many of them.

    >>> few(["a", "b", "c", "d"], most=2)
    'a, b and 2 others'
    """
    if len(names) <= most + 1:
        return listed(names)
    return f"{', '.join(names[:most])} and {len(names) - most} others"


def too_few(n: int, least: int) -> str:
    """The verdict when there are not enough cases to say anything.

    >>> too_few(1, 8)
    'Cannot tell: 1 case done by all approaches is not enough for any statement; it takes at least 8.'
    """
    cases = "1 case done by all approaches is" if n == 1 else f"{n} cases done by all approaches are"
    return f"Cannot tell: {cases} not enough for any statement; it takes at least {least}."


def missing_goal(p_meets: float | None, success: Figure, goal: GoalSpec) -> str:
    """Why an approach that misses the goal is out."""
    if p_meets is None:
        return "a constraint of the goal is on something that was not recorded for it"
    if goal == GoalSpec():
        return f"it fails more often than it succeeds: success {with_range(success, 'share')}"
    return f"it satisfies the goal with a probability of only {likelihood(p_meets)}; success {with_range(success, 'share')}"


def stale_price(facts: ApproachFacts, as_of: date) -> str:
    """A price that is too old to lean on."""
    read = facts.price.as_of or ""
    age = (as_of - date.fromisoformat(read)).days
    return f"{facts.name}: its price was read on {read}, {age} days ago; check {facts.price.source}"


def reviews_not_timed(seconds: float) -> str:
    """What is assumed about reviews, and what timing some takes."""
    return (
        f"How long a person needs to check an answer: no review was timed, so {seconds:g} s are assumed; timing"
        f" {REVIEWS_TO_TIME} takes about {max(1, round(REVIEWS_TO_TIME * seconds / 60))} min."
    )


def not_counted(imported: Sequence[str], *, levers_known: bool) -> str:
    """What no ledger of results made elsewhere holds."""
    if levers_known:
        made = "their results were made elsewhere"
        return f"What labels and training cost for {listed(imported)}: {made}, so it is not counted."
    return (
        "What building, labels, training and upkeep cost: the levers of the approaches are not known, so the ledger holds"
        " calls, review, failed tasks and evaluation only (a column levers in the outcomes counts the hours)."
    )


def cost_reason(name: str, cost: Figure, success: Figure) -> str:
    """Success and cost of one approach."""
    return f"{name} succeeds in {with_range(success, 'share')} and costs {with_range(cost, 'usd')} per successful task."


def baseline_reason(name: str, baseline: str, beats: str, p_cheaper: float) -> str:
    """How the choice stands against the baseline."""
    verb = {"yes": "beats", "no": "does not beat", "undecided": "does not clearly beat"}[beats]
    return f"{name} {verb} the baseline {baseline}: it is the better one with probability {likelihood(p_cheaper)}."


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "none"

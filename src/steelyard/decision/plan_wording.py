"""Every sentence of a verdict on a plan is built here, once."""

from __future__ import annotations

from collections.abc import Sequence

from steelyard.decision.plan import PlanFile, Step
from steelyard.decision.spec import GoalSpec
from steelyard.decision.wording import REVIEWS_TO_TIME, listed, percent, usd, usd_per_month
from steelyard.economics.flips import plain
from steelyard.economics.ledger import BreakEven, Hinge, Ledger
from steelyard.figures import Figure

SETTLED = 0.95
"""A plan's choice that is the cheaper one in a smaller share of the stated ranges is not settled."""

NOBODY = "no approach"
"""In place of the cheapest approach where none reaches the goal."""


def verdict(
    choice: str,
    rival: str | None,
    *,
    step: Step,
    no_tuning: bool,
    is_simpler: bool,
    cost: float,
    rival_cost: float | None,
    labels: int,
    volume: float,
    crossing: BreakEven | None,
    p_cheaper: float | None,
    turned: str | None,
    as_of: str,
) -> str:
    """The verdict in one sentence; what the stated ranges do not settle is said, whatever the point estimates say."""
    what = f"Test tuning with {choice}" if step == "test" else f"Take {choice}{', no tuning' if no_tuning else ''}"
    if step == "test" and labels:
        what += f" on the {labels:,} labels, before paying for more"
    against = "" if rival is None or rival_cost is None else f" against {usd(rival_cost)} with {rival}"
    parts = [f"{what}: at {volume:,.0f} tasks a month a successful task costs {usd(cost)}{against}"]
    if is_simpler:
        parts.append("it is the simpler way, and the difference is too small to build more for")
    if crossing is not None and not is_simpler:
        parts.append(f"it is the cheaper one {_where(crossing)}")
        if p_cheaper is not None and p_cheaper < SETTLED:
            parts.append(f"not settled: over the stated ranges it is so in {p_cheaper:.0%} of the draws")
    if turned is not None:
        parts.append(turned)
    return f"{'; '.join(parts)}; these are stated figures as of {as_of}, none of them measured."


def turned(tuned: str, changes_per_month: float, usd_a_month: float) -> str:
    """Why a tuned approach that would win on a stable task does not."""
    times = "once a month" if changes_per_month == 1 else f"{changes_per_month:g} times a month"
    return (
        f"on a stable task {tuned} would be the one to test, but the task changes {times}, and retraining and"
        f" relabelling then cost {usd_per_month(usd_a_month)}"
    )


def stable_task(tuned: str, choice: str) -> str:
    """What would change a verdict that instability turned round."""
    return f"If the task held still, {tuned} would be the one to test, and not {choice} the one to take."


def assumptions(plan: PlanFile) -> str:
    """What a break-even volume of this plan rests on."""
    money, task = plan.money, plan.task
    parts = [
        f"a wage of {usd(money.wage_per_hour_usd)} an hour",
        f"{money.review_share:.0%} of the answers reviewed",
        f"one-off work written off over {money.horizon_months:g} months",
    ]
    if any(one.review_seconds is None and one.correction_rate is not None for one in plan.approaches.values()):
        parts.append(f"{task.correction_seconds:g} s to correct an answer")
    if any(one.labels for one in plan.approaches.values()):
        parts.append(f"{money.labelling_seconds_per_case:g} s to label a case")
    if any("tuning" in one.levers for one in plan.approaches.values()):
        times = max(money.retraining_per_year, 12 * task.label_changes_per_month)
        parts.append(f"{times:g} retrainings a year at {money.curation_hours_per_retraining:g} h each")
    told = f"That volume assumes {listed(parts)}"
    if money.assumed_range == 1:
        return f"{told}, all held."
    return (
        f"{told}; the range comes from fixed costs, unquoted call costs and people's time each being off by a factor of"
        f" up to {money.assumed_range:g} either way."
    )


def none_reaches_the_goal(goal: GoalSpec) -> str:
    """The verdict when nothing stated is good enough."""
    needed = "the goal" if goal != GoalSpec() else "a useful level"
    return f"No approach reaches {needed} by the stated figures: change the approaches or the goal before building any."


def cost_reason(name: str, success: Figure, cost: Figure) -> str:
    """Success and cost of one approach as stated."""
    of_n = (
        f" ({percent(success.low)} to {percent(success.high)})"
        if success.low is not None and success.high is not None
        else ""
    )
    between = (
        f", {usd(cost.low)} to {usd(cost.high)} over the stated ranges"
        if cost.low is not None and cost.high is not None
        else ""
    )
    value = "unknown" if cost.value is None else usd(cost.value)
    rate = "unknown" if success.value is None else percent(success.value)
    return f"{name} is stated to succeed in {rate}{of_n} and would cost {value} per successful task{between}."


def at_stake(choice: Ledger, rival: Ledger, successes: float, rival_successes: float) -> str | None:
    """What a month costs in all with the choice and with its rival."""
    ours, theirs = choice.total_usd_per_month.value, rival.total_usd_per_month.value
    if ours is None or theirs is None:
        return None
    return (
        f"In all {choice.approach} costs {usd_per_month(ours)} for {successes:,.0f} successful tasks, {rival.approach}"
        f" {usd_per_month(theirs)} for {rival_successes:,.0f}."
    )


def tuning_ceiling(ceiling: float, cost: float, volume: float) -> str:
    """What the best imaginable tuned model would cost, where none is planned."""
    if ceiling > cost:
        return (
            f"No tuning: even a tuned model that never failed, with calls and labels for nothing and the same review,"
            f" would cost {usd(ceiling)} per successful task at {volume:,.0f} tasks a month."
        )
    return (
        f"Tuning is not planned; it could at best bring a successful task to {usd(ceiling)} (never failing, calls and"
        " labels for nothing, the same review)."
    )


def missed(what: str, value: float, bound: float, *, is_least: bool) -> str:
    """Why an approach is out."""
    if is_least:
        return f"its {what} of {percent(value)} is below the {percent(bound)} of the goal"
    return f"its {what} of {value:g} s is above the {bound:g} s of the goal"


def hinge(found: Hinge) -> str:
    """The sentence of a hinge; also where nothing is left beyond it."""
    if found.winner_then != NOBODY or found.flips_at is None:
        return found.sentence
    side = "above" if found.flips_at > found.value else "below"
    return f"No approach reaches the goal when {found.label} goes {side} {plain(found.flips_at)} (now {plain(found.value)})."


def gather_first(plan: PlanFile, leaders: Sequence[str | None], hinges: Sequence[Hinge]) -> tuple[str, ...]:
    """What to find out, by how near the flip of the input is; then what was left open."""
    asked = [_evidence(one.name, one.flips_at) for one in hinges]
    names = [name for name in leaders if name is not None]
    if any(plan.approaches[name].n is None for name in names):
        asked.append(_run(listed(names)))
    if plan.task.stable is None and any("tuning" in one.levers for one in plan.approaches.values()):
        asked.append(_evidence("task.label_changes_per_month", None))
    if not asked:
        asked.append(
            "Nothing stated here turns the choice between a quarter and four times its value: build a first version."
        )
    return tuple(dict.fromkeys(asked))[:5]


def unknowns(plan: PlanFile) -> tuple[str, ...]:
    """What the plan leaves open and how it was counted."""
    found = []

    def those(open_: list[str], sentence: str) -> None:
        if open_:
            found.append(f"{listed(open_)}: {sentence}")

    approaches = plan.approaches.items()
    those(
        [name for name, one in approaches if one.success is None],
        "success was not given; the schema pass rate stands in for it, the most it can be before repair.",
    )
    those(
        [name for name, one in approaches if one.retry is None and one.price_per_million is not None],
        "no retry rate was given, so no further calls are counted.",
    )
    those(
        [name for name, one in approaches if one.n is None],
        "from how many cases the rates are is not given, so success has no range.",
    )
    if plan.task.stable is None:
        found.append("Whether the task is stable is not stated; no changes are counted unless given.")
    return tuple(found)


# --- private ---------------------------------------------------------------------------------------------------------


def _where(crossing: BreakEven) -> str:
    if crossing.volume is None:
        return "at every volume" if crossing.kind == "always" else "at this volume"
    direction = "from" if crossing.kind == "from" else "up to"
    never = "never" if crossing.kind == "from" else "every volume"
    start = "the first task" if crossing.kind == "from" else "no volume"
    low, high = (
        never if end is None else start if end == 0 else f"{end:,.0f}" for end in (crossing.low, crossing.high)
    )
    return f"{direction} about {crossing.volume:,.0f} tasks a month (range: {low} to {high})"


def _run(names: str) -> str:
    return f"Run {names} on the same labelled cases with steelyard init and run: success, retries, tokens and latency get measured."


def _evidence(field: str, flips_at: float | None) -> str:
    """How to find out about one input."""
    first, *middle, last = field.split(".")
    turn = "" if flips_at is None else f" ({field} turns the choice at {plain(flips_at)})"
    if first == "approaches":
        name = ".".join(middle)
        if last in ("review_seconds", "correction_rate"):
            return f"Time {REVIEWS_TO_TIME} reviews of answers of {name} and count the corrections{turn}."
        if last == "price_per_million":
            return f"Quote the price of {name} from the vendor's page, with source and as_of{turn}."
        if last in ("authoring_hours", "maintenance_hours_per_month"):
            return f"Ask whoever would build {name} for the hours, once and per month{turn}."
        if last in ("labels", "training_usd"):
            return f"Train {name} once on a part of the labels: how many it needs and what it costs{turn}."
        return f"Run {name} on labelled cases with steelyard init and run{turn}."
    return f"{_WHERE_TO_LOOK.get(last, f'Find a better figure for {field}')}{turn}."


_WHERE_TO_LOOK = {
    "volume_per_month": "Count the tasks of the last months",
    "wage_per_hour_usd": "Ask finance for the full cost of an hour of those who review and build",
    "failed_task_usd": "Follow ten failed tasks and add up what each cost",
    "review_share": "Fix which share of the answers a person will look at",
    "review_seconds": f"Time {REVIEWS_TO_TIME} reviews",
    "correction_seconds": f"Time {REVIEWS_TO_TIME} corrections",
    "horizon_months": "Ask how long the solution is meant to be used",
    "authoring_hours": "Ask whoever would build it for the hours of each lever",
    "maintenance_hours_per_month": "Ask whoever would keep it for the hours of each lever",
    "labelling_seconds_per_case": f"Label {REVIEWS_TO_TIME} cases against the clock",
    "retraining_per_year": "Look how fast old labels stopped fitting in the past",
    "hosting_usd_per_month": "Quote the rent for serving a tuned model",
    "label_changes_per_month": "Count how often categories or rules changed over the last months",
    "relabelled_per_change": "Take the last change and count the labelled cases it made wrong",
    "edit_hours_per_change": "Take the last change and add up the hours it took",
}

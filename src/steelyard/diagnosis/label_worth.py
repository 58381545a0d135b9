"""Whether labelling more pays: what further labels cost against what the ledger then says a month costs.

The gain is measured as a verdict measures it: the difference in full cost per successful task, times the tasks that
succeed now (`economics.costs.CostModel`). Labelling and the dearer training are in that cost already, written off over
the horizon; failed tasks are in it at their price. So a positive balance means: label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from steelyard.diagnosis.learning_curve import ALPHA, LearningCurve
from steelyard.economics.costs import CostModel, Estimates, cost_model
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec, source_of
from steelyard.figures import Figure, Provenance, unknown, weakest
from steelyard.measure.results import Floats

Answer = Literal["worth it", "not worth it", "cannot tell"]
TIMES = 2
"""Labels are weighed by the doubling, the nearest forecast."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelWorth:
    """What learning from twice as many labels costs and brings."""

    answer: Answer
    because: str
    """The reason in one clause."""
    n_more: int
    """Further labels to learn from."""
    n_to_label: int
    """Those of them that nobody has labelled yet."""
    hours: Figure
    """Labelling them."""
    labelling_usd: Figure
    training_usd: Figure
    """What training once with all of them costs more than now."""
    successes_per_month: Figure
    """Further successful tasks."""
    cost_per_success_usd: tuple[Figure, Figure]
    """Of a successful task: now, and then."""
    balance_usd: Figure
    """Gain over the horizon, all costs taken off; negative is a loss."""
    p_pays: float | None
    """Share of the resampled curves in which it pays."""
    would_change: tuple[str, ...] = ()
    """What would turn the balance, one clause each."""

    def to_json(self) -> dict[str, Any]:
        """`worth` of a curve in `steelyard.learning-curve/1`."""
        now, then = self.cost_per_success_usd
        return {
            "answer": self.answer,
            "because": self.because,
            "n_more": self.n_more,
            "n_to_label": self.n_to_label,
            "hours": self.hours.to_json(),
            "labelling_usd": self.labelling_usd.to_json(),
            "training_usd": self.training_usd.to_json(),
            "successes_per_month": self.successes_per_month.to_json(),
            "cost_per_success_usd": {"now": now.to_json(), "then": then.to_json()},
            "balance_usd": self.balance_usd.to_json(),
            "p_pays": self.p_pays,
            "would_change": list(self.would_change),
        }


def worth_of_labels(
    curve: LearningCurve,
    facts: ApproachFacts,
    variable_usd: Figure,
    money: MoneySpec,
    *,
    n_available: int,
    n_evaluated: int,
) -> LabelWorth:
    """Weigh learning from twice as many labels.

    Args:
        curve: Of the approach.
        facts: Of the approach as it is trained with the most labels of the curve.
        variable_usd: What calls and computing of one task cost.
        money: Wage, labelling seconds, volume, cost of a failed task, horizon.
        n_available: Labelled cases there are to learn from, used or not; these need no labelling.
        n_evaluated: Cases an evaluation takes.

    Returns:
        The answer. It is `cannot tell` wherever a part of the cost is unknown, and where the interval of the balance
        holds zero.
    """
    n = curve.n_labels
    n_to_label = max(0, TIMES * n - max(n, n_available))
    bare = _costs_alone(curve, facts, money, n_to_label=n_to_label)
    if bare.training_usd.value is None or variable_usd.value is None:
        missing = "training costs" if bare.training_usd.value is None else "the calls and computing of a task cost"
        return _answered(bare, "cannot tell", f"what {missing} is not known")
    # Whoever labelled what is there is paid, whether all of it is used or not.
    there = replace(facts, n_labels=max(n, n_available))
    models = _Models.of(there, variable_usd.value, money, n_to_label=n_to_label, n_evaluated=n_evaluated)
    source = _balance_source(money, variable_usd)
    if curve.law is None or curve.resampled is None:
        return _without_law(bare, curve, models, source)
    now, then = curve.law.success(n), curve.law.success(TIMES * n)
    drawn_now, drawn_then = curve.resampled.success(n), curve.resampled.success(TIMES * n)
    drawn = models.balance(drawn_now, drawn_then)
    low, high = (float(end) for end in np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2]))
    share = float((drawn > 0).mean())
    answer: Answer = "worth it" if low > 0 else "not worth it" if high < 0 else "cannot tell"
    because = {
        "worth it": "the balance is above zero over its whole interval",
        "not worth it": "the balance is below zero over its whole interval",
        "cannot tell": f"the interval of the balance holds zero; {share:.0%} of the resampled curves pay",
    }[answer]
    return replace(
        _answered(bare, answer, because),
        cost_per_success_usd=(
            _cost_figure(models.now, models.variable_usd, now, drawn_now, source),
            _cost_figure(models.then, models.variable_usd, then, drawn_then, source),
        ),
        balance_usd=Figure(value=float(models.balance(now, then)[0]), low=low, high=high, provenance=source),
        p_pays=share,
        would_change=_turning_points(models, now, then, money),
    )


# --- private ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Models:
    """The ledger's arithmetic with the labels there are, and with twice as many."""

    now: CostModel
    then: CostModel
    variable_usd: float

    @classmethod
    def of(
        cls, facts: ApproachFacts, variable_usd: float, money: MoneySpec, *, n_to_label: int, n_evaluated: int
    ) -> _Models:
        """Only labels and training differ between the two."""
        assert facts.setup_cost_usd is not None  # else nothing is weighed
        more = replace(facts, n_labels=facts.n_labels + n_to_label, setup_cost_usd=TIMES * facts.setup_cost_usd)
        # Success is no part of the model; it is an argument of its costs.
        estimates = Estimates(success=1.0, variable_usd=variable_usd, review_s=None, n=n_evaluated)
        now, then = (cost_model(one, estimates, money) for one in (facts, more))
        return cls(now=now, then=then, variable_usd=variable_usd)

    def balance(self, now: Floats, then: Floats) -> Floats:
        """What is gained in USD over the horizon: difference in cost per success times the successes of today."""
        variable = np.full_like(now, self.variable_usd)
        saved = self.now.cost_per_success(now, variable) - self.then.cost_per_success(then, variable)
        gained: Floats = saved * now * self.now.volume_per_month * self.now.horizon_months
        return gained

    def changed(self, **fields: float) -> _Models:
        """The same under other circumstances, which both share."""
        return replace(self, now=replace(self.now, **fields), then=replace(self.then, **fields))


def _costs_alone(curve: LearningCurve, facts: ApproachFacts, money: MoneySpec, *, n_to_label: int) -> LabelWorth:
    """What twice as many labels cost, before it is weighed."""
    seconds = source_of(money, "labelling_seconds_per_case")
    hours = Figure(value=n_to_label * money.labelling_seconds_per_case / 3600, provenance=seconds)
    wages = (hours.value or 0.0) * money.wage_per_hour_usd
    training = unknown("what training costs is not known")
    if facts.setup_cost_usd is not None:
        source = Provenance(kind="assumed", source=f"training grows in proportion to the labels; {facts.price}")
        training = Figure(value=(TIMES - 1) * facts.setup_cost_usd, provenance=source)
    nothing = unknown("it was not weighed")
    return LabelWorth(
        answer="cannot tell",
        because="it was not weighed",
        n_more=(TIMES - 1) * curve.n_labels,
        n_to_label=n_to_label,
        hours=hours,
        labelling_usd=Figure(value=wages, provenance=weakest([seconds, source_of(money, "wage_per_hour_usd")])),
        training_usd=training,
        successes_per_month=_successes(curve, money),
        cost_per_success_usd=(nothing, nothing),
        balance_usd=nothing,
        p_pays=None,
    )


def _answered(bare: LabelWorth, answer: Answer, because: str) -> LabelWorth:
    nothing = unknown(because)
    return replace(bare, answer=answer, because=because, cost_per_success_usd=(nothing, nothing), balance_usd=nothing)


def _without_law(bare: LabelWorth, curve: LearningCurve, models: _Models, source: Provenance) -> LabelWorth:
    """Where no law was fitted: the most that a doubling can bring, against its cost."""
    rate, why = np.array([curve.points[-1].rate]), curve.why_no_fit or "no law was fitted"
    if curve.most_gain is None or rate[0] == 0:
        return _answered(bare, "cannot tell", why)
    least = float(models.balance(rate, rate)[0])
    most = float(models.balance(rate, np.minimum(1.0, rate + curve.most_gain))[0])
    reach = f"at most {100 * curve.most_gain:.1f} points"
    if most < 0:
        said = _answered(bare, "not worth it", f"the next doubling brings {reach}, which does not pay for it")
    else:
        said = _answered(bare, "cannot tell", f"{why}; the next doubling brings {reach}")
    bounds = "no law was fitted: the ends are those of no gain and of the most there can be"
    return replace(
        said, balance_usd=Figure(value=None, low=least, high=most, provenance=source, unknown_because=bounds)
    )


def _successes(curve: LearningCurve, money: MoneySpec) -> Figure:
    gain, volume = curve.gain, money.volume_per_month
    if gain.value is None or gain.low is None or gain.high is None:
        return unknown(gain.unknown_because or "no law was fitted")
    provenance = weakest([gain.provenance, source_of(money, "volume_per_month")])
    return Figure(value=gain.value * volume, low=gain.low * volume, high=gain.high * volume, provenance=provenance)


def _cost_figure(model: CostModel, variable_usd: float, success: Floats, drawn: Floats, source: Provenance) -> Figure:
    value = float(model.cost_per_success(success, np.full_like(success, variable_usd))[0])
    if not np.isfinite(value):
        return unknown("no task succeeds", provenance=source)
    costs = model.cost_per_success(drawn, np.full_like(drawn, variable_usd))
    low, high = np.quantile(costs, [ALPHA / 2, 1 - ALPHA / 2])
    return Figure(value=value, low=float(low), high=float(high), provenance=source)


def _turning_points(models: _Models, now: Floats, then: Floats, money: MoneySpec) -> tuple[str, ...]:
    """At which volume, and at which cost of a failed task, the balance is zero; each alone, where that is above zero."""
    found = []
    volume, failed = money.volume_per_month, money.failed_task_usd
    doubled = models.changed(volume_per_month=2 * volume)
    if (turn := _root(models, doubled, now, then, at=volume, step=volume)) is not None:
        side = "from" if turn.is_upwards else "up to"
        found.append(f"it pays {side} {turn.value:,.0f} tasks a month (now {volume:,.0f})")
    dearer = models.changed(failed_task_usd=failed + 1)
    if (turn := _root(models, dearer, now, then, at=failed, step=1.0)) is not None:
        side = "more" if turn.is_upwards else "less"
        found.append(f"it pays where a failed task costs ${turn.value:,.4f} or {side} (now ${failed:,.2f})")
    return tuple(found)


class _Turn(NamedTuple):
    value: float
    is_upwards: bool
    """Whether it pays above."""


def _root(models: _Models, moved: _Models, now: Floats, then: Floats, *, at: float, step: float) -> _Turn | None:
    """Where the balance is zero; it is linear in the input that was moved by `step`."""
    balance = float(models.balance(now, then)[0])
    slope = (float(moved.balance(now, then)[0]) - balance) / step
    if slope == 0 or at - balance / slope <= 0:
        return None
    return _Turn(at - balance / slope, slope > 0)


def _balance_source(money: MoneySpec, variable_usd: Figure) -> Provenance:
    fields = ("volume_per_month", "wage_per_hour_usd", "labelling_seconds_per_case", "failed_task_usd")
    return weakest([variable_usd.provenance, *(source_of(money, field) for field in fields)])

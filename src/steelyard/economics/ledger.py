"""Result types of the economics room: ledgers, break-even volumes, paybacks, and what the ranking hinges on.

Only shapes live here; `steelyard.economics.accounting` fills in the ledgers, `crossing`, `payback`, `flips`, `variance`
and `sweep` the rest. Money is US dollars, unrounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from steelyard.figures import MEASURED, Figure, Provenance

TermName = Literal["variable", "review", "failure", "upkeep", "setup"]
BreakEvenKind = Literal["from", "up_to", "always", "never", "unknown"]
PaybackKind = Literal["months", "at_once", "never", "unknown"]
TERMS: tuple[TermName, ...] = ("variable", "review", "failure", "upkeep", "setup")
"""The five terms of a ledger, in the order of the formula."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """How often what is asked changes, and what each change takes."""

    per_month: float
    edit_hours: float
    """Hours to put one change into prompt, schema and tests."""
    relabelled: float
    """Labelled cases to label again, or anew, after one change; counted for approaches that need labels."""
    stated_by: Provenance = MEASURED
    """Where this was written down; the same for all approaches."""


FROM_LEDGERS = Provenance(kind="assumed", source="worked out from ledgers, whose volume, wage and hours are assumed")
"""Of what compares ledgers: break-even volumes, paybacks, the sweep over volumes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """What one step of an approach (extract, validate, repair, ...) takes per task, on average over all tasks."""

    step: str
    calls: float
    """Calls per task, failed and repeated ones included."""
    prompt_tokens: float
    completion_tokens: float
    seconds: float
    """Seconds spent in its calls."""
    usd: float | None
    """USD per task; `None` when no price is known."""

    def to_json(self, provenance: Provenance) -> dict[str, Any]:
        """One step of a ledger of `decide --json`.

        Args:
            provenance: Of the measured cost that the steps sum up to.
        """
        return {
            "step": self.step,
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": self.seconds,
            "usd": self.usd,
            "provenance": str(provenance),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ApproachFacts:
    """What the ledger and the gates have to know about an approach besides its outcomes."""

    name: str
    levers: tuple[str, ...]
    """Levers pulled, in ladder order."""
    calls_model: bool = True
    """Whether it asks a generative model at all; such approaches have a prompt to write and keep."""
    n_labels: int = 0
    """Labelled cases it needs: examples shown, or the train cases it learns or retrieves from."""
    setup_seconds: float = 0.0
    """Machine seconds of its preparation."""
    setup_cost_usd: float | None = 0.0
    """Machine cost of its preparation in USD; `None` when no price is known."""
    search_cost_usd: float | None = 0.0
    """What looking for its prompt, examples or settings cost in calls, in USD, once; `None` when not known."""
    teacher_cost_usd: float | None = 0.0
    """What a teacher was paid for the labels it learned from, in USD, once; `None` when not known."""
    index_cost_usd: float | None = None
    """Machine cost of building its index again in USD; `None` takes that of its preparation, unless it trains too.
    Counted `money.reindex_per_month` times for approaches that pull the retrieval lever."""
    index_usd_per_hour: float | None = None
    """Price of the machine that keeps its index of documents up to date; `None` reads no documents."""
    index_seconds_per_month: float | None = None
    """Machine seconds a month that updates of this index take, from the measured churn of the documents; `None` where
    nobody has watched them for long enough. Counted unless `money.reindex_per_month` plans it."""
    price: Provenance = MEASURED
    """Where the price of its calls came from; `quoted` ones can go stale."""
    batch_discount: float | None = None
    """Share off the price for calls that can wait, 0..1; counted for `money.batch_share` of the tasks."""
    cached_saving_usd_per_task: float | None = None
    """What prompt caching saved, in USD per task; the measured cost is already lower by it."""
    judge_usd_per_case: float | None = None
    """What judging one case cost, in USD; shown apart, never part of what a success costs."""
    step_costs: tuple[StepCost, ...] = ()
    """What its calls cost, step by step; empty when not recorded."""
    endpoint: str | None = None
    """Name of the endpoint it calls."""
    other_endpoints: tuple[str, ...] = ()
    """Of a cascade: further endpoints it calls."""
    is_local: bool = True
    """Whether it runs on hardware of one's own, without a provider."""
    authoring_hours: float | None = None
    """Hours to build it; `None` takes the hours of its levers from the money section."""
    maintenance_hours_per_month: float | None = None
    """Hours a month to keep it; `None` as above."""
    changes: Changes | None = None
    """What changes of the task cost it; `None` counts none beyond maintenance and retraining."""
    is_imported: bool = False
    """Whether its results were made elsewhere. What preparing it took is then unknown, and without levers what building
    and keeping it takes as well; the ledger leaves these lines out and says so."""
    is_ceiling: bool = False
    """Whether it is shown what nobody has in production, such as the gold passages: never a candidate."""
    stated: frozenset[str] = frozenset()
    """Of an imported approach: `n_labels` and `setup_cost_usd` where its settings state them, 0 or not."""
    stated_by: Provenance = MEASURED
    """Where hours, labels and setup cost of its own were written down."""

    @property
    def leaves_costs_out(self) -> bool:
        """Whether its ledger has lines that are unknown because its results were made elsewhere."""
        hours = (self.authoring_hours, self.maintenance_hours_per_month)
        is_silent = not {"n_labels", "setup_cost_usd"} <= self.stated or (not self.levers and None in hours)
        return self.is_imported and is_silent


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerLine:
    """One named amount of a term."""

    name: str
    """Stable id: `model_calls`, `review`, `failed_tasks`, ..."""
    term: TermName
    label: str
    """What is paid for, readable by a finance lead."""
    usd_per_month: Figure
    formula: str
    """The amount as arithmetic (`+ - * / ( )`, numbers and names of `inputs`), valid in Python and in a spreadsheet;
    empty when the amount is unknown."""
    inputs: Mapping[str, Figure]
    """Every name of the formula. `money__wage_per_hour_usd` is `money.wage_per_hour_usd`: one and the same input for
    all approaches, as is `task__...` of a plan; the other names belong to this approach."""
    working: str
    """How the amount was worked out, with the numbers put in."""

    def to_json(self) -> dict[str, Any]:
        """One line of `decide --json`'s ledgers."""
        return {
            "name": self.name,
            "term": self.term,
            "label": self.label,
            "usd_per_month": self.usd_per_month.to_json(),
            "formula": self.formula,
            "inputs": {name: figure.to_json() for name, figure in self.inputs.items()},
            "working": self.working,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """The full monthly cost of one approach, and of one task and one successful task with it."""

    approach: str
    volume_per_month: float
    horizon_months: float
    lines: tuple[LedgerLine, ...]
    """Every named amount, in the order of `TERMS`."""
    terms: Mapping[TermName, Figure]
    """USD per month by term."""
    total_usd_per_month: Figure
    cost_per_task_usd: Figure
    cost_per_success_usd: Figure
    """Interval: bootstrap over success and variable cost; assumed inputs are held at their values."""
    setup_usd: Figure
    """One-off cost before it is spread over the horizon."""
    apart: tuple[LedgerLine, ...] = ()
    """Amounts worth knowing that are in no sum: judging, the idle share of hosting, what prompt caching saved. Their
    term is the one they belong to, or are a part of."""
    steps: tuple[StepCost, ...] = ()
    """The line `model_calls` by step, summing up to it per task; empty when steps were not recorded."""

    def to_json(self) -> dict[str, Any]:
        """One ledger of `decide --json`."""
        return {
            "approach": self.approach,
            "volume_per_month": self.volume_per_month,
            "horizon_months": self.horizon_months,
            "lines": [line.to_json() for line in self.lines],
            "terms": {name: figure.to_json() for name, figure in self.terms.items()},
            "total_usd_per_month": self.total_usd_per_month.to_json(),
            "cost_per_task_usd": self.cost_per_task_usd.to_json(),
            "cost_per_success_usd": self.cost_per_success_usd.to_json(),
            "setup_usd": self.setup_usd.to_json(),
            "apart": [line.to_json() for line in self.apart],
            "steps": [step.to_json(self._of_calls) for step in self.steps],
        }

    @property
    def _of_calls(self) -> Provenance:
        """Of the cost of calls, without that of the volume it is multiplied with."""
        calls = [line.inputs["variable_usd"] for line in self.lines if "variable_usd" in line.inputs]
        return calls[0].provenance if calls else MEASURED


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakEven:
    """From which monthly volume on `a` costs less per successful task than `b`."""

    a: str
    b: str
    kind: BreakEvenKind
    """`from`: `a` is cheaper above the volume; `up_to`: below it; or at every, no, or nobody knows which volume."""
    volume: float | None
    """Tasks per month at the point estimates; `None` unless `kind` is `from` or `up_to`."""
    low: float | None
    """Lower end over the bootstrap and the stated ranges; 0 reads 'from the first task on'."""
    high: float | None
    """Upper end; with a `volume`, `None` reads 'never' for `from` and 'every volume' for `up_to`."""
    as_of: str
    """ISO date of the assessment; prices move."""
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """One break-even of `decide --json`."""
        return {
            "a": self.a,
            "b": self.b,
            "kind": self.kind,
            "volume": self.volume,
            "low": self.low,
            "high": self.high,
            "as_of": self.as_of,
            "provenance": str(FROM_LEDGERS),
            "sentence": self.sentence,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Hinge:
    """An assumed input, and where changing it alone would change the cheapest approach."""

    name: str
    """Field of study.yaml or of the plan: `money.volume_per_month`."""
    label: str
    value: float
    """What it is now."""
    flips_at: float | None
    """The nearest value, within a quarter and four times of the present one, at which the winner changes."""
    winner: str
    """The cheapest approach now."""
    winner_then: str | None
    """The cheapest approach beyond `flips_at`."""
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """One hinge of `decide --json`."""
        return {
            "name": self.name,
            "label": self.label,
            "value": self.value,
            "flips_at": self.flips_at,
            "winner": self.winner,
            "winner_then": self.winner_then,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Payback:
    """After how many months the higher one-off cost of `a` is earned back by its lower running cost against `b`."""

    a: str
    b: str
    kind: PaybackKind
    """`months`; `at_once`: both cost the same at first, and `a` less to run; `never`: `a` costs no less to run."""
    months: float | None
    """At the point estimates; 0 for `at_once`, `None` for `never` and `unknown`."""
    low: float | None
    """Lower end over the bootstrap and the stated ranges; 0 reads 'at once'."""
    high: float | None
    """Upper end; `None` reads 'never'."""
    as_of: str
    """ISO date of the assessment; prices move."""
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """One payback of `decide --json`."""
        return {
            "a": self.a,
            "b": self.b,
            "kind": self.kind,
            "months": self.months,
            "low": self.low,
            "high": self.high,
            "as_of": self.as_of,
            "provenance": str(FROM_LEDGERS),
            "sentence": self.sentence,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class VarianceShare:
    """How much of what is uncertain about the two cheapest approaches comes from one input."""

    name: str
    """Field of study.yaml or of the plan (`money.wage_per_hour_usd`), or a measured figure (`tuned: success`)."""
    label: str
    first_order: Figure
    """Share, 0..1, of the variance of the cost difference that knowing this input would remove on average."""
    total: Figure
    """Share, 0..1, that would be left if only this input were unknown; above `first_order` where inputs act together."""
    sentence: str
    a: str = ""
    """The cheapest approach."""
    b: str = ""
    """The next one."""

    def to_json(self) -> dict[str, Any]:
        """One share of `decide --json`."""
        return {
            "name": self.name,
            "label": self.label,
            "first_order": self.first_order.to_json(),
            "total": self.total.to_json(),
            "sentence": self.sentence,
            "a": self.a,
            "b": self.b,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class VolumeSweep:
    """Cost of one successful task over a range of monthly volumes, everything else held."""

    volumes: tuple[float, ...]
    """Tasks a month, evenly spaced on a log scale around the present volume."""
    cost_per_success: Mapping[str, tuple[float, ...]]
    """USD by approach, one per volume; approaches without success or without a known cost are left out."""
    present: float
    """Tasks a month now."""

    def to_json(self) -> dict[str, Any]:
        """The volume sweep of `decide --json`."""
        return {
            "volumes": list(self.volumes),
            "cost_per_success_usd": {name: list(costs) for name, costs in self.cost_per_success.items()},
            "present": self.present,
            "provenance": str(FROM_LEDGERS),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Economics:
    """Everything the economics room says about one set of approaches."""

    ledgers: tuple[Ledger, ...]
    break_evens: tuple[BreakEven, ...]
    hinges: tuple[Hinge, ...]
    """One per assumed input that was varied, also those that change nothing (`flips_at` is `None`)."""
    paybacks: tuple[Payback, ...] = ()
    """One per pair of approaches, the one with the higher one-off cost first."""
    shares: tuple[VarianceShare, ...] = ()
    """Of what is uncertain about the two cheapest approaches, by input, the largest first."""
    sweep: VolumeSweep | None = None
    """`None` where no cost is known."""

    def ledger_of(self, approach: str) -> Ledger:
        """The ledger of one approach.

        Raises:
            KeyError: There is none of that name.
        """
        for ledger in self.ledgers:
            if ledger.approach == approach:
                return ledger
        raise KeyError(approach)

    def to_json(self) -> dict[str, Any]:
        """The economics part of `decide --json`."""
        return {
            "ledgers": [ledger.to_json() for ledger in self.ledgers],
            "break_evens": [break_even.to_json() for break_even in self.break_evens],
            "hinges": [hinge.to_json() for hinge in self.hinges],
            "paybacks": [payback.to_json() for payback in self.paybacks],
            "variance_shares": [share.to_json() for share in self.shares],
            "volume_sweep": self.sweep.to_json() if self.sweep else None,
        }

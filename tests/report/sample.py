"""A report as a real study would fill it: seven approaches to sorting support tickets into twelve categories."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import combinations
from typing import Any

from steelyard.decision.verdict import EvidenceWorth, FactorCell, FactorRow, Gate, Mistake, Standing, Verdict
from steelyard.economics.ledger import (
    TERMS,
    BreakEven,
    Economics,
    Hinge,
    Ledger,
    LedgerLine,
    Payback,
    StepCost,
    TermName,
    VarianceShare,
    VolumeSweep,
)
from steelyard.figures import Figure, Provenance, unknown, weakest
from steelyard.measure.fields import FieldRow
from steelyard.measure.scorecard import Comparison, Evidence, Scorecard
from steelyard.measure.segments import SegmentDifference, SegmentRow, SegmentTables
from steelyard.models.calls import Message
from steelyard.report.content import (
    CaseAnswer,
    Goals,
    Method,
    ModelFact,
    Parity,
    ReportContent,
    RunFacts,
    SetupRow,
    TranscriptCall,
    WorstCase,
)
from steelyard.task.field_scorers import FieldScore

WAGE = Provenance(kind="assumed", source="study.yaml: money.wage_usd_per_hour")
CPU = Provenance(kind="assumed", source="default: money.cpu_hour_usd")
REVIEW = Provenance(kind="assumed", source="study.yaml: money.review_seconds")
PRICES = Provenance(kind="quoted", source="https://prices.example/chat", as_of="2026-09-01")

# name, levers, success, low, high, schema pass, retry, p50, p95, prompt tokens, cost per task, full cost (value, low, high)
_ROWS: tuple[tuple[Any, ...], ...] = (
    ("zero-shot", ("prompt",), 0.127, 0.094, 0.169, 0.43, 0.0, 0.21, 0.44, 212.0, 0.0000031, 1.94, 1.43, 2.71),
    ("few-shot", ("prompt",), 0.313, 0.263, 0.368, 0.81, 0.0, 0.97, 1.62, 1043.0, 0.0000139, 0.791, 0.66, 0.95),
    ("workflow", ("prompt", "workflow"), 0.35, 0.298, 0.405, 1.0, 0.013, 0.33, 0.58, 241.0, 0.0000049, 0.706, 0.6, 0.84),
    ("retrieval", ("prompt", "retrieval"), 0.843, 0.798, 0.88, 1.0, 0.0, 0.61, 0.92, 566.0, 0.0000088, 0.296, 0.281, 0.313),
    ("tuned-lora", ("prompt", "tuning"), 0.893, 0.853, 0.923, 1.0, 0.0, 0.19, 0.27, 61.4, 0.0000027, 0.301, 0.288, 0.317),
    ("tuned-head", ("tuning",), 0.917, 0.88, 0.943, 1.0, 0.0, 0.0047, 0.0081, 0.0, 0.00000007, 0.262, 0.252, 0.274),
    ("nearest", ("retrieval",), 0.857, 0.813, 0.892, 1.0, 0.0, 0.0051, 0.0089, 0.0, 0.00000008, 0.268, 0.256, 0.282),
)  # fmt: skip
_N = 300
MONEY = {
    "money__volume_per_month": Figure(
        value=8000.0, provenance=Provenance(kind="assumed", source="study.yaml: money.volume_per_month")
    ),
    "money__wage_per_hour_usd": Figure(value=38.0, provenance=WAGE),
    "money__review_share": Figure(
        value=0.15, provenance=Provenance(kind="assumed", source="default of money.review_share")
    ),
    "money__review_seconds": Figure(value=25.0, provenance=REVIEW),
    "money__failed_task_usd": Figure(
        value=0.2, provenance=Provenance(kind="assumed", source="study.yaml: money.failed_task_usd")
    ),
    "money__labelling_seconds_per_case": Figure(
        value=20.0, provenance=Provenance(kind="assumed", source="default of money.labelling_seconds_per_case")
    ),
    "money__horizon_months": Figure(
        value=12.0, provenance=Provenance(kind="assumed", source="default of money.horizon_months")
    ),
}


def sample_content() -> ReportContent:
    """The whole report."""
    cards = tuple(_scorecard(row) for row in _ROWS)
    return ReportContent(
        study="Triage of support tickets",
        instruction="Read the customer's ticket and choose the one category a support lead would file it under.",
        scorecards=cards,
        comparisons=tuple(_comparison(a, b) for a, b in combinations(cards, 2)),
        verdict=_verdict(cards),
        goals=Goals(min_success=0.85, max_p95_latency_s=2.0),
        worst_cases=(_worst_case(), _second_worst_case()),
        data_notes=(
            "14 pairs of near-duplicate tickets were kept on one side of the split",
            "3 tickets are empty; they are asked like any other",
            "expected output of tickets.csv:812 disagrees with all 5 of its nearest neighbours; check the label",
        ),
        split_counts={"train": 1800, "dev": 600, "test": 300},
        test_looks=2,
        setup=tuple(_setup(card) for card in cards),
        method=Method(
            seeds={"split": 7, "bootstrap": 20261123},
            package_version="0.1.0",
            command="steelyard report triage -o report.html",
            source=RunFacts(
                models=(
                    ModelFact(endpoint="local", identity="SmolLM2-135M-Instruct Q4_1, sha256 3f1c90ab77d2"),
                    ModelFact(endpoint="embedder", identity="all-MiniLM-L6-v2 ONNX int8, sha256 9b02c41aa0e5"),
                ),
                repeats=1,
                started_utc="2026-11-23T09:14:02Z",
                finished_utc="2026-11-23T09:21:47Z",
                study_digest="c0ffee5511aa93d07f0b2a6e4d1c8890",
            ),
        ),
        segments=_segments(cards[-2:]),
    )


def hostile_content(payload: str) -> ReportContent:
    """The sample with `payload` in every place where a text of a case, a model or a study file can stand."""
    content = sample_content()
    call = TranscriptCall(
        step=payload,
        messages=(Message("system", payload), Message("user", payload)),
        text=payload,
        status=payload,
        error=payload,
        prompt_tokens=3,
        completion_tokens=None,
        latency_s=0.1,
        price_usd=None,
    )
    answer = CaseAnswer(
        approach=payload, output={payload: payload, "nested": [payload, {"x": payload}]}, status=payload, score=None,
        unscored_because=payload, success=None, problem=payload, latency_s=1.0, cost_usd=None, sources=(payload,),
        calls=(call,),
    )  # fmt: skip
    case = WorstCase(
        case_id=payload, where=payload, fields={payload: payload}, expected={payload: payload}, answers=(answer,)
    )
    several = {payload: payload, f"{payload} 2": payload}
    marks = {name: FieldScore(score=0.0, verdict="wrong") for name in several}
    judged = replace(call, price_from=Provenance(kind="quoted", source=payload, as_of="2026-01-01"))
    compared = replace(
        case,
        expected=several,
        answers=(replace(answer, output=several, fields=marks, notes=(payload,), judge_calls=(judged,)),),
    )
    gate = Gate(name="base_fits", question=payload, answer="unknown", evidence=payload, cheapest_evidence=payload)
    verdict = replace(
        content.verdict, choice=payload, sentence=payload, reasons=(payload,), runner_up=payload,
        what_would_change_it=(payload,), unknowns=(payload,), stale_prices=(payload,), gates=(gate,),
        mistakes=(Mistake(name="giant_prompt", title=payload, evidence=payload, remedy=payload),),
    )  # fmt: skip
    economics = content.verdict.economics
    source = Provenance(kind="quoted", source=payload, as_of="2026-01-01")
    figure = Figure(value=1.5, provenance=source)
    line = replace(
        economics.ledgers[0].lines[-1], label=payload, working=payload, usd_per_month=figure,
        inputs=dict.fromkeys(economics.ledgers[0].lines[-1].inputs, figure),
    )  # fmt: skip
    assert economics.sweep is not None
    economics = replace(
        economics,
        ledgers=(
            replace(
                economics.ledgers[2],
                approach=payload,
                lines=(*economics.ledgers[2].lines, line),
                apart=(replace(line, formula="", usd_per_month=unknown(payload)),),
                steps=tuple(replace(step, step=payload) for step in economics.ledgers[2].steps),
            ),
            economics.ledgers[1],
        ),
        break_evens=(replace(economics.break_evens[0], a=payload, sentence=payload),),
        paybacks=(replace(economics.paybacks[0], b=payload, sentence=payload),),
        hinges=(
            replace(
                economics.hinges[0], name=payload, label=payload, winner=payload, winner_then=payload, sentence=payload
            ),
        ),
        shares=(
            replace(economics.shares[0], name=payload, label=payload, sentence=payload, a=payload, first_order=figure),
        ),
        sweep=replace(economics.sweep, cost_per_success={payload: tuple(economics.sweep.cost_per_success["nearest"])}),
    )
    assert content.verdict.worth is not None
    assert content.segments is not None
    verdict = replace(
        verdict,
        economics=economics,
        worth=replace(content.verdict.worth, sentence=payload),
        factors=(
            replace(
                content.verdict.factors[0], title=payload, cells={payload: FactorCell(text=payload, figure=figure)}
            ),
        ),
    )
    cards = (
        replace(content.scorecards[-1], name=payload, rung=payload, review_s=unknown(payload)),
        replace(
            content.scorecards[0],
            name=f"b{payload}",
            status_counts={payload: 3},
            retry=Figure(value=0.1, provenance=source),
        ),
    )
    return replace(
        content, study=payload, instruction=payload, scorecards=cards, verdict=verdict, worst_cases=(case, compared),
        comparisons=(replace(content.comparisons[0], a=payload, b=f"b{payload}"),), data_notes=(payload,),
        split_counts={payload: 3},
        setup=(replace(content.setup[4], approach=payload, card=((payload, payload),)),),
        method=replace(
            content.method,
            command=payload,
            seeds={payload: 1},
            source=RunFacts(
                models=(ModelFact(endpoint=payload, identity=payload),), study_digest=payload, started_utc=payload,
                finished_utc=payload, repeats=2,
            ),
        ),
        segments=SegmentTables(
            segments=(payload,),
            rows=tuple(replace(row, approach=payload, segment=payload) for row in content.segments.rows[:1]),
            differences=tuple(
                replace(one, segment=payload, a=payload) for one in content.segments.differences[:1]
            ),
            warning=payload,
        ),
        fields=tuple(
            FieldRow(
                approach=payload, field=name, n=9, accuracy=figure, wrong=1, missing=2, invented=3, unscored=1,
                sends_to_review=unknown(payload), alone=1,
            )
            for name in several
        ),
    )  # fmt: skip


def _segments(cards: tuple[Scorecard, ...]) -> SegmentTables:
    segments = (("shop", 180, 0.93), ("app", 96, 0.9), ("phone", 24, 0.79))
    rows = tuple(
        SegmentRow(
            approach=card.name,
            segment=segment,
            n=n,
            n_unscored=0,
            success=Figure(value=rate, low=rate - 0.1, high=min(1.0, rate + 0.07)),
            shrunken=Figure(value=(rate + 0.91) / 2, low=rate - 0.04, high=min(1.0, rate + 0.05)),
        )
        for card in cards
        for segment, n, rate in segments
    )
    differences = tuple(
        SegmentDifference(
            segment=segment, a=cards[0].name, b=cards[-1].name, n=n, a_only=7, b_only=3,
            difference=Figure(value=0.04, low=-0.03, high=0.11), p_mcnemar=0.34, p_adjusted=1.0, evidence="undecided",
        )
        for segment, n, _ in segments
    )  # fmt: skip
    return SegmentTables(
        segments=tuple(segment for segment, _, _ in segments),
        rows=rows,
        differences=differences,
        warning="3 segments were looked at; by chance alone about one in twenty looks different, and no difference stands after Holm.",
    )


def _scorecard(row: tuple[Any, ...]) -> Scorecard:
    name, levers, success, low, high, schema, retry, p50, p95, tokens, cost, full, full_low, full_high = row
    return Scorecard(
        name=name,
        levers=levers,
        rung=" + ".join(levers),
        split="test",
        n=_N,
        n_unscored=0,
        status_counts={"answered": round(_N * schema), "invalid": _N - round(_N * schema)},
        success=Figure(value=success, low=low, high=high),
        mean_score=unknown("no scores were recorded"),
        schema_pass=Figure(value=schema, low=max(0.0, schema - 0.05), high=min(1.0, schema + 0.04)),
        retry=Figure(value=retry, low=0.0, high=retry + 0.013),
        extra_calls_per_case=Figure(value=retry, low=0.0, high=retry + 0.02),
        transport_retries=0,
        review_s=Figure(value=25.0, provenance=REVIEW),
        correction_rate=unknown("nobody has reviewed answers of this study yet"),
        latency_p50_s=Figure(value=p50, low=p50 * 0.95, high=p50 * 1.07),
        latency_p95_s=Figure(value=p95, low=p95 * 0.9, high=p95 * 1.2),
        cost_per_task_usd=Figure(value=cost, low=cost * 0.9, high=cost * 1.1, provenance=CPU),
        cost_per_success_usd=Figure(value=full, low=full_low, high=full_high, provenance=WAGE),
        prompt_tokens_per_task=Figure(value=tokens, low=tokens * 0.98, high=tokens * 1.02),
        cached_tokens_per_task=unknown("the endpoint does not report cached tokens")
        if tokens
        else Figure(value=0.0, low=0.0, high=0.0),
        completion_tokens_per_task=Figure(value=0.0 if not tokens else 6.3),
    )


def _comparison(a: Scorecard, b: Scorecard) -> Comparison:
    assert a.success.value is not None
    assert b.success.value is not None
    difference = a.success.value - b.success.value
    low, high = difference - 0.048, difference + 0.046
    evidence: Evidence = "a" if low > 0 else "b" if high < 0 else "undecided"
    net = round(difference * _N)
    return Comparison(
        a=a.name,
        b=b.name,
        n=_N,
        n_unscored=0,
        a_only=max(net, 0) + 14,
        b_only=max(-net, 0) + 14,
        difference=Figure(value=difference, low=low, high=high),
        p_mcnemar=0.0000012 if evidence != "undecided" else 0.084,
        p_adjusted=0.000021 if evidence != "undecided" else 0.34,
        e_value=5.2e9 if abs(difference) > 0.3 else 41.7 if evidence != "undecided" else 0.61,
        evidence=evidence,
        minimum_detectable=Figure(value=0.067),
        cases_to_settle=0 if evidence != "undecided" else 540 if abs(difference) > 0.015 else None,
        latency_difference_s=Figure(value=-0.12, low=-0.15, high=-0.09),
        cost_difference_usd=Figure(value=0.0000021, low=0.0000019, high=0.0000024, provenance=CPU),
    )


def _ledger(card: Scorecard) -> Ledger:
    own = {
        "success": card.success,
        "variable_usd": card.cost_per_task_usd,
        "n_labels": Figure(value=1800.0 if "tuning" in card.levers else 12.0),
        "authoring_hours": Figure(value=12.0, provenance=WAGE),
        "maintenance_hours_per_month": Figure(value=4.0, provenance=WAGE),
        "setup_cost_usd": Figure(value=0.0048, provenance=CPU),
    }
    lines = [
        _line("model_calls", "variable", "Model calls and own compute", "money__volume_per_month * variable_usd", own),
        _line(
            "review",
            "review",
            "Checking answers by a person",
            "money__volume_per_month * money__review_share * money__review_seconds / 3600 * money__wage_per_hour_usd",
            own,
        ),
        _line(
            "failed_tasks",
            "failure",
            "Rework of failed tasks",
            "money__volume_per_month * (1 - success) * money__failed_task_usd",
            own,
        ),
        _line(
            "maintenance",
            "upkeep",
            "Maintenance",
            "maintenance_hours_per_month * money__wage_per_hour_usd",
            own,
        ),
        _line(
            "building",
            "setup",
            "Authoring",
            "authoring_hours * money__wage_per_hour_usd / money__horizon_months",
            own,
        ),
        _line(
            "labelling",
            "setup",
            "Labelling",
            "n_labels * money__labelling_seconds_per_case / 3600 * money__wage_per_hour_usd / money__horizon_months",
            own,
        ),
        _line("training", "setup", "Training", "setup_cost_usd / money__horizon_months", own),
    ]
    terms = {
        term: Figure(
            value=math.fsum(part.usd_per_month.value or 0.0 for part in lines if part.term == term),
            provenance=CPU if term == "variable" else WAGE,
        )
        for term in TERMS
    }
    total = math.fsum(figure.value or 0.0 for figure in terms.values())
    volume = MONEY["money__volume_per_month"].value or 1.0
    success = card.success.value or 1.0
    setup = 12 * (terms["setup"].value or 0.0)
    judging = LedgerLine(
        name="judging", term="variable", label="Judging, during evaluation", usd_per_month=unknown("nothing was judged"),
        formula="", inputs={}, working="not counted",
    )  # fmt: skip
    return Ledger(
        approach=card.name,
        volume_per_month=volume,
        horizon_months=12,
        lines=tuple(lines),
        terms=terms,
        total_usd_per_month=Figure(value=total, low=total * 0.97, high=total * 1.04, provenance=WAGE),
        cost_per_task_usd=Figure(value=total / volume, provenance=WAGE),
        cost_per_success_usd=Figure(
            value=total / volume / success,
            low=card.cost_per_success_usd.low,
            high=card.cost_per_success_usd.high,
            provenance=WAGE,
        ),
        setup_usd=Figure(value=setup, provenance=WAGE),
        apart=(judging,),
        steps=(
            StepCost(
                step="extract", calls=1.0, prompt_tokens=210.0, completion_tokens=6.0, seconds=0.31, usd=0.0000041
            ),
            StepCost(step="repair", calls=0.02, prompt_tokens=5.0, completion_tokens=0.1, seconds=0.01, usd=None),
        )
        if card.name == "workflow"
        else (),
    )


def _line(name: str, term: TermName, label: str, formula: str, own: dict[str, Figure]) -> LedgerLine:
    inputs = {found: (MONEY | own)[found] for found in sorted(set(re.findall(r"[a-z]\w*", formula)))}
    value = eval(formula, {}, {key: figure.value for key, figure in inputs.items()})
    return LedgerLine(
        name=name, term=term, label=label, formula=formula, inputs=inputs, working=formula.replace("money__", ""),
        usd_per_month=Figure(value=value, provenance=weakest(figure.provenance for figure in inputs.values())),
    )  # fmt: skip


def _standing(card: Scorecard) -> Standing:
    in_running = (card.success.value or 0) > 0.85
    chances = {"tuned-head": 0.86, "nearest": 0.11, "tuned-lora": 0.03}
    return Standing(
        name=card.name,
        rung=card.rung,
        cost_per_success_usd=card.cost_per_success_usd,
        p_meets_goal={"tuned-head": 0.9997, "nearest": 0.61, "tuned-lora": 0.982}.get(card.name, 0.0001),
        p_best=chances.get(card.name, 0.0),
        expected_monthly_loss_usd=6.4 if card.name == "tuned-head" else 52.0 if in_running else None,
        beats_baseline="is_baseline" if card.name == "nearest" else "yes" if card.name == "tuned-head" else "undecided",
        excluded_because=None if in_running else "its success rate is below the goal of 85%",
    )


def _crossing(a: Ledger, b: Ledger) -> float:
    """Volume at which both cost the same per successful task."""
    slope, fixed = 0.0, 0.0
    for sign, ledger in ((1, a), (-1, b)):
        known = {term: figure.value or 0.0 for term, figure in ledger.terms.items()}
        success = next(line.inputs["success"].value for line in ledger.lines if "success" in line.inputs) or 1.0
        slope += sign * (known["variable"] + known["review"] + known["failure"]) / ledger.volume_per_month / success
        fixed += sign * (known["upkeep"] + known["setup"]) / success
    return -fixed / slope


def _verdict(cards: tuple[Scorecard, ...]) -> Verdict:
    volume = _crossing(_ledger(cards[5]), _ledger(cards[6]))
    hinges = (
        Hinge(
            name="money.cost_of_failure_usd",
            label="cost of a failed task",
            value=0.2,
            flips_at=0.07,
            winner="tuned-head",
            winner_then="nearest",
            sentence="Below $0.07 for a failed task (now $0.20), nearest would be the cheapest.",
        ),
    )
    steady = Hinge(
        name="money.volume_per_month",
        label="volume",
        value=8000,
        flips_at=None,
        winner="tuned-head",
        winner_then=None,
        sentence="No volume between 2,000 and 32,000 tasks a month changes the cheapest approach.",
    )
    ranked = sorted(cards, key=lambda card: card.cost_per_success_usd.value or 9.0)
    in_order = [c for c in ranked if (c.success.value or 0) > 0.85] + [
        c for c in ranked if (c.success.value or 0) <= 0.85
    ]
    return Verdict(
        choice="tuned-head",
        sentence="Take tuned-head: it costs $0.262 per successful task and does 91.7% of the cases right, "
        "with an 86% chance of being the best of the seven.",
        reasons=(
            "It reaches the goal of 85% with a probability above 99.9%.",
            "It succeeds more often than nearest, the baseline, by 6.0 points (1.2 to 10.6).",
            "tuned-lora pulls one more lever and is not better on these cases.",
        ),
        runner_up="nearest",
        p_best=0.86,
        expected_monthly_loss_usd=6.4,
        hinges_on=hinges,
        cases_to_settle=540,
        what_would_change_it=(
            "A failed task that costs less than $0.07.",
            "Labels that change more than once a quarter.",
        ),
        unknowns=("How long review really takes: nobody has timed it in this study.",),
        gates=(
            Gate(
                name="base_fits",
                question="Does the base model fit the task?",
                answer="yes",
                evidence="All prompts fit its context; it answered all 300 cases.",
            ),
            Gate(
                name="workflow_pays",
                question="Does workflow work still pay?",
                answer="no",
                evidence="workflow beats zero-shot by 22.3 points and stays 50 points below the goal.",
            ),
            Gate(
                name="failures_recur",
                question="Are the remaining failures recurring and stable?",
                answer="unknown",
                evidence="Each case was asked once.",
                cheapest_evidence="run the 48 failed cases three more times (about 1 minute, $0)",
            ),
        ),
        mistakes=(
            Mistake(
                name="no_exit_path",
                title="No exit path from a provider",
                evidence="5 of 7 approaches call the endpoint local and none has a second one.",
                remedy="Add one approach on another endpoint.",
            ),
        ),
        stale_prices=("chat-large was priced on 2026-09-01, 83 days ago; check https://prices.example/chat",),
        standings=tuple(_standing(card) for card in in_order),
        economics=Economics(
            ledgers=tuple(_ledger(card) for card in cards),
            break_evens=(
                BreakEven(
                    a="tuned-head",
                    b="nearest",
                    kind="from",
                    volume=volume,
                    low=600,
                    high=9800,
                    as_of="2026-11-23",
                    sentence=f"tuned-head costs less than nearest from about {volume:,.0f} tasks a month (600–9,800).",
                ),
            ),
            hinges=(*hinges, steady),
            paybacks=(
                Payback(
                    a="tuned-head",
                    b="nearest",
                    kind="months",
                    months=7.4,
                    low=2.1,
                    high=None,
                    as_of="2026-11-23",
                    sentence="The dearer start of tuned-head against nearest is earned back after about 7.4 months (range: 2.1 to never).",
                ),
            ),
            shares=(
                VarianceShare(
                    name="money.failed_task_usd",
                    label="cost of a failed task in USD",
                    first_order=Figure(value=0.62, provenance=WAGE),
                    total=Figure(value=0.66, provenance=WAGE),
                    sentence="62% of what is uncertain between tuned-head and nearest is the cost of a failed task.",
                    a="tuned-head",
                    b="nearest",
                ),
                VarianceShare(
                    name="tuned-head: success",
                    label="success of tuned-head",
                    first_order=Figure(value=0.21),
                    total=Figure(value=0.25),
                    sentence="21% of what is uncertain between tuned-head and nearest is the success of tuned-head.",
                    a="tuned-head",
                    b="nearest",
                ),
            ),
            sweep=_sweep(cards),
        ),
        as_of="2026-11-23",
        factors=tuple(
            FactorRow(
                factor=factor,
                title=title,
                cells={
                    card.name: FactorCell(text=text, figure=Figure(value=16.0, provenance=WAGE) if hours else None)
                    for card in in_order
                },
            )
            for factor, title, text, hours in (
                ("speed", "Speed to a first production version", "16 hours of building", True),
                ("labels", "Labelled data needed", "1,800 labelled cases", False),
                ("knowledge", "Fresh or private knowledge", "none is looked up", False),
                ("change", "Ease of change", "edit a text", False),
                ("overhead", "Latency and token overhead", "0.31 s and 241 prompt tokens a task", False),
                ("evaluation", "Evaluation burden", "300 cases, 25 s of review each", False),
                ("switching", "Switching risk", "runs on your own machine", False),
                ("best_use", "Best use", "a stable task with labels", False),
            )
        ),
        worth=EvidenceWorth(
            n_cases=500,
            worth_usd=Figure(value=31.0, provenance=WAGE),
            price_usd=Figure(value=106.0, provenance=WAGE),
            is_worth_it=False,
            sentence="500 further cases would save about $31 over the horizon and cost about $106: stop, it does not matter.",
            perfect_usd=Figure(value=77.0, provenance=WAGE),
        ),
    )


def _sweep(cards: tuple[Scorecard, ...]) -> VolumeSweep:
    volumes = tuple(8000.0 * 10 ** (step / 8) for step in range(-16, 17))
    costs = {}
    for ledger in map(_ledger, cards):
        known = {term: figure.value or 0.0 for term, figure in ledger.terms.items()}
        per_task = math.fsum(known[term] for term in ("variable", "review", "failure")) / ledger.volume_per_month
        success = next(line.inputs["success"].value for line in ledger.lines if "success" in line.inputs) or 1.0
        costs[ledger.approach] = tuple(
            (per_task + (known["upkeep"] + known["setup"]) / volume) / success for volume in volumes
        )
    return VolumeSweep(volumes=volumes, cost_per_success=costs, present=8000.0)


def _setup(card: Scorecard) -> SetupRow:
    tuned = card.name == "tuned-lora"
    return SetupRow(
        approach=card.name,
        seconds=Figure(value=94.2 if tuned else 7.25 if card.name in ("retrieval", "tuned-head", "nearest") else 0.0),
        cost_usd=Figure(value=0.00105 if tuned else 0.00008, provenance=CPU),
        n_examples={"zero-shot": 0, "few-shot": 12, "workflow": 0}.get(card.name, 1800),
        reused=card.name == "retrieval",
        card=(("base", "SmolLM2-135M-Instruct, Apache-2.0"), ("LoRA", "r 8, alpha 16, 15 layers, 2 epochs"))
        if tuned
        else (),
        parity=Parity(
            n=240,
            in_training_library=Figure(value=0.896, low=0.851, high=0.929),
            as_served=Figure(value=0.892, low=0.846, high=0.925),
        )
        if tuned
        else None,
    )


def _call(
    text: str, *, user: str, status: str = "answered", extra: bool = False, step: str = "answer"
) -> TranscriptCall:
    return TranscriptCall(
        step=step,
        messages=(Message("system", "Choose exactly one category.\nAnswer with its name only."), Message("user", user)),
        text=text,
        status=status,
        prompt_tokens=241,
        completion_tokens=6,
        latency_s=0.31,
        price_usd=0.0000047,
        extra=extra,
        replayed=not extra,
    )


def _answer(approach: str, label: str | None, *calls: TranscriptCall, right: bool = False) -> CaseAnswer:
    return CaseAnswer(
        approach=approach,
        output=None if label is None else {"category": label},
        status="answered" if label else "invalid",
        score=1.0 if right else 0.0,
        success=right,
        problem=None if label else "'category': \"Billing problem\" is not one of the 12 labels",
        latency_s=sum(call.latency_s for call in calls) or 0.0048,
        cost_usd=sum(call.price_usd or 0.0 for call in calls) or 0.00000007,
        sources=("t-0102", "t-1877") if approach in ("retrieval", "nearest") else (),
        calls=calls,
    )


def _worst_case() -> WorstCase:
    ticket = (
        "Hi, second time I write!! The parcel came but the box was wet and the lamp inside does not switch on. "
        "Also you charged me twice for it.\n\nKind regards\nJ. Okafor"
    )
    return WorstCase(
        case_id="t-2214",
        where="tickets.csv:2215",
        fields={"text": ticket},
        expected={"category": "device_fault"},
        answers=(
            _answer("zero-shot", None, _call("Billing problem", user=ticket)),
            _answer("few-shot", "billing", _call("billing", user=ticket)),
            _answer(
                "workflow",
                "delivery",
                _call('{"category": "Billing problem"}', user=ticket),
                _call('{"category": "delivery"}', user=ticket, extra=True, step="repair"),
            ),
            _answer("retrieval", "delivery", _call('{"category": "delivery"}', user=ticket)),
            _answer("tuned-lora", "device_fault", _call("device_fault", user=ticket), right=True),
            _answer("tuned-head", "billing"),
            _answer("nearest", "billing"),
        ),
    )


def _second_worst_case() -> WorstCase:
    return WorstCase(
        case_id="t-0871",
        where="tickets.csv:872",
        fields={"text": ""},
        expected={"category": "other"},
        answers=(
            _answer("zero-shot", "account", _call("account", user="")),
            _answer("tuned-head", "account"),
            _answer("nearest", "returns"),
        ),
    )

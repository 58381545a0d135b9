"""A small report on extraction: three approaches to reading invoices, with fields, notes and a judge."""

from __future__ import annotations

from dataclasses import replace

from steelyard.figures import Figure, Provenance
from steelyard.measure.fields import FieldRow, field_rows
from steelyard.models.calls import Message
from steelyard.report.content import CaseAnswer, ReportContent, TranscriptCall, WorstCase
from steelyard.task.field_scorers import FieldScore, FieldVerdict
from tests.report.sample import sample_content

APPROACHES = ("few-shot", "workflow", "retrieval")
FIELDS = ("vendor", "invoice_date", "total", "line_items")
_N = 24
_FAULTS: dict[tuple[str, str], tuple[int, FieldVerdict]] = {
    ("few-shot", "vendor"): (6, "wrong"),
    ("few-shot", "invoice_date"): (9, "missing"),
    ("few-shot", "line_items"): (20, "wrong"),
    ("workflow", "invoice_date"): (4, "invented"),
    ("workflow", "line_items"): (12, "wrong"),
    ("retrieval", "total"): (2, "unscored"),
}


def invoices_content() -> ReportContent:
    """The sample with what a study of several fields adds."""
    content = sample_content()
    cards = tuple(
        replace(
            card,
            mean_score=Figure(value=0.71, low=0.62, high=0.79),
            cached_tokens_per_task=Figure(value=812.0 if card.name == "few-shot" else 0.0),
        )
        for card in content.scorecards
        if card.name in APPROACHES
    )
    return replace(content, scorecards=cards, fields=rows(), worst_cases=(worst_invoice(),))


def rows() -> tuple[FieldRow, ...]:
    """How right each field is, counted."""
    return field_rows(
        {
            "approach": approach,
            "case_id": f"inv-{number:03}",
            "repeat": 0,
            "cluster": None,
            "field": field,
            "verdict": verdict if number < n else "right",
        }
        for approach in APPROACHES
        for number in range(_N)
        for field in FIELDS
        for n, verdict in [_FAULTS.get((approach, field), (0, "right"))]
    )


def worst_invoice() -> WorstCase:
    """A document that everybody gets wrong in another way."""
    text = "Pumpen Grünwald GmbH\nRechnung RE-2025-2988\nDatum: 24.02.2025\nDichtring 60 mm   100   0,72   72,00\nSumme 85,68 EUR"
    expected = {
        "vendor": "Pumpen Grünwald GmbH",
        "invoice_date": None,
        "total": 85.68,
        "line_items": [{"description": "Dichtring 60 mm", "quantity": 100, "unit_price": 0.72, "amount": 72.0}],
    }
    return WorstCase(
        case_id="inv-017",
        where="cases.jsonl:17",
        fields={"text": text},
        expected=expected,
        answers=(
            _answer("few-shot", None, {}, _call("Here is the invoice", text)),
            _answer(
                "workflow",
                {**expected, "invoice_date": "2025-02-24", "vendor": "Grünwald"},
                {"vendor": "wrong", "invoice_date": "invented", "total": "right", "line_items": "right"},
                _call('{"total": 85.68}', text, cached=180),
                _call('{"total": 85.68}', text, step="checked: repair", extra=True),
                notes=("screen: text: 1 × email", "kind: german"),
                judged=_call('{"verdict": "no"}', text, step="judge", price_from=JUDGE_PRICE),
            ),
            _answer(
                "retrieval",
                {"vendor": expected["vendor"], "total": 85.68, "line_items": [], "remark": "paid in cash"},
                {"vendor": "right", "invoice_date": "right", "total": "unscored", "line_items": "missing"},
                _call("{}", text),
            ),
        ),
    )


JUDGE_PRICE = Provenance(kind="quoted", source="https://prices.example/judge", as_of="2026-09-01")


# ---- private --------------------------------------------------------------------------------------------------------


def _answer(
    approach: str,
    output: dict[str, object] | None,
    verdicts: dict[str, FieldVerdict],
    *calls: TranscriptCall,
    notes: tuple[str, ...] = (),
    judged: TranscriptCall | None = None,
) -> CaseAnswer:
    found = verdicts or dict.fromkeys(FIELDS, "missing")
    right = sum(verdict == "right" for verdict in found.values())
    return CaseAnswer(
        approach=approach,
        output=output,
        status="answered" if output else "invalid",
        score=right / len(found),
        success=False,
        problem=None if output else "no JSON object in the answer",
        latency_s=1.2,
        cost_usd=0.00012,
        calls=calls,
        judge_calls=() if judged is None else (judged,),
        notes=notes,
        fields={name: FieldScore(score=float(verdict == "right"), verdict=verdict) for name, verdict in found.items()},
    )


def _call(
    text: str,
    document: str,
    *,
    step: str = "answer",
    extra: bool = False,
    cached: int | None = None,
    price_from: Provenance | None = None,
) -> TranscriptCall:
    return TranscriptCall(
        step=step,
        messages=(Message("system", "Read the document."), Message("user", document)),
        text=text,
        status="answered",
        prompt_tokens=412,
        cached_tokens=cached,
        completion_tokens=88,
        latency_s=0.61,
        price_usd=0.00004,
        price_from=price_from,
        extra=extra,
    )

"""Write the shipped files of the `invoices` study: `python -m studies.invoices.generate [FOLDER]`.

The same seed gives the same bytes on every run and machine: one `random.Random` is handed through, and nothing
depends on hash order, the clock or the locale. `build` makes the records, `render` the files.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median
from string import Template
from typing import Any

from studies.invoices.draft import Drafter
from studies.invoices.invoice import Invoice, expected
from studies.invoices.material import LANGUAGES, vendors
from studies.invoices.page import Layout
from studies.invoices.scan import scanned
from studies.invoices.schema import SCHEMA

SEED = 20250302
N_RECORDS = 500
N_EXACT_COPIES = 6
N_NEAR_COPIES = 14
SHIPPED = Path(__file__).parents[2] / "src" / "steelyard" / "studies" / "invoices"

SEGMENTS = ("pdf", "scan", "mail", "receipt", "credit-note", "multi-page", "reminder")

_START = datetime(2025, 3, 1)
_N_DAYS = 549
"""March 2025 to August 2026."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One document before it is written to a file."""

    text: str
    invoice: Invoice
    layout: Layout
    time: datetime
    is_scan: bool
    group: int
    """Records with the same number hold the same invoice."""
    copy: str = ""
    """`exact` or `near` for a document sent again."""
    wrong: str = ""
    """What is wrong about the label, if it is."""

    @property
    def expected(self) -> dict[str, Any]:
        """The label as shipped, right or wrong."""
        right = expected(self.invoice, self.layout.hidden)
        return _MISTAKES[self.wrong](right, self.invoice) if self.wrong else right

    @property
    def segment(self) -> str:
        """What makes the document hard, first match."""
        if self.is_scan:
            return "scan"
        if self.layout.name == "pdf-pages":
            return "multi-page"
        if self.invoice.kind in ("credit_note", "reminder"):
            return self.invoice.kind.replace("_", "-")
        return self.layout.form


def build(seed: int = SEED) -> list[Record]:
    """Make all records, in order of time."""
    rng = Random(seed)
    drafter = Drafter(rng=rng)
    n_first = N_RECORDS - N_EXACT_COPIES - N_NEAR_COPIES
    weights = [rng.uniform(0.4, 2.2) for _ in vendors()]
    moments = sorted(_moment(rng) for _ in range(n_first))
    records = []
    for index, when in enumerate(moments):
        vendor = rng.choices(vendors(), weights=weights)[0]
        invoice, layout, text = drafter.draft(vendor, when)
        progress = (when - _START).days / _N_DAYS
        # Paper grows rarer.
        is_scan = layout.form != "mail" and rng.random() < 0.42 - 0.16 * progress
        if is_scan:
            text = scanned(text, vendor.name, invoice.style.thousands, rng)
        records.append(Record(text=text, invoice=invoice, layout=layout, time=when, is_scan=is_scan, group=index))
    records = _mislabelled(records, rng)
    records += _copies(records, rng)
    return sorted(records, key=lambda record: (record.time, record.group, record.copy))


def render(records: Sequence[Record]) -> dict[str, str]:
    """Return the content of each shipped file by its name."""
    rows = [
        {
            "id": f"inv-{number:03}",
            "input": {"text": record.text},
            "expected": record.expected,
            "meta": {
                "time": f"{record.time:%Y-%m-%dT%H:%M:%SZ}",
                "segment": record.segment,
                "cluster": record.invoice.vendor.slug,
                "language": record.invoice.vendor.language,
                "country": record.invoice.vendor.country,
                "layout": record.layout.name,
            },
        }
        for number, record in enumerate(records, start=1)
    ]
    return {
        "cases.jsonl": "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows),
        "schema.json": json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n",
        "README.md": _readme(records),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files into the folder given, or into the package."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    folder = Path(given[0]) if given else SHIPPED
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in render(build()).items():
        (folder / name).write_text(content, encoding="utf-8", newline="\n")
    return 0


def counts(records: Sequence[Record]) -> Mapping[str, int]:
    """How many records show each kind of mess, in the order of the README."""
    invoices = [record.invoice for record in records]
    return {
        "scanned": sum(record.is_scan for record in records),
        "credit": sum(invoice.kind == "credit_note" for invoice in invoices),
        "reminder": sum(invoice.kind == "reminder" for invoice in invoices),
        "proforma": sum(invoice.kind == "proforma" for invoice in invoices),
        "receipt": sum(invoice.kind == "receipt" for invoice in invoices),
        "pages": sum(record.layout.name == "pdf-pages" for record in records),
        "earlier": sum(invoice.earlier is not None for invoice in invoices),
        "discount": sum(bool(invoice.discount) or any(i.discount for i in invoice.items) for invoice in invoices),
        "shipping": sum(bool(invoice.shipping) for invoice in invoices),
        "rates": sum(len(invoice.taxes) > 1 for invoice in invoices),
        "reverse": sum(invoice.tax_note == "reverse" for invoice in invoices),
        "exempt": sum(invoice.tax_note == "exempt" for invoice in invoices),
        "rounding": sum(bool(invoice.rounding) for invoice in invoices),
        "deposit": sum(bool(invoice.deposit) for invoice in invoices),
        "no_number": sum(invoice.number is None for invoice in invoices),
        "no_date": sum(invoice.day is None for invoice in invoices),
        "no_due": sum(invoice.due is None for invoice in invoices),
        "terms_only": sum(invoice.due is None and invoice.terms is not None for invoice in invoices),
        "no_subtotal": sum(not invoice.prints_subtotal for invoice in invoices),
        "no_tax": sum(not invoice.prints_tax for invoice in invoices),
        "conflict_rows": sum(invoice.conflict == "rows" for invoice in invoices),
        "conflict_total": sum(invoice.conflict == "total" for invoice in invoices),
        "exact": sum(record.copy == "exact" for record in records),
        "near": sum(record.copy == "near" for record in records),
        "wrong": sum(bool(record.wrong) for record in records),
    }


# --- private ----------------------------------------------------------------------------------------------------


def _moment(rng: Random) -> datetime:
    days = [_START + timedelta(days=k) for k in range(_N_DAYS)]
    day = rng.choices(days, weights=[0.15 if day.weekday() > 4 else 1.0 for day in days])[0]
    return day + timedelta(hours=rng.randrange(7, 19), minutes=rng.randrange(60), seconds=rng.randrange(60))


def _copies(records: Sequence[Record], rng: Random) -> list[Record]:
    """Some documents come twice: to the letter within days, or as a marked copy, scanned anew, weeks later."""
    limit = _START + timedelta(days=_N_DAYS - 30)
    able = [record for record in records if record.time < limit and not record.wrong]
    chosen = rng.sample(able, N_EXACT_COPIES + N_NEAR_COPIES)
    copies = [
        replace(record, copy="exact", time=record.time + timedelta(minutes=rng.randrange(3, 4000)))
        for record in chosen[:N_EXACT_COPIES]
    ]
    for record in chosen[N_EXACT_COPIES:]:
        style = record.invoice.style
        text = f"{style.words['copy']}\n{record.text}"
        if record.is_scan:
            text = scanned(text, record.invoice.vendor.name, style.thousands, rng)
        later = timedelta(days=rng.randrange(8, 29), minutes=rng.randrange(600))
        copies.append(replace(record, copy="near", text=text, time=record.time + later))
    return copies


def _mislabelled(records: Sequence[Record], rng: Random) -> list[Record]:
    """Give a few records the label of somebody in a hurry, one for each kind of mistake."""
    done = list(records)
    for mistake, change in _MISTAKES.items():
        able = [
            index
            for index, record in enumerate(done)
            if not record.wrong
            and len(record.invoice.items) > 1
            and change(dict(record.expected), record.invoice) != record.expected
        ]
        index = rng.choice(able)
        done[index] = replace(done[index], wrong=mistake)
    return done


def _swapped_date(label: dict[str, Any], invoice: Invoice) -> dict[str, Any]:
    if invoice.day is None or invoice.day.day > 12:
        return label
    return {**label, "invoice_date": f"{invoice.day.year}-{invoice.day.day:02}-{invoice.day.month:02}"}


def _delivery_date(label: dict[str, Any], invoice: Invoice) -> dict[str, Any]:
    # Only where the document prints the date of delivery at all; see `Page.facts`.
    is_printed = invoice.kind == "invoice" and invoice.serial & 4 and invoice.day is not None
    return {**label, "invoice_date": invoice.delivered.isoformat()} if is_printed else label


def _net_as_total(label: dict[str, Any], invoice: Invoice) -> dict[str, Any]:
    return {**label, "total": label["subtotal"]} if label["subtotal"] else label


def _row_left_out(label: dict[str, Any], invoice: Invoice) -> dict[str, Any]:
    return {**label, "line_items": label["line_items"][:-1]}


def _order_number(label: dict[str, Any], invoice: Invoice) -> dict[str, Any]:
    is_printed = invoice.kind == "invoice" and invoice.serial & 2 and invoice.number is not None
    return {**label, "invoice_number": invoice.order_number} if is_printed else label


def _sign_forgotten(label: dict[str, Any], invoice: Invoice) -> dict[str, Any]:
    return {**label, "total": -label["total"]} if invoice.kind == "credit_note" else label


_MISTAKES = {
    "day and month changed places": _swapped_date,
    "date of delivery as date of the invoice": _delivery_date,
    "net sum as total": _net_as_total,
    "last row left out": _row_left_out,
    "order number as invoice number": _order_number,
    "credit note's total without its sign": _sign_forgotten,
}


def _readme(records: Sequence[Record]) -> str:
    """Fill the counts into the README, so that it cannot claim what the data does not hold."""
    lengths = [len(record.text) for record in records]
    segments = Counter(record.segment for record in records)
    languages = Counter(record.invoice.vendor.language for record in records)
    currencies = Counter(record.invoice.vendor.currency for record in records)
    facts: dict[str, object] = {
        "n": len(records),
        "seed": SEED,
        "layouts": len({record.layout.name for record in records}),
        "vendors": len({record.invoice.vendor.slug for record in records}),
        "segments": ", ".join(f"{name} {segments[name]}" for name in SEGMENTS),
        "languages": ", ".join(f"{name} {languages[name]}" for name in LANGUAGES),
        "currencies": ", ".join(f"{name} {n}" for name, n in currencies.most_common()),
        "median_chars": round(median(lengths)),
        "min_chars": min(lengths),
        "max_chars": max(lengths),
        "usual_chars": sum(300 <= length <= 1400 for length in lengths),
        "longer_chars": sum(length > 1400 for length in lengths),
        "max_items": max(len(record.invoice.items) for record in records),
        **counts(records),
    }
    return Template((Path(__file__).parent / "readme_template.md").read_text(encoding="utf-8")).substitute(facts)


if __name__ == "__main__":
    raise SystemExit(main())

"""The invoice data is what its README says, can be read by a careful person, and can be made again to the byte."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import jsonschema_rs
import pytest
from studies.invoices.draft import LAYOUTS
from studies.invoices.generate import SEGMENTS, SHIPPED, Record, build, counts, main
from studies.invoices.material import LANGUAGES, TAX_RATES, vendors, words
from studies.invoices.scan import readable, scanned

from steelyard.cases.audit import audit
from steelyard.cases.read import read_cases
from steelyard.cases.spec import CasesSpec, SplitSpec
from steelyard.cases.split import split_cases
from steelyard.task.resolve import resolve_task
from steelyard.task.spec import TaskSpec

ROOT = Path(__file__).parents[2]
FILES = ["README.md", "cases.jsonl", "schema.json"]
FIELDS = [
    "vendor", "invoice_number", "invoice_date", "due_date", "currency", "subtotal", "tax", "total", "line_items",
]  # fmt: skip

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return build()


@pytest.fixture(scope="module")
def rows() -> Rows:
    return [json.loads(line) for line in (SHIPPED / "cases.jsonl").read_text(encoding="utf-8").splitlines()]


def right(records: list[Record]) -> list[Record]:
    """Records whose label is not wrong on purpose."""
    return [record for record in records if not record.wrong]


# ---- the files -------------------------------------------------------------------------------------------------------


def test_generating_again_gives_the_shipped_bytes(tmp_path: Path) -> None:
    """A fresh process with another hash seed writes exactly the files that are shipped."""
    environment = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "studies.invoices.generate", str(tmp_path / "new")]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "new" / name).read_bytes() == (SHIPPED / name).read_bytes(), name


def test_the_package_folder_is_where_files_go_by_default() -> None:
    assert callable(main)
    assert ROOT / "src" / "steelyard" / "studies" / "invoices" == SHIPPED


def test_another_seed_gives_other_invoices(records: list[Record]) -> None:
    """The seed matters, and another one works too."""
    other = build(seed=7)
    assert len(other) == len(records)
    assert not {record.text for record in other} & {record.text for record in records}


def test_there_are_500_rows_of_one_shape(rows: Rows) -> None:
    """Every row has the same keys in the same order, ids count up, and the file stays small."""
    assert [row["id"] for row in rows] == [f"inv-{number:03}" for number in range(1, 501)]
    for row in rows:
        assert list(row) == ["id", "input", "expected", "meta"]
        assert list(row["input"]) == ["text"]
        assert list(row["expected"]) == FIELDS
        assert list(row["meta"]) == ["time", "segment", "cluster", "language", "country", "layout"]
    assert (SHIPPED / "cases.jsonl").stat().st_size < 1_500_000


def test_every_expected_output_satisfies_the_schema(rows: Rows) -> None:
    """Labels that are wrong on purpose too, as far as a schema can tell; one field less or more is refused."""
    schema = json.loads((SHIPPED / "schema.json").read_text(encoding="utf-8"))
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.validator_for(schema)
    for row in rows:
        validator.validate(row["expected"])
        assert re.fullmatch("[A-Z]{3}", row["expected"]["currency"])
        for name in ("invoice_date", "due_date"):
            if row["expected"][name] is not None:
                date.fromisoformat(row["expected"][name])
    good = rows[0]["expected"]
    assert not validator.is_valid({key: value for key, value in good.items() if key != "tax"})
    assert not validator.is_valid({**good, "iban": "x"})
    assert not validator.is_valid({**good, "invoice_date": "05.03.2026"})
    assert not validator.is_valid({**good, "total": None})


def test_the_program_reads_and_splits_the_cases() -> None:
    """Read as a study would, a vendor's documents all lie on one side of the split."""
    resolve_task(TaskSpec(input=["text"], expected=FIELDS, output_schema="schema.json"), SHIPPED)
    spec = CasesSpec(file="cases.jsonl", segment="segment", cluster="cluster")
    cases = read_cases(SHIPPED / "cases.jsonl", spec, input_fields=["text"], expected_fields=FIELDS)
    assert len(cases) == 500
    assert all(case.time and case.segment and case.cluster and case.expected for case in cases)
    groups = audit(cases, validate_expected=lambda expected: None).groups
    splits = split_cases(cases, SplitSpec(), groups=groups)
    sides = [{case.cluster for case in side} for side in (splits.train, splits.dev, splits.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert 80 <= len(splits.test) <= 120


# ---- variety ---------------------------------------------------------------------------------------------------------


def test_there_is_variety(rows: Rows) -> None:
    """Layouts, languages, currencies, vendors and segments, none of them a token presence."""
    layouts = Counter(row["meta"]["layout"] for row in rows)
    assert set(layouts) == {layout.name for layout in LAYOUTS}
    assert len(layouts) >= 25
    assert min(layouts.values()) >= 4
    assert max(layouts.values()) <= 50
    languages = Counter(row["meta"]["language"] for row in rows)
    assert set(languages) == set(LANGUAGES)
    assert min(languages.values()) >= 20
    assert {row["expected"]["currency"] for row in rows} == {
        "EUR", "USD", "GBP", "CHF", "PLN", "SEK", "JPY", "CAD",
    }  # fmt: skip
    clusters = Counter(row["meta"]["cluster"] for row in rows)
    assert len(clusters) >= 95
    assert max(clusters.values()) <= 20
    segments = Counter(row["meta"]["segment"] for row in rows)
    assert set(segments) == set(SEGMENTS)
    assert min(segments.values()) >= 15
    assert len({row["meta"]["layout"] for row in rows if row["meta"]["language"] == "pl"}) >= 8


def test_texts_are_of_the_length_small_models_can_take(rows: Rows) -> None:
    """Most have 300 to 1,400 characters; a minority is longer, none is a book."""
    lengths = [len(row["input"]["text"]) for row in rows]
    assert sum(300 <= length <= 1400 for length in lengths) >= 0.85 * len(lengths)
    assert 0.03 <= sum(length > 1400 for length in lengths) / len(lengths) <= 0.12
    assert min(lengths) >= 100
    assert max(lengths) <= 5000


def test_times_run_over_eighteen_months_in_order(rows: Rows) -> None:
    """Documents arrive in order, in every month, never before they are issued."""
    times = [datetime.strptime(row["meta"]["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for row in rows]
    assert times == sorted(times)
    assert len({(time.year, time.month) for time in times}) == 18
    assert datetime(2025, 3, 1, tzinfo=UTC) <= times[0]
    assert times[-1] < datetime(2026, 9, 1, tzinfo=UTC)


def test_dates_of_an_invoice_are_in_order(records: list[Record]) -> None:
    """Issued before it is due and before it arrives; reminded of after it is due."""
    for record in records:
        invoice = record.invoice
        if invoice.day is not None:
            assert invoice.day <= record.time.date()
            assert invoice.due is None or invoice.day < invoice.due
            assert invoice.earlier is None or invoice.earlier.day < invoice.day
        if invoice.kind == "reminder":
            assert invoice.due is not None
            assert invoice.due < invoice.reminded < record.time.date()


def test_the_mess_is_as_much_as_the_readme_says(records: list[Record]) -> None:
    """Each kind of difficulty occurs, in the number the README claims."""
    n = counts(records)
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    claimed = [int(count) for count in re.findall(r"^\| [^|]+ \| (\d+) \|$", text, re.MULTILINE)]
    assert claimed == list(n.values())
    assert 80 <= n["scanned"] <= 160
    assert 6 <= n["conflict_rows"] <= 20
    assert 12 <= n["conflict_total"] <= 40
    for kind in ("credit", "reminder", "receipt", "pages", "earlier", "discount", "shipping", "rates", "reverse"):
        assert n[kind] >= 20, kind
    for kind in ("proforma", "exempt", "rounding", "deposit", "no_number", "no_date"):
        assert n[kind] >= 8, kind
    assert 0.4 <= n["no_due"] / len(records) <= 0.7
    assert n["terms_only"] >= 40
    assert n["no_subtotal"] >= 30
    assert n["no_tax"] >= 5
    assert (n["exact"], n["near"], n["wrong"]) == (6, 14, 6)


# ---- truth -----------------------------------------------------------------------------------------------------------


def test_sums_add_up_unless_they_are_meant_not_to(records: list[Record]) -> None:
    """Rows make the net sum, net sum and tax make the total, cent by cent; a stated conflict breaks just one of these."""
    for record in right(records):
        invoice = record.invoice
        rows_sum = sum((item.amount for item in invoice.items), Decimal(0))
        net = rows_sum + invoice.discount + invoice.shipping
        above_tax = invoice.subtotal + (invoice.tax if invoice.includes_tax else 0)
        assert (above_tax == net) == (invoice.conflict != "rows")
        assert (invoice.subtotal + invoice.tax + invoice.rounding == invoice.total) == (invoice.conflict != "total")
        assert sum((line.amount for line in invoice.taxes), Decimal(0)) == invoice.tax
        assert abs(invoice.rounding) <= Decimal("0.5")
        assert bool(invoice.taxes) != bool(invoice.tax_note)
        sign = -1 if invoice.kind == "credit_note" else 1
        assert invoice.total * sign > 0
        for item in invoice.items:
            assert item.amount * sign > 0
            if item.quantity is not None and item.unit_price is not None:
                exact = item.quantity * item.unit_price * (100 - item.discount) / 100 * sign
                assert abs(item.amount - exact) <= Decimal("0.5") if invoice.style.places == 0 else Decimal("0.005")
        rates = {Decimal(rate) for rate in TAX_RATES[invoice.vendor.country]}
        assert {line.rate for line in invoice.taxes} <= rates


def test_the_label_follows_from_the_facts(rows: Rows, records: list[Record]) -> None:
    """Shipped rows add up by themselves where no conflict, rounding or wrong label is in the way."""
    n_checked = 0
    for row, record in zip(rows, records, strict=True):
        given = row["expected"]
        if (
            record.wrong
            or record.invoice.conflict
            or record.invoice.rounding
            or None in (given["subtotal"], given["tax"])
        ):
            continue
        assert given["subtotal"] + given["tax"] == pytest.approx(given["total"], abs=1e-6), row["id"]
        n_checked += 1
    assert n_checked >= 330


def test_every_field_can_be_found_in_the_text(records: list[Record]) -> None:
    """Vendor, numbers, dates, amounts and descriptions stand in the text, once what scanners confuse is made alike."""
    for record in right(records):
        invoice, style = record.invoice, record.invoice.style
        text = readable(record.text)
        assert readable(invoice.vendor.name) in text, record.text
        if invoice.number is not None:
            assert readable(invoice.number) in text
        for day in (invoice.day, invoice.due):
            if day is not None:
                assert readable(style.date(day)) in text
        amounts = [invoice.total, *[item.amount for item in invoice.items]]
        amounts += [invoice.subtotal] if invoice.prints_subtotal else []
        amounts += [line.amount for line in invoice.taxes] if invoice.prints_tax else []
        for amount in amounts:
            assert readable(style.number(abs(amount))) in text
        for item in invoice.items:
            # A wrapped description goes on below the numbers of its row.
            parts = item.description.split() if record.layout.name == "pdf-wrapped" else [item.description]
            assert all(readable(part) in text for part in parts), (item.description, record.text)
            if item.unit_price is not None and "unit_price" not in record.layout.hidden:
                assert readable(style.number(item.unit_price)) in text
            if item.quantity is not None:
                assert readable(style.quantity(item.quantity)) in text


def test_clean_texts_hold_the_fields_to_the_letter(rows: Rows, records: list[Record]) -> None:
    """Without a scanner in between, vendor and number are there exactly, and the currency by code or sign."""
    signs = {"EUR": "€", "GBP": "£", "USD": "$", "JPY": "¥", "PLN": "zł", "SEK": "kr"}
    for row, record in zip(rows, records, strict=True):
        text, given = row["input"]["text"], row["expected"]
        assert given["currency"] in text or signs[given["currency"]] in text
        if record.wrong or record.is_scan:
            continue
        assert given["vendor"] in text
        assert given["invoice_number"] is None or given["invoice_number"] in text


def test_what_is_null_is_not_in_the_text(records: list[Record]) -> None:
    """A document without number or date does not give it away elsewhere."""
    for record in records:
        invoice = record.invoice
        facts = record.text
        if invoice.number is None:
            assert f"{invoice.style.words[invoice.label]} " not in facts
            assert f"{invoice.style.words[invoice.label]}:" not in facts
        if invoice.due is None:
            assert f"{invoice.style.words['due']}:" not in facts
        if not invoice.prints_subtotal:
            assert f"{invoice.style.words['net']} " not in facts


def test_a_scanner_never_makes_one_digit_another() -> None:
    """Whatever it does, what a careful reader compares by stays the same."""
    text = "Modem clamp 1.050,80 EUR\nInvoice 2025-00181   15.10.2025   1'234.55\nHammer Ltd, Elm Road"
    rng = Random(3)
    versions = {scanned(text, "Hammer Ltd", ".", rng) for _ in range(300)}
    assert len(versions) > 100
    assert {readable(version) for version in versions} == {readable(text)}


# ---- defects ---------------------------------------------------------------------------------------------------------


def test_texts_repeat_only_on_purpose(rows: Rows, records: list[Record]) -> None:
    """Apart from documents sent twice to the letter, no two texts are the same."""
    texts = [row["input"]["text"] for row in rows]
    assert len(set(texts)) >= 0.95 * len(texts)
    firsts = [record.text for record in records if record.copy != "exact"]
    assert len(set(firsts)) == len(firsts)


def test_copies_follow_their_original(records: list[Record]) -> None:
    """A copy comes later and has the same label; a marked one says so in its first line."""
    originals = {record.group: record for record in records if not record.copy}
    for record in records:
        if record.copy:
            original = originals[record.group]
            assert record.time > original.time
            assert record.expected == original.expected
            assert (record.text == original.text) == (record.copy == "exact")
            if record.copy == "near":
                assert readable(record.text).startswith(readable(record.invoice.style.words["copy"]))


def test_wrong_labels_are_wrong_in_one_field(records: list[Record]) -> None:
    """Six different mistakes, each of which a person could have made from the document."""
    wrong = [record for record in records if record.wrong]
    assert len({record.wrong for record in wrong}) == 6
    for record in wrong:
        right_label = Record(**{**_fields(record), "wrong": ""}).expected
        assert sum(record.expected[name] != right_label[name] for name in FIELDS) == 1


def _fields(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def test_nothing_points_at_a_real_company(rows: Rows) -> None:
    """Web addresses end in .example, tax numbers begin with zeros, accounts have check digits that do not exist."""
    for row in rows:
        text = row["input"]["text"]
        for domain in re.findall(r"@([\w.-]+)", text):
            assert readable(domain).endswith(readable("example")), domain
        for check in re.findall(r"\b[A-Z]{2}(\d\d) \d{4} \d{4}", text):
            assert check == "00", text


def test_no_slot_is_left_open(rows: Rows) -> None:
    """The generator's own marks never reach a text."""
    assert not [row["id"] for row in rows if re.search(r"[{}\f]|None", row["input"]["text"])]


def test_the_material_is_complete() -> None:
    """All languages know the same words; vendors have names and slugs of their own."""
    assert all(set(words(language)) == set(words("en")) for language in LANGUAGES)
    assert all(len(words(language)["months"][0].split()) == 12 for language in LANGUAGES)
    assert len({vendor.slug for vendor in vendors()}) == len({vendor.name for vendor in vendors()}) == len(vendors())

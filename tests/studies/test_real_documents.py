"""Real receipts and invoices become studies with scoring by field; what counts as right there, without any model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import steelyard
from steelyard.study.init import init_study
from steelyard.study.study import Study
from steelyard.task.scorers import Scored, score_output
from tests.cli.tickets import serving
from tests.cli.tickets import steelyard as command_line

pytestmark = pytest.mark.realdata

RECEIPT_FIELDS = ["company", "date", "address", "total"]
RECEIPT_SCORING = {
    "company": "normalised",
    "date": {"kind": "date", "day_first": True},
    "address": "normalised",
    "total": {"kind": "money", "tolerance": 0.005},
}
INVOICE_FIELDS = ["issuer", "invoice_number", "date", "amount", "currency"]
INVOICE_SCORING = {
    "issuer": "normalised",
    "invoice_number": "normalised",
    "date": "date",
    "amount": {"kind": "money", "tolerance": 0.005},
    "currency": "exact",
}
UNREADABLE_DATES = {"sroie-152", "sroie-381"}
"""Labelled `25032018` and `(06/12/2016)`: no rule for dates has to read these."""


def new_study(folder: Path, cases: Path, fields: list[str], scoring: Mapping[str, Any], **cases_spec: str) -> Study:
    """What `init` writes, with scoring by field in place of one scorer."""
    init_study(folder, cases=cases, inputs=["text"], expected=fields)
    path = folder / "study.yaml"
    body = yaml.safe_load(path.read_text("utf-8"))
    del body["task"]["scorer"]
    body["task"] |= {"scoring": dict(scoring), "success_threshold": 1.0}
    body["cases"] = {"file": cases.name, **cases_spec}
    path.write_text(yaml.safe_dump(body, sort_keys=False), "utf-8")
    return steelyard.load(folder)


@pytest.fixture(scope="module")
def data() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real datasets is not here")
    return folder


@pytest.fixture(scope="module")
def receipts(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("receipts") / "study"
    cases = data / "sroie" / "receipts.jsonl"
    return new_study(folder, cases, RECEIPT_FIELDS, RECEIPT_SCORING, split_column="split_by_company")


def scored(study: Study, case_id: str, **changed: object) -> Scored:
    """The expected output of a case with something else in some fields."""
    case = next(one for one in study.material.cases if one.id == case_id)
    return score_output({**(case.expected or {}), **changed}, case.expected, study.task)


def verdicts(found: Scored) -> dict[str, str]:
    return {name: one.verdict for name, one in found.fields.items() if one.verdict != "right"}


# ---- receipts --------------------------------------------------------------------------------------------------------


def test_receipts_pass_check_and_no_company_is_on_both_sides(receipts: Study) -> None:
    """All 626 receipts are read, and the split they come with is kept."""
    found = receipts.check()
    assert found.n_cases == 626
    assert found.n_by_split["test"] == 199
    splits = receipts.material.splits
    learnt = {str((case.expected or {})["company"]) for case in (*splits.train, *splits.dev)}
    assert not learnt & {str((case.expected or {})["company"]) for case in splits.test}


def test_the_expected_output_is_right_in_every_field(receipts: Study) -> None:
    """Whoever gives exactly what the label says scores 1; null labels included."""
    wrong = {
        case.id: verdicts(found)
        for case in receipts.material.cases
        if (found := score_output(case.expected, case.expected, receipts.task)).score != 1.0
    }
    assert set(wrong) <= UNREADABLE_DATES
    assert all(set(fields) == {"date"} for fields in wrong.values())


@pytest.mark.parametrize(
    "changed",
    [
        {"total": "RM 9.00"},
        {"total": "RM9.00"},
        {"total": 9},
        {"total": 9.0},
        {"total": "9"},
        {"total": "$9.00"},
        {"total": "9,00"},
        {"date": "2018-12-25"},
        {"date": "25 Dec 2018"},
        {"date": "25-12-18"},
        {"date": "25.12.2018"},
        {"company": "Book Ta .K (Taman Daya) Sdn Bhd"},
        {"company": "BOOK TA.K (TAMAN DAYA) SDN. BHD."},
        {"address": "No. 53 55, 57 & 59, Jalan Sagu 18, Taman Daya, 81100 Johor Bahru, Johor"},
    ],
)
def test_another_way_to_write_the_same_is_right(receipts: Study, changed: dict[str, object]) -> None:
    """Currency signs, number and date formats, case and punctuation cost nothing."""
    assert scored(receipts, "sroie-000", **changed).score == 1.0


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"total": "9.10"}, {"total": "wrong"}),
        ({"total": "10.00"}, {"total": "wrong"}),
        ({"total": "9.00 or 10.00"}, {"total": "wrong"}),
        ({"total": None}, {"total": "missing"}),
        ({"total": ""}, {"total": "missing"}),
        ({"date": "2018-12-26"}, {"date": "wrong"}),
        ({"date": "12/2018"}, {"date": "wrong"}),
        ({"company": "TAN WOON YANN"}, {"company": "wrong"}),
        ({"company": "BOOK TA .K (TAMAN DAYA) SDN BND"}, {"company": "wrong"}),
        ({"address": "JOHOR", "total": None}, {"address": "wrong", "total": "missing"}),
    ],
)
def test_another_value_is_not(receipts: Study, changed: dict[str, object], verdict: dict[str, str]) -> None:
    """A near miss is a miss, named for what it is; the other fields still count."""
    found = scored(receipts, "sroie-000", **changed)
    assert verdicts(found) == verdict
    assert found.score == 1 - len(verdict) / len(RECEIPT_FIELDS)


def test_days_come_before_months(receipts: Study) -> None:
    """03/05/2018 is the third of May on these receipts, in an answer as in a label."""
    case_id = next(one.id for one in receipts.material.cases if (one.expected or {}).get("date") == "03/05/2018")
    assert scored(receipts, case_id, date="2018-05-03").score == 1.0
    assert verdicts(scored(receipts, case_id, date="2018-03-05")) == {"date": "wrong"}


def test_a_null_label_asks_for_nothing(receipts: Study) -> None:
    """Where the label says null, nothing is right and a value is invented; it is neither a crash nor unscored."""
    without = [one.id for one in receipts.material.cases if None in (one.expected or {}).values()]
    assert without == ["sroie-033", "sroie-104"]
    assert scored(receipts, "sroie-033").score == 1.0
    assert scored(receipts, "sroie-033", total="").score == 1.0
    assert verdicts(scored(receipts, "sroie-033", total="12.00")) == {"total": "invented"}


def test_no_answer_misses_every_field(receipts: Study) -> None:
    """An approach that gives up on a receipt has it wrong, field by field."""
    case = receipts.material.cases[0]
    found = score_output(None, case.expected, receipts.task)
    assert found.score == 0.0
    assert set(found.fields) == set(RECEIPT_FIELDS)


def test_from_receipts_to_a_table_of_fields(data: Path, tmp_path: Path) -> None:
    """init, check, run on a stub model, score and report: field figures arrive in all of them."""
    first = (data / "sroie" / "receipts.jsonl").read_text("utf-8").partition("\n")[0]
    answer = {**json.loads(first)["expected"], "date": None}
    folder = tmp_path / "study"
    new_study(folder, data / "sroie" / "receipts.jsonl", RECEIPT_FIELDS, RECEIPT_SCORING)
    with serving(reply=json.dumps(answer)) as stub:
        body = yaml.safe_load((folder / "study.yaml").read_text("utf-8"))
        body["models"] = {"endpoints": {"stub": {"base_url": stub.url, "model": "m"}}}
        body["approaches"] = {"prompted": {"model": "stub"}}
        (folder / "study.yaml").write_text(yaml.safe_dump(body, sort_keys=False), "utf-8")
        ran = command_line("run", folder, "--limit", "12", "--quiet")
    assert ran.code == 0, ran.err
    fields = {row["field"]: row for row in command_line("score", folder, "--json").json["fields"]}
    assert list(fields) == RECEIPT_FIELDS
    assert fields["date"]["missing"] == fields["date"]["n"] == 12
    assert fields["company"]["wrong"] >= 10
    report = command_line("report", folder, "--format", "json", "-o", "-").json
    assert report["fields"] == list(fields.values())
    assert report["worst_cases"][0]["answers"][0]["fields"]["date"]["verdict"] == "missing"
    assert "Field by field" in command_line("report", folder, "--format", "md", "-o", "-").out


# ---- invoices --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def invoices(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Twelve invoices in several languages and currencies; only the approaches that need no labelled examples."""
    folder = tmp_path_factory.mktemp("invoices") / "study"
    study = new_study(folder, data / "invoice2data" / "invoices.jsonl", INVOICE_FIELDS, INVOICE_SCORING)
    path = folder / "study.yaml"
    body = yaml.safe_load(path.read_text("utf-8"))
    body["approaches"] = {
        "one-prompt": None,
        "repair": {
            "prompt": {"enforce_schema": True},
            "workflow": {"repair": 1, "checks": ["amount > 0"]},
        },
    }
    path.write_text(yaml.safe_dump(body, sort_keys=False), "utf-8")
    return steelyard.load(study.folder)


def test_invoices_pass_check(invoices: Study) -> None:
    """Twelve documents are enough to look at, and say so by their intervals later."""
    assert invoices.check().n_cases == 12


def test_expected_invoices_are_right(invoices: Study) -> None:
    """All that have every field score 1; the one whose amount nobody knows is unscored, not wrong."""
    scores = {case.id: score_output(case.expected, case.expected, invoices.task) for case in invoices.material.cases}
    unscored = {case_id: one.unscored_because for case_id, one in scores.items() if one.score is None}
    assert unscored == {"inv-SammyMaystoneLinesTest": "no expected output for 'amount'"}
    assert {one.score for one in scores.values() if one.score is not None} == {1.0}


@pytest.mark.parametrize(
    ("case_id", "changed", "verdict"),
    [
        ("inv-AmazonWebServices", {"date": "August 3 , 2014", "amount": "$4.11"}, {}),
        ("inv-coolblue2", {"amount": "€ 4.904,94", "date": "29-03-2014"}, {}),
        ("inv-coolblue2", {"amount": "4,904.94"}, {}),
        ("inv-coolblue2", {"amount": 4904.9}, {"amount": "wrong"}),
        ("inv-oyo", {"amount": "Rs 1,939"}, {}),
        ("inv-QualityHosting", {"amount": "34,73", "date": "07.05.2014"}, {}),
        ("inv-free_fiber", {"currency": "eur"}, {"currency": "wrong"}),
        ("inv-Orlen", {"issuer": "POLSKI KONCERN NAFTOWY ORLEN SPÓŁKA AKCYJNA"}, {}),
    ],
)
def test_real_ways_to_write_an_invoice(
    invoices: Study, case_id: str, changed: dict[str, object], verdict: dict[str, str]
) -> None:
    """As the documents print it: right where only the form differs."""
    assert verdicts(scored(invoices, case_id, **changed)) == verdict

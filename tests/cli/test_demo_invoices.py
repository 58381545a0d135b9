"""`steelyard demo invoices` without its model: the study checks, says what it would ask, and runs to a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import steelyard as library
from steelyard.studies import copy_study
from tests.cli.tickets import serving, steelyard

LADDER = ["one-prompt", "schema", "repair", "split"]
FIELDS = [
    "vendor", "invoice_number", "invoice_date", "due_date", "currency", "subtotal", "tax", "total", "line_items",
]  # fmt: skip
INVOICE = {
    "vendor": "Pumpen GmbH", "invoice_number": "RE-1", "invoice_date": "2025-02-24", "due_date": None,
    "currency": "EUR", "subtotal": 72.0, "tax": 13.68, "total": 85.68,
    "line_items": [{"description": "Dichtring", "quantity": 100, "unit_price": 0.72, "amount": 72.0}],
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `demo invoices` copies it."""
    folder = tmp_path_factory.mktemp("demo") / "invoices"
    copy_study("invoices", folder)
    return folder


def test_the_study_is_the_ladder_of_prompt_and_workflow(study: Path) -> None:
    """Four approaches from one prompt to a split, all scored field by field."""
    file = library.load(study).file
    assert list(file.approaches) == LADDER
    assert [*map(str, (lever for spec in file.approaches.values() for lever in spec.levers))] == [
        "prompt", "prompt", "workflow", "workflow",
    ]  # fmt: skip
    assert list(file.task.scoring or {}) == FIELDS


def test_check_compiles_it_and_finds_no_error(study: Path) -> None:
    """500 documents, divided without leakage, and every rule, step and template is sound."""
    ran = steelyard("check", study, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["n_cases"] == 500
    assert sum(ran.json["n_by_split"].values()) == 500


def test_a_dry_run_counts_the_calls_of_each_approach(study: Path) -> None:
    """One first call a document, for the split at least one; nothing is sent and no model is fetched."""
    ran = steelyard("run", study, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    estimates = {one["name"]: one for one in ran.json["approaches"]}
    assert list(estimates) == LADDER
    calls = {name: one["first_calls"] / one["cases"] for name, one in estimates.items()}
    assert {name: n for name, n in calls.items() if name != "split"} == {"one-prompt": 1, "schema": 1, "repair": 1}
    assert calls["split"] == 3
    assert {one["cases"] for one in estimates.values()} == {24}


def test_the_demo_runs_to_a_report_on_another_model(tmp_path: Path) -> None:
    """A folder that holds the study is gone on with: fields, steps and the verdict arrive in one JSON."""
    folder = tmp_path / "demo"
    copy_study("invoices", folder)
    body = yaml.safe_load((folder / "study.yaml").read_text("utf-8"))
    body["run"] = {"limit": 6}
    # One answer for all parts of the split: a part must not mind the fields of the others.
    schema = json.loads((folder / "schema.json").read_text("utf-8"))
    del schema["additionalProperties"]
    (folder / "schema.json").write_text(json.dumps(schema), "utf-8")
    with serving(reply=json.dumps(INVOICE), prompt_tokens=300, cached_tokens=120) as stub:
        body["models"] = {"endpoints": {"stub": {"base_url": stub.url, "model": "m"}}}
        for spec in body["approaches"]:
            body["approaches"][spec] = {**(body["approaches"][spec] or {}), "model": "stub"}
        (folder / "study.yaml").write_text(yaml.safe_dump(body, sort_keys=False), "utf-8")
        ran = steelyard("demo", "invoices", "--dir", folder, "--quiet", "--json")
    assert ran.code == 0, ran.err
    scores = ran.json["scorecards"]
    assert [card["name"] for card in scores["approaches"]] == LADDER
    cached = {card["name"]: card["cached_tokens_per_task"]["value"] for card in scores["approaches"]}
    assert cached == {"one-prompt": 120, "schema": 120, "repair": 120, "split": 360}
    assert list(dict.fromkeys(row["field"] for row in scores["fields"])) == FIELDS
    page = Path(ran.json["report"]).read_text("utf-8")
    for said in ("Field by field", "Cached prompt tokens", "Pumpen GmbH", "head: answered", "rows: answered"):
        assert said in page

"""The published schema of `decide --json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

import steelyard
from steelyard.decision.schema import verdict_schema_text
from steelyard.decision.spec import GoalSpec
from steelyard.economics.spec import MoneySpec
from tests.cli.tickets import serving, write_study
from tests.cli.tickets import steelyard as command_line
from tests.decision.test_verdict import study, weigh
from tests.measure.rows import row

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(verdict_schema_text())
    return found


def problems(schema: dict[str, Any], verdict: object) -> list[str]:
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    plain = json.loads(json.dumps(verdict, allow_nan=False))
    return [f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(plain)]


def test_it_is_published_and_printed() -> None:
    """The package's file, the one in docs and what `decide --schema` prints are the same bytes."""
    text = verdict_schema_text()
    assert (DOCS / "verdict.schema.json").read_text(encoding="utf-8") == text
    assert command_line("decide", "--schema").out == text


def objects(part: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        if part.get("type") == "object" or ("properties" in part and "additionalProperties" in part):
            yield path, part
        for key, inner in part.items():
            yield from objects(inner, f"{path}/{key}")
    elif isinstance(part, list):
        for inner in part:
            yield from objects(inner, path)


def test_nothing_unsaid_is_allowed_and_everything_is_described(schema: dict[str, Any]) -> None:
    jsonschema_rs.meta.validate(schema)
    for path, one in objects(schema):
        assert "additionalProperties" in one, path
        if "properties" in one:
            assert one["additionalProperties"] is False, path
            for name, inner in one["properties"].items():
                assert "description" in inner or "$ref" in inner, f"{path}/{name}"


def test_verdicts_of_every_kind_fit(schema: dict[str, Any]) -> None:
    """Chosen, open, nothing useful, nothing known, a goal that was missed, one approach alone."""
    verdicts = [
        weigh(study({"zero-shot": 0.55, "workflow": 0.95, "tuned": 0.9, "nearest": 0.9}), baseline="nearest"),
        weigh(study({"zero-shot": 0.9, "retrieval": 0.92}, n=60), money=MoneySpec(failed_task_usd=20)),
        weigh(study({"zero-shot": 0.1, "workflow": 0.2})),
        weigh([row("zero-shot", i, None) for i in range(20)]),
        weigh([row("zero-shot", i, 1, cost_usd=None) for i in range(20)]),
        weigh(study({"zero-shot": 0.9})),
        weigh(study({"zero-shot": 0.6, "tuned": 0.93}), goal=GoalSpec(min_success=0.9)),
    ]
    for verdict in verdicts:
        assert problems(schema, verdict.to_json()) == []


def test_a_study_and_an_imported_file_fit(schema: dict[str, Any], tmp_path: Path) -> None:
    with serving(reply="billing") as billing:
        write_study(
            tmp_path / "study", billing.url, approaches=["a: {model: stub}", "b: {prompt: {examples: 2}, model: stub}"]
        )
        steelyard.load(tmp_path / "study").run(progress=False)
    assert problems(schema, command_line("decide", tmp_path / "study", "--json").json) == []
    assert problems(schema, steelyard.load(tmp_path / "study").recheck().verdict.to_json()) == []
    file = tmp_path / "results.csv"
    lines = ["approach,case_id,success,cost_usd"] + [
        f"{name},c{i},{int(i % 3 > 0)},0.01" for name in "ab" for i in range(30)
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert problems(schema, command_line("decide", "--outcomes", file, "--json").json) == []


@pytest.mark.realdata
def test_published_results_fit(schema: dict[str, Any], shared_data: Path) -> None:
    """Every table of per-case results gives a verdict of the published shape, known costs or not."""
    files = sorted(shared_data.glob("results_*/results.csv"))
    assert files
    for file in files:
        done = command_line("decide", "--outcomes", file, "--json")
        assert done.code == 0, done.err
        assert problems(schema, done.json) == [], file
        assert done.json["sentence"]


def test_what_is_wrong_is_refused(schema: dict[str, Any]) -> None:
    """An unknown key, a figure without provenance, an open gate without evidence that would settle it."""
    good = weigh(study({"zero-shot": 0.55, "workflow": 0.95})).to_json()
    assert problems(schema, good | {"more": 1})
    assert problems(schema, good | {"p_best": {"value": 1.0, "low": None, "high": None}})
    assert problems(schema, good | {"gates": [{**gate, "cheapest_evidence": None} for gate in good["gates"]]})
    assert problems(schema, good | {"p_best": {"value": None, "low": None, "high": None, "provenance": "measured"}})

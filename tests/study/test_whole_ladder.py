"""The whole ladder on the real embedded model, small enough for every run of the test suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import steelyard
from steelyard.approaches.tuning.base_model import load_base
from steelyard.studies import copy_study
from steelyard.study.study import Study
from steelyard.study.tuning import tune_approach

LIMIT = 6
LORA = "tuned-lora: {tuning: {method: lora, max_examples: 1200}}"
SMALL_LORA = "tuned-lora: {tuning: {method: lora, max_examples: 96, layers: 4, guard: 12}}"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("triage")
    copy_study("triage", folder)
    path = folder / "study.yaml"
    text = path.read_text()
    assert LORA in text
    path.write_text(text.replace(LORA, SMALL_LORA))
    study = steelyard.load(folder)
    study.run(limit=LIMIT, progress=False)
    return study


@pytest.mark.model
def test_every_rung_is_measured_on_the_same_cases(study: Study) -> None:
    """Seven approaches, the same cases, nothing missing from any denominator."""
    cards = study.score().scorecards
    assert [card.name for card in cards] == list(study.file.approaches)
    assert {card.n for card in cards} == {LIMIT}
    by_name = {card.name: card for card in cards}
    assert by_name["nearest"].prompt_tokens_per_task.value == 0
    assert (by_name["workflow"].schema_pass.value or 0) > (by_name["zero-shot"].schema_pass.value or 0)
    tuned, few = by_name["tuned-lora"].prompt_tokens_per_task.value, by_name["few-shot"].prompt_tokens_per_task.value
    assert tuned is not None
    assert few is not None
    assert tuned < few / 5
    assert all(card.cost_per_task_usd.value is not None for card in cards)


@pytest.mark.model
def test_a_second_run_prepares_and_pays_nothing(study: Study) -> None:
    """Same data and settings: no retraining, no call, no new outcome."""
    before = sorted(path.name for path in (study.folder / ".steelyard" / "prepared").iterdir())
    result = steelyard.load(study.folder).run(limit=LIMIT, progress=False)
    assert result.summary.n_outcomes == 0
    assert result.summary.spent_usd == 0
    assert sorted(path.name for path in (study.folder / ".steelyard" / "prepared").iterdir()) == before


@pytest.mark.model
def test_the_lora_is_measured_where_it_was_trained_and_as_it_is_served(study: Study) -> None:
    """The report shows both rates on the same validation cases; a wrong export would part them."""
    report = json.loads(study.render_report("json"))
    row = next(row for row in report["setup"] if row["approach"] == "tuned-lora")
    parity = row["parity"]
    assert parity["n"] >= 5
    for rate in (parity["in_training_library"], parity["as_served"]):
        assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
    assert abs(parity["in_training_library"]["value"] - parity["as_served"]["value"]) <= 2 / parity["n"]


@pytest.mark.model
def test_tune_finds_what_the_run_has_trained_and_shows_what_it_measured(study: Study, tmp_path: Path) -> None:
    """No second training; parity and test success of the journal are on the card; every example is exported."""
    tuned = tune_approach(study, "tuned-lora", export=tmp_path / "out", progress=False)
    assert tuned.reused
    assert tuned.parity is not None
    assert tuned.test is not None
    assert (tuned.parity.n >= 5, tuned.test.n) == (True, LIMIT)
    assert "as served" in str(tuned)
    rows = (tmp_path / "out" / "openai" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == tuned.card["n_train"]
    config = json.loads((tmp_path / "out" / "peft" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert load_base(tmp_path / "out" / "gguf" / "merged.gguf").shape.layers == 30


@pytest.mark.model
def test_the_verdict_and_the_report_come_from_the_journal_alone(study: Study, tmp_path: Path) -> None:
    """Without study.yaml and cases, the same report, byte for byte."""
    with_files = study.render_report()
    (tmp_path / ".steelyard").mkdir()
    for path in (study.folder / ".steelyard").glob("journal.sqlite3*"):
        (tmp_path / ".steelyard" / path.name).write_bytes(path.read_bytes())
    alone = steelyard.load(tmp_path).render_report()
    assert alone.replace(str(tmp_path), str(study.folder)) == with_files
    assert study.decide().verdict.sentence in with_files.replace("&#39;", "'")

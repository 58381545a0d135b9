from __future__ import annotations

from pathlib import Path

import pytest

from steelyard.errors import InputError
from steelyard.study.yaml_source import read_study_file

GOOD = """\
study: tickets
cases: tickets.csv
task:
  input: text
  expected: label
  labels: [billing, delivery]
"""


def complaint(tmp_path: Path, text: str) -> str:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_study_file(path)
    return str(caught.value)


def test_a_classification_study_needs_few_lines_and_gets_the_whole_ladder(tmp_path: Path) -> None:
    """Without `approaches:` every rung that fits the task is compared."""
    path = tmp_path / "study.yaml"
    path.write_text(GOOD)
    study = read_study_file(path)
    assert list(study.approaches) == [
        "zero-shot", "few-shot", "workflow", "retrieval", "tuned-lora", "tuned-head", "nearest",
    ]  # fmt: skip
    assert study.task.input == ["text"]
    assert study.cases.file == "tickets.csv"


def test_a_task_without_labels_gets_no_classifier(tmp_path: Path) -> None:
    """A tuned head can only choose among labels, so it is not offered for free text."""
    path = tmp_path / "study.yaml"
    path.write_text("study: s\ncases: c.csv\ntask: {input: text, expected: [vendor, total]}\n")
    assert "tuned-head" not in read_study_file(path).approaches


def test_an_unknown_field_names_its_line_and_the_nearest_right_one(tmp_path: Path) -> None:
    message = complaint(tmp_path, GOOD + "approaches:\n  few-shot:\n    prompt: {exmaples: 12}\n")
    assert "study.yaml:9:approaches.few-shot.prompt.exmaples: unknown field 'exmaples'" in message
    assert "did you mean 'examples'?" in message


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("study: tickets", "study: ''").replace("  expected: label\n", "") + "monney: {}\n"
    message = complaint(tmp_path, text)
    assert "study.yaml:1:study" in message
    assert "'expected' is missing" in message
    assert "did you mean 'money'?" in message


def test_a_field_given_twice_is_an_error(tmp_path: Path) -> None:
    """YAML would silently take the last one."""
    message = complaint(tmp_path, GOOD + "cases: other.csv\n")
    assert "study.yaml:7:cases: the field 'cases' stands here a second time" in message


def test_bare_yes_and_no_as_labels_say_to_quote_them(tmp_path: Path) -> None:
    message = complaint(tmp_path, GOOD.replace("[billing, delivery]", "[yes, no]"))
    assert "study.yaml:6:task.labels" in message
    assert "put quotes around it" in message


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    message = complaint(tmp_path, "study: tickets\ncases: [tickets.csv\ntask: {}\n")
    assert "study.yaml:3" in message
    assert "not valid YAML" in message


def test_a_model_that_is_not_declared_is_named(tmp_path: Path) -> None:
    message = complaint(tmp_path, GOOD + "approaches:\n  big: {model: gpt-9}\n")
    assert "'gpt-9'" in message
    assert "local" in message


def test_levers_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    message = complaint(tmp_path, GOOD + "approaches:\n  odd: {model: none}\n")
    assert "study.yaml:8:approaches.odd" in message
    assert "model: none needs retrieval or a tuned head" in message


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="steelyard init"):
        read_study_file(tmp_path / "study.yaml")


def test_the_kind_of_an_approach_follows_from_its_levers(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(GOOD)
    levers = {name: {str(lever) for lever in spec.levers} for name, spec in read_study_file(path).approaches.items()}
    assert levers["zero-shot"] == levers["few-shot"] == {"prompt"}
    assert levers["workflow"] == {"workflow"}
    assert levers["retrieval"] == levers["nearest"] == {"retrieval"}
    assert levers["tuned-lora"] == levers["tuned-head"] == {"tuning"}


@pytest.mark.parametrize("field", ["n: 8", "max_tokens: 4000", "max_completion_tokens: 4000", "stream: true"])
def test_fixed_request_fields_cannot_break_the_budget(tmp_path: Path, field: str) -> None:
    """What a call can cost at most follows from its own fields, so a study may not override those."""
    address = "base_url: http://127.0.0.1:1/v1, model: m"
    message = complaint(tmp_path, f"{GOOD}models:\n  endpoints:\n    big: {{{address}, extra_body: {{{field}}}}}\n")
    assert "study.yaml:9:models.endpoints.big" in message
    assert f"extra_body must not set {field.split(':')[0]}" in message

"""Each kind of field forgives what it says it forgives, and nothing else."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from steelyard.errors import InputError
from steelyard.task.field_scorers import Means, score_field
from steelyard.task.resolve import resolve_task
from steelyard.task.scorers import score_output
from steelyard.task.spec import FieldScoring, TaskSpec
from steelyard.task.task import Task
from steelyard.task.values import amount, day


def scored(value: object, expected: object, **scoring: object) -> tuple[float | None, str]:
    found = score_field("f", {"f": value}, expected, FieldScoring.model_validate(scoring), means=Means())
    return found.score, found.verdict


def task_with(scoring: dict[str, Any], folder: Path = Path(), **more: object) -> Task:
    spec = {"input": "text", "expected": ["a", "b"], "scoring": scoring, **more}
    return resolve_task(TaskSpec.model_validate(spec), folder)


@pytest.mark.parametrize(
    ("kind", "value", "expected", "score"),
    [
        ("exact", "x", "X", 0),
        ("normalised", " X.", "x", 1),
        ("number", "12.50", 12.5, 1),
        ("number", "12,50", 12.5, 0),
        ("number", 12.51, 12.5, 0),
        ("money", "1.234,50 €", 1234.5, 1),
        ("money", "USD 1,234.50", "1234.50", 1),
        ("money", "(12.00)", -12, 1),
        ("money", "12 of 13", 12, 0),
        ("date", "5. 3. 2026", "2026-03-05", 1),
        ("date", "5 March 2026", "2026-03-05", 1),
        ("date", "March 2026", "2026-03-01", 0),
        ("date", "soon", "2026-03-05", 0),
        ("date", "25032018", "25032018", 1),
        ("date", "25 March 2018", "25032018", 0),
        ("set", ["b", "A"], ["a", "b"], 1),
        ("set", ["a"], ["a", "b"], 2 / 3),
        ("set", ["a", "a"], ["a", "b"], 0.5),
        ("set", "a", ["a"], 1),
        ("contains", "The total is 9.00 RM.", "9.00", 1),
        ("contains", "The total is 19.00 RM.", "9.00", 0),
        ("regex", "AB-12", "[A-Z]{2}-\\d+", 1),
        ("regex", "AB-12x", "[A-Z]{2}-\\d+", 0),
        ("regex", "x", "(", 0),
    ],
)
def test_kinds(kind: str, value: object, expected: object, score: float) -> None:
    """Hand-worked comparisons."""
    assert scored(value, expected, kind=kind)[0] == pytest.approx(score)


def test_tolerances() -> None:
    """A cent either way, or a share of the expected value, whichever is more; the ends count as equal."""
    assert scored(10.01, 10, kind="money", tolerance=0.01)[0] == 1
    assert scored(10.02, 10, kind="money", tolerance=0.01)[0] == 0
    assert scored(102, 100, kind="number", relative_tolerance=0.02)[0] == 1
    assert scored(0.1 + 0.2, 0.3, kind="number")[0] == 1


def test_day_first_decides_what_an_ambiguous_date_means() -> None:
    """03/04/2026 is the third of April, or the fourth of March; an ISO date is neither."""
    assert scored("03/04/2026", "2026-04-03", kind="date")[0] == 1
    assert scored("03/04/2026", "2026-03-04", kind="date", day_first=False)[0] == 1
    assert scored("2026-04-03", "2026-04-03", kind="date", day_first=False)[0] == 1


@pytest.mark.parametrize("kind", ["exact", "normalised", "number", "money", "date", "set", "contains", "regex"])
def test_missing_wrong_and_invented(kind: str) -> None:
    """What should be there and is not is missing; what should not be there and is, is invented."""
    assert scored(None, "2026-01-02", kind=kind) == (0.0, "missing")
    assert scored("2026-01-02", None, kind=kind) == (0.0, "invented")
    assert scored("2026-01-03", "2026-01-02", kind=kind)[1] == "wrong"
    assert scored(None, None, kind=kind) == (1.0, "right")
    assert scored("  ", None, kind=kind) == (1.0, "right")


ITEMS = [
    {"description": "Bolts", "quantity": 2, "amount": 4.0},
    {"description": "Nuts", "quantity": 1, "amount": 3.0},
]
BY = {"kind": "list", "fields": {"description": "normalised", "quantity": "number", "amount": "money"}}


def test_items_are_matched_with_the_most_alike_whatever_their_order() -> None:
    """Two items in the other order are right; a third of one item wrong costs a third of that match; F1 over items."""
    assert scored(ITEMS[::-1], ITEMS, **BY)[0] == 1
    one_wrong = [ITEMS[1], {**ITEMS[0], "quantity": 5}]
    assert scored(one_wrong, ITEMS, **BY)[0] == pytest.approx(2 * (1 + 2 / 3) / 4)
    assert scored(ITEMS[:1], ITEMS, **BY)[0] == pytest.approx(2 * 1 / 3)
    assert scored([*ITEMS, *ITEMS], ITEMS, **BY)[0] == pytest.approx(2 * 2 / 6)
    assert scored("Bolts", ITEMS, **BY)[0] == 0
    assert scored([], ITEMS, **BY) == (0.0, "missing")


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_matching_is_as_good_as_the_best_of_all_permutations(left: list[int], right: list[int]) -> None:
    """Alignment finds the best one-to-one matching: for lists of the same items that is a perfect one."""
    items = [{"a": i % 2, "b": i} for i in range(4)]
    assert scored([items[i] for i in left], [items[i] for i in right], kind="list")[0] == 1


def test_a_hostile_list_costs_no_cubic_time() -> None:
    """Thousands of items are cut before they are matched, and count as wrong."""
    assert scored([{"a": 1}] * 5000, [{"a": 1}], kind="list")[0] == pytest.approx(2 / 5001)


def test_weights_decide_the_score_of_a_case() -> None:
    """A field with weight 3 counts three times; fields left out are normalised with weight 1."""
    task = task_with({"a": {"kind": "money", "weight": 3}})
    found = score_output({"a": "1,00", "b": "wrong"}, {"a": 1, "b": "y"}, task)
    assert found.score == pytest.approx(0.75)
    assert {name: one.verdict for name, one in found.fields.items()} == {"a": "right", "b": "wrong"}


def test_a_field_without_verdict_leaves_the_case_unscored() -> None:
    """A judge that says nothing makes nobody wrong or right."""
    task = task_with({"a": {"kind": "judge", "rubric": "same meaning"}})
    found = score_output({"a": "x", "b": "y"}, {"a": "z", "b": "y"}, task, means=Means(marks={"a": None}))
    assert found.score is None
    assert "'a'" in str(found.unscored_because)
    right = score_output({"a": "x", "b": "y"}, {"a": "z", "b": "y"}, task, means=Means(marks={"a": 0.8}))
    assert right.score == 1


def test_similar_asks_for_the_likeness_of_both_texts() -> None:
    """The threshold decides, and its end counts as alike."""
    scoring = FieldScoring(kind="similar", threshold=0.7)
    for alike, score in ((0.7, 1.0), (0.69, 0.0)):
        means = Means(likeness=lambda one, other, alike=alike: alike)  # type: ignore[misc]
        assert score_field("f", {"f": "x"}, "y", scoring, means=means).score == score


def test_the_studys_own_function_scores(tmp_path: Path) -> None:
    """It sees the field, what was expected and the whole output; None leaves the case unscored; its file is in the digest."""
    checks = tmp_path / "checks.py"
    checks.write_text("def close(value, expected, output):\n    return None if value == '?' else 0.5\n")
    task = task_with({"a": {"kind": "python", "function": "checks.py:close"}}, tmp_path)
    assert score_output({"a": "x", "b": "y"}, {"a": "z", "b": "y"}, task).score == pytest.approx(0.75)
    assert score_output({"a": "?", "b": "y"}, {"a": "z", "b": "y"}, task).score is None
    checks.write_text("def close(value, expected, output):\n    return 2\n")
    other = task_with({"a": {"kind": "python", "function": "checks.py:close"}}, tmp_path)
    assert other.digest() != task.digest()
    with pytest.raises(ValueError, match="0 to 1"):
        score_output({"a": "x", "b": "y"}, {"a": "z", "b": "y"}, other)


@pytest.mark.parametrize(
    ("scoring", "said"),
    [
        ({"kind": "python", "function": "checks.py:clsoe"}, "did you mean 'close'"),
        ({"kind": "python", "function": "none.py:close"}, "cannot be read"),
        ({"kind": "python", "function": "../checks.py:close"}, "outside the study folder"),
        ({"kind": "python", "function": "close"}, "names no function"),
        ({"kind": "regex", "pattern": "("}, "no regular expression"),
        ({"kind": "python", "function": "broken.py:close"}, "cannot be loaded: NameError"),
    ],
)
def test_what_is_wrong_with_scoring_is_said_before_anything_is_paid_for(
    scoring: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """With the field of study.yaml and what to do."""
    (tmp_path / "checks.py").write_text("def close(value, expected, output):\n    return 1\n")
    (tmp_path / "broken.py").write_text("undefined_name\n")
    with pytest.raises(InputError, match=r"task\.scoring\.a") as raised:
        task_with({"a": scoring}, tmp_path)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "scoring",
    [
        {"a": {"kind": "date", "tolerance": 1}},
        {"a": "judge"},
        {"c": "date"},
        {"a": {"kind": "list", "fields": {"x": {"kind": "list"}}}},
    ],
)
def test_options_belong_to_their_kind(scoring: dict[str, Any]) -> None:
    """An option that would do nothing is refused, and so is a field nobody expects."""
    with pytest.raises(ValidationError):
        task_with(scoring)


@given(st.integers(-(10**9), 10**9))
def test_amounts_are_read_back_however_they_are_written(cents: int) -> None:
    """English, continental and Swiss separators of the same amount give the same number."""
    plain = cents / 100
    english = f"{plain:,.2f}"
    for text in (english, english.translate(str.maketrans(",.", ".,")), english.replace(",", "'"), f"EUR {english}"):
        assert amount(text) == pytest.approx(plain)


@given(st.dates(min_value=date(1900, 1, 1)))
def test_days_are_read_back_however_they_are_written(one: date) -> None:
    """ISO, day first with dots, and with the month's name."""
    for text in (one.isoformat(), f"{one.day:02}.{one.month:02}.{one.year:04}", f"{one.day} {one:%B} {one.year:04}"):
        assert day(text) == one


@given(st.text(alphabet="0123456789.,' -()€RM", max_size=20) | st.text(max_size=20))
def test_any_text_is_an_amount_or_none(text: str) -> None:
    """What a model writes never makes a scorer raise, and what comes of it is a finite number or nothing."""
    found = amount(text)
    assert found is None or math.isfinite(found)
    day(text)


def test_two_kinds_of_separator_more_than_once_are_no_amount() -> None:
    """As a model that loops writes them."""
    assert amount("1,2,3.4.5") is None
    assert scored("420,420,000.000.000", "420", kind="money") == (0.0, "wrong")

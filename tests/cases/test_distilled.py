"""Labels from a teacher: what a file of them must say, and what of it may be learned from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.cases.case import Case, Splits
from steelyard.cases.distilled import by_teacher, distilled_line, for_training, read_distilled
from steelyard.cases.duplicates import duplicate_groups, fold, input_text
from steelyard.cases.leakage import refuse_pool_leak
from steelyard.cases.spec import SplitSpec
from steelyard.cases.split import split_cases
from steelyard.errors import InputError

META = {"teacher_version": "v", "licence": "MIT", "accepted_by": "valid", "confidence": None, "cost_usd": 0.5}
WORDS = ("parcel", "invoice", "street", "courier", "refund", "charge", "garden", "lamp", "month", "total")


def label(name: str, text: str, **more: object) -> Case:
    case = Case(id=name, input={"text": text}, expected={"label": "a"}, teacher="big", meta=META)
    return replace(case, **more)  # type: ignore[arg-type]


def read(path: Path) -> list[Case]:
    return read_distilled(path, input_fields=["text"], expected_fields=["label"])


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Input, label, teacher, licence and cost survive, hostile text included."""
    cases = [label("1", '=HYPERLINK("x")\n\u202e'), label("2", "b", cluster="c", time="2025-01-01T00:00:00Z")]
    path = tmp_path / "distilled.jsonl"
    path.write_bytes(b"".join(map(distilled_line, cases)))
    found = read(path)
    assert [replace(case, where="") for case in found] == cases
    assert [case.where for case in found] == ["distilled.jsonl:1", "distilled.jsonl:2"]
    assert orjson.loads(distilled_line(cases[0]))["origin"] == "distilled"


@pytest.mark.parametrize(
    ("change", "where", "said"),
    [
        ({"origin": "human"}, "distilled.jsonl:2:origin", "not 'distilled'"),
        ({"teacher": ""}, "distilled.jsonl:2:teacher", "names no teacher"),
        ({"licence": None}, "distilled.jsonl:2:licence", "names no licence"),
        ({"id": 7}, "distilled.jsonl:2:id", "names no id"),
        ({"id": "1"}, "distilled.jsonl:2:id", "already used at distilled.jsonl:1"),
        ({"input": {"txt": "x"}}, "distilled.jsonl:2:input.text", "no field 'text'"),
        ({"input": "x"}, "distilled.jsonl:2:input.text", "no field 'text'"),
        ({"expected": {}}, "distilled.jsonl:2:expected.label", "no field 'label'"),
        ({"cost_usd": "much"}, "distilled.jsonl:2:cost_usd", "not a number"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(tmp_path: Path, change: dict[str, object], where: str, said: str) -> None:
    path = tmp_path / "distilled.jsonl"
    wrong = orjson.loads(distilled_line(label("2", "y"))) | change
    path.write_bytes(distilled_line(label("1", "x")) + orjson.dumps(wrong))
    with pytest.raises(InputError, match=said) as caught:
        read(path)
    assert caught.value.problems[0].where == where


texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join)
clusters = st.sampled_from([None, "c1", "c2", "c3"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(texts, clusters), min_size=6, max_size=30),
    st.lists(st.tuples(texts, clusters), max_size=15),
    st.integers(0, 5),
)
def test_nothing_distilled_ever_resembles_dev_or_test(
    labelled: list[tuple[str, str | None]], grown: list[tuple[str, str | None]], seed: int
) -> None:
    """Whatever the cases and the seed: no text, near-duplicate, cluster or id of dev or test is learned from."""
    cases = [
        Case(id=f"p{i}", input={"text": text}, expected={"label": "ab"[i % 2]}, cluster=cluster)
        for i, (text, cluster) in enumerate(labelled)
    ]
    spec = SplitSpec(seed=seed)
    groups = duplicate_groups(cases, threshold=0.8)
    splits = split_cases(cases, spec, groups=groups)
    found = [label(f"p{i}" if i % 3 == 0 else f"d{i}", text, cluster=one) for i, (text, one) in enumerate(grown)]
    kept = for_training(found, splits, spec, groups=groups, near_duplicates=0.8)
    held_out = (*splits.dev, *splits.test)
    refuse_pool_leak(kept.cases, held_out, duplicate_groups([*kept.cases, *held_out], threshold=0.8))
    people = {fold(input_text(case)) for case in splits.train}
    assert all(fold(input_text(case)) not in people and case.teacher == "big" for case in kept.cases)
    assert len(kept.cases) + sum((kept.left_out or {}).values()) == len(found)


def test_a_split_by_time_lets_nothing_newer_than_train_in() -> None:
    """Else the approach would have seen what the test split's days were like."""
    train = Case(id="t", input={"text": "one"}, expected={"label": "a"}, time="2025-02-01T00:00:00Z")
    splits = Splits(train=(train,), dev=(), test=())
    times = ("2025-01-01T00:00:00Z", "2025-03-01T00:00:00Z", None)
    grown = [label(str(i), f"text {i}", time=time) for i, time in enumerate(times)]
    kept = for_training(grown, splits, SplitSpec(by="time"), groups={}, near_duplicates=0.8)
    assert [case.id for case in kept.cases] == ["0"]
    assert kept.left_out == {"newer than the train cases": 2}


def test_teachers_are_counted() -> None:
    cases = [label("1", "x"), label("2", "y"), label("3", "z", teacher="other")]
    assert by_teacher(cases) == {"big": 2, "other": 1}

"""Duplicates, gaps and conflicts are found, and leaks are refused."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from steelyard.cases.audit import audit, findings
from steelyard.cases.case import Case, SplitName, Splits
from steelyard.cases.duplicates import duplicate_groups, exact_groups, fold, near_groups
from steelyard.cases.leakage import check_leakage, find_leakage, refuse_pool_leak
from steelyard.cases.read import read_cases
from steelyard.cases.spec import CasesSpec
from steelyard.cases.split import split_cases
from steelyard.errors import InputError


def case(
    id: str, text: str, label: str | None = "a", *, cluster: str | None = None, split: SplitName | None = None
) -> Case:
    expected = None if label is None else {"label": label}
    return Case(
        id=id, input={"text": text}, expected=expected, cluster=cluster, declared_split=split, where=f"c.csv:{id}"
    )


def no_fault(_: Mapping[str, object]) -> None:
    return None


def sentences(n: int, n_words: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(f"word{draw.randrange(2_000)}" for _ in range(n_words)) for _ in range(n)]


def jaccard(a: str, b: str) -> float:
    """The slow obvious version, on word 3-grams."""
    first, second = ({tuple(w[i : i + 3]) for i in range(len(w) - 2)} for w in (a.split(), b.split()))
    return len(first & second) / len(first | second)


def test_folding() -> None:
    """Case, spacing and punctuation do not tell texts apart; letters, digits and the marks of any script do."""
    assert fold("  Where's MY\tparcel?! ") == fold("wheres my parcel")
    assert fold("top-up,please") == fold("Top up please") != fold("topup please")
    assert fold("STRASSE") == fold("Straße")
    assert fold("हिन्दी") != fold("हन्द")
    assert fold("order 12") != fold("order 13")
    assert fold("?! ...") == ""


def test_exact_duplicates_and_empties() -> None:
    """Texts that fold alike are one group; empty texts are duplicates of nothing."""
    cases = [case("1", "Hi!"), case("2", "hi"), case("3", ""), case("4", " "), case("5", "...")]
    assert exact_groups(cases) == [[0, 1]]


def test_planted_near_duplicates_are_all_found() -> None:
    """All pairs at or above the threshold are found, and none below it, checked against the quadratic comparison."""
    draw = random.Random(7)
    texts = sentences(150, 40)
    for text in texts[:60]:
        words = text.split()
        for _ in range(draw.randrange(1, 5)):
            words[draw.randrange(len(words))] = "changed"
        texts.append(" ".join(words))
    cases = [case(str(i), text) for i, text in enumerate(texts)]
    found = {frozenset(group) for group in near_groups(cases, threshold=0.7)}
    # Every original has one altered copy at most, so groups are pairs.
    true = {frozenset((i, j)) for j in range(len(texts)) for i in range(j) if jaccard(texts[i], texts[j]) >= 0.7}
    assert found == true
    assert 10 < len(true) < 60


def test_near_duplicates_among_short_texts() -> None:
    """Short texts are compared by characters, across the border to word comparison; very short ones only exactly."""
    cases = [
        case("1", "my parcel number 12345 has not arrived yet"),
        case("2", "my parcel number 12345 has not arrived yet!!"),
        case("3", "my parcel number 12345 has not arrived yets"),
        case("4", "please cancel the subscription of my account"),
        case("5", "refund me"),
        case("6", "refund we"),
    ]
    assert near_groups(cases, threshold=0.8) == [[0, 1, 2]]


def test_groups_do_not_depend_on_order() -> None:
    """The same cases in another order are grouped the same, under the same names."""
    texts = sentences(50, 20)
    cases = [case(str(i), text) for i, text in enumerate([*texts, *(text + " indeed" for text in texts[:20])])]
    shuffled = cases[:]
    random.Random(3).shuffle(shuffled)
    assert duplicate_groups(cases, threshold=0.8) == duplicate_groups(shuffled, threshold=0.8)
    assert len(duplicate_groups(cases, threshold=0.8)) == 40


def test_thousands_of_alike_texts_end() -> None:
    """Thousands of empties, of copies and of texts from one template are grouped without comparing all pairs."""
    letter = " ".join(f"standing{i}" for i in range(40))
    cases = [case(f"e{i}", "") for i in range(3_000)]
    cases += [case(f"c{i}", "the very same words in every single ticket") for i in range(3_000)]
    cases += [case(f"t{i}", f"{letter} {i}") for i in range(3_000)]
    result = audit(cases, validate_expected=no_fault)
    assert [len(group.cases) for group in result.exact_duplicates] == [3_000]
    assert [len(group.cases) for group in result.near_duplicates] == [3_000]
    assert len(result.empty) == 3_000
    assert any("holds 3000 of 9000 cases" in found.what for found in findings(result))


def test_audit_lists_what_is_wrong() -> None:
    """Conflicts, gaps, schema faults and rare labels are counted and come as sentences with their place."""
    cases = [
        case("1", "where is my parcel", "delay"),
        case("2", "Where is my parcel?", "refund"),
        case("3", "", "delay"),
        case("4", "I want my money back", None),
        case("5", "the app is broken", "bug"),
        case("6", "the app is slow", "delay"),
        case("7", "money", "delay"),
    ]

    def validate(expected: Mapping[str, object]) -> str | None:
        return "'bug' is not one of 'delay', 'refund'" if expected["label"] == "bug" else None

    result = audit(cases, validate_expected=validate, rare_below=2)
    assert result.label_counts == {"delay": 4, "bug": 1, "refund": 1}
    assert result.rare_labels == ("bug", "refund")
    assert [[member.id for member in group.cases] for group in result.conflicts] == [["1", "2"]]
    assert result.groups == {"1": "1", "2": "1"}
    assert [member.id for member in result.empty] == ["3"]
    assert [member.id for member in result.without_expected] == ["4"]
    assert [problem.where for problem in result.invalid_expected] == ["c.csv:5:expected"]
    assert result.n_words == (0, 4, 4, 5)
    said = "\n".join(map(str, findings(result)))
    for words in (
        "breaks the output schema: 'bug'",
        "another expected output",
        "empty input",
        "no expected",
        "'bug' (1)",
    ):
        assert words in said


def test_a_clean_set_has_no_findings() -> None:
    """Different texts with valid, frequent labels leave nothing to say."""
    cases = [case(str(i), text, "ab"[i % 2]) for i, text in enumerate(sentences(20, 15))]
    assert findings(audit(cases, validate_expected=no_fault)) == ()
    assert findings(audit([], validate_expected=no_fault)) == ()


def test_declared_splits_that_share_cases_are_refused() -> None:
    """A near-duplicate or a cluster on both sides of a declared split is refused, naming both places."""
    text = sentences(1, 30)[0]
    cases = [
        case("1", text, split="train"),
        case("2", text + " indeed", split="test"),
        case("3", "one of a customer", cluster="k", split="dev"),
        case("4", "another of the customer", cluster="k", split="test"),
        case("5", "nothing to do with it", split="train"),
    ]
    groups = duplicate_groups(cases, threshold=0.8)
    splits = Splits(train=(cases[0], cases[4]), dev=(cases[2],), test=(cases[1], cases[3]))
    with pytest.raises(InputError) as caught:
        check_leakage(splits, groups)
    assert [problem.where for problem in caught.value.problems] == ["c.csv:2", "c.csv:4"]
    assert "c.csv:1" in caught.value.problems[0].what
    assert "c.csv:3" in caught.value.problems[1].what
    check_leakage(Splits(train=(cases[4],), dev=(), test=tuple(cases[:4])), groups)


@pytest.mark.parametrize("by", ["id", "text", "group", "cluster"])
def test_a_pool_with_a_held_out_case_is_refused(by: str) -> None:
    """A pool, index or training set that holds a held-out case under any guise is refused, naming both places."""
    held_out = case("9", "where is my parcel", cluster="k")
    pool = {
        "id": case("9", "changed since"),
        "text": case("1", "WHERE is my parcel?"),
        "group": case("2", "where oh where is my parcel"),
        "cluster": case("3", "a reply", cluster="k"),
    }
    with pytest.raises(InputError) as caught:
        refuse_pool_leak([case("0", "fine"), pool[by]], [held_out], {"2": "2", "9": "2"})
    (problem,) = caught.value.problems
    assert problem.where == "c.csv:9"
    assert pool[by].where in problem.what
    refuse_pool_leak([case("0", "fine"), case("1", "")], [held_out, case("8", "")], {})


@pytest.mark.realdata
def test_overlap_of_real_train_and_test_files(shared_data: Path) -> None:
    """Banking77's known word-for-word overlap of train and test is found; our own split of the same cases has none."""
    train, test = (
        read_cases(
            shared_data / "banking77" / f"{name}77.jsonl",
            CasesSpec(file="", split_column="split"),
            input_fields=["text"],
            expected_fields=["label"],
        )
        for name in ("train", "test")
    )
    with pytest.raises(InputError) as caught:
        refuse_pool_leak(train, test, {})
    # The 25 that its source note counts, and one pair that differs by an apostrophe.
    assert len(caught.value.problems) == 26
    cases = [*train[::4], *test]
    result = audit(cases, validate_expected=no_fault)
    declared = Splits(train=tuple(train[::4]), dev=(), test=tuple(test))
    assert find_leakage(declared, result.groups)
    undeclared = [case(c.id, str(c.input["text"]), str((c.expected or {})["label"])) for c in cases]
    splits = split_cases(undeclared, CasesSpec(file="").split, groups=result.groups)
    assert find_leakage(splits, result.groups) == ()


def test_the_same_question_on_another_day_or_by_somebody_else_is_no_conflict() -> None:
    """Documents change and are not for everybody, so answers may; two answers on one day to one asker conflict."""
    asked = case("1", "how many days of leave are there", "25")
    later = replace(case("2", "how many days of leave are there", "28"), time="2026-01-01", question="leave")
    earlier = replace(later, id="3", expected={"label": "27"}, time="2025-01-01")
    manager = replace(earlier, id="4", expected={"label": "30"}, access=("managers",))
    assert not audit([later, earlier, manager], validate_expected=no_fault).conflicts
    doubted = replace(earlier, id="5", expected={"label": "26"})
    result = audit([later, earlier, doubted, manager], validate_expected=no_fault)
    assert len(result.conflicts) == 1
    said = next(found.what for found in findings(result) if "another expected output" in found.what)
    assert "'5'" in said
    assert "'3'" in said
    assert audit([asked, replace(asked, id="6", expected={"label": "24"})], validate_expected=no_fault).conflicts

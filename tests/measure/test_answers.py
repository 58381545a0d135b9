"""Found x right, abstention, support, citations and freshness: counts by hand, and what must not move them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from steelyard.cases.case import Case
from steelyard.engine.outcome import Outcome, OutcomeStatus
from steelyard.measure.answers import AnswerRules, abstention, found_and_right
from steelyard.measure.freshness import VersionedAnswer, age_of, freshness, matching, versions_of_cases
from steelyard.measure.intervals import wilson
from steelyard.measure.retrieval_report import answer_row, retrieval_report
from steelyard.measure.sourcing import citations, cited_sources, support
from steelyard.task.spec import FieldScoring

RULES = AnswerRules(field="answer")
CITING = AnswerRules(field="answer", citations="source")


def row(case: int | str, success: int | None = 1, *, approach: str = "rag", **more: object) -> dict[str, Any]:
    """An outcome whose gold source was retrieved, and whose answer is right."""
    return {
        "approach": approach,
        "case_id": str(case),
        "repeat": 0,
        "cluster": None,
        "status": "answered",
        "success": success,
        "sources": ("d", "e"),
        "gold": ("d",),
        "output": {"answer": "30 days"},
        "expected": {"answer": "30 days"},
        "time": "2026-01-01",
    } | more


def crossed(rows: Sequence[Mapping[str, Any]], **more: Any) -> Any:  # noqa: ANN401 - a row, read field by field
    (only,) = found_and_right(rows, level="document", retrieves=("rag",), **more)
    return only


MISSED: dict[str, Any] = {"sources": ("x",)}
FOUR = [
    *(row(f"fr{i}") for i in range(30)),
    *(row(f"fw{i}", 0) for i in range(10)),
    *(row(f"mr{i}", 1, **MISSED) for i in range(4)),
    *(row(f"mw{i}", 0, **MISSED) for i in range(16)),
]


def test_found_and_right_by_hand() -> None:
    """Thirty, ten, four and sixteen of sixty."""
    table = crossed(FOUR)
    cells = [table.found_right, table.found_wrong, table.missed_right, table.missed_wrong]
    assert [cell.value for cell in cells] == pytest.approx([30 / 60, 10 / 60, 4 / 60, 16 / 60])
    assert (cells[0].low, cells[0].high) == pytest.approx(tuple(wilson(0.5, 60)))
    assert table.right_if_found.value == pytest.approx(30 / 40)
    assert table.right_if_missed.value == pytest.approx(4 / 20)
    assert (table.right_if_missed.low, table.right_if_missed.high) == pytest.approx(tuple(wilson(0.2, 20)))
    assert table.wrong_for_lack.value == pytest.approx(16 / 26)


def test_the_difference_is_newcombes() -> None:
    """56/70 against 48/80, the example of his paper (method 10): 0.2 with 0.0524 to 0.3339."""
    rows = [
        *(row(f"a{i}", int(i < 56)) for i in range(70)),
        *(row(f"b{i}", int(i < 48), **MISSED) for i in range(80)),
    ]
    difference = crossed(rows).difference
    assert difference.value == pytest.approx(0.2)
    assert (difference.low, difference.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_what_is_not_in_the_table() -> None:
    """Approaches that retrieve nothing, cases without a gold source, unscored outcomes; a failure is wrong."""
    rows = [
        row("1"),
        row("2", gold=()),
        row("3", None),
        row("4", 0, output=None, status="failed", sources=()),
        row("1", approach="closed-book", sources=()),
    ]
    table = crossed(rows)
    assert (table.n, table.n_without_gold, table.n_unscored) == (2, 1, 1)
    assert (table.found_right.value, table.missed_wrong.value) == (0.5, 0.5)
    assert crossed([row("1")]).right_if_missed.unknown_because == "every source was found"


def test_questions_that_need_two_sources() -> None:
    """One of two is found for some purposes and not for others."""
    rows = [row("1", gold=("d", "y")), row("2", gold=("d", "e"))]
    assert crossed(rows).found_right.value == 1
    assert crossed(rows, need="all").found_right.value == 0.5


def test_a_case_counts_once_however_often_it_was_repeated() -> None:
    """Three repeats of everything: the same shares, and intervals no narrower."""
    table, thrice = crossed(FOUR), crossed([one | {"repeat": i} for one in FOUR for i in range(3)])
    assert thrice.found_right == table.found_right
    assert thrice.right_if_found.value == pytest.approx(table.right_if_found.value)
    assert thrice.right_if_found.low <= table.right_if_found.low
    assert thrice.right_if_found.high >= table.right_if_found.high


# ---- abstention -----------------------------------------------------------------------------------------------------

NOTHING: dict[str, Any] = {"expected": {"answer": None}, "gold": ()}


def test_abstention_by_hand() -> None:
    """Of ten unanswerable cases it abstains on eight; of thirty answerable ones on three."""
    rows = [
        *(
            row(f"u{i}", output={"answer": None if i < 5 else "I don't know." if i < 8 else "5 days"}, **NOTHING)
            for i in range(10)
        ),
        *(row(f"a{i}", output={"answer": "Not stated" if i < 3 else "30 days"}) for i in range(30)),
    ]
    (table,) = abstention(rows, RULES)
    assert (table.n_unanswerable, table.n_answerable, table.n_failed) == (10, 30, 0)
    assert table.recall.value == pytest.approx(0.8)
    assert (table.recall.low, table.recall.high) == pytest.approx(tuple(wilson(0.8, 10)))
    assert table.precision.value == pytest.approx(8 / 11)
    assert table.wrongly.value == pytest.approx(0.1)


def test_a_failure_is_no_abstention() -> None:
    """Saying nothing because of a crash, or in a broken output, is not saying that there is no answer."""
    rows = [
        row("1", 0, output=None, status="failed", **NOTHING),
        row("2", 0, output={"reply": "x"}, status="invalid", **NOTHING),
        row("3", output={"answer": None}, **NOTHING),
        row("4"),
    ]
    (table,) = abstention(rows, RULES)
    assert table.recall.value == pytest.approx(1 / 3)
    assert (table.precision.value, table.n_failed) == (1, 1)


def test_no_table_without_unanswerable_cases_and_no_precision_without_abstentions() -> None:
    """Nothing is made up where there is nothing to count."""
    assert abstention([row("1"), row("2", expected=None)], RULES) == ()
    (table,) = abstention([row("1"), row("2", **NOTHING)], RULES)
    assert table.precision.unknown_because == "it never abstained"


def test_accepted_variants_and_the_studys_own_words() -> None:
    """An empty list of accepted answers is unanswerable; an answer or none is neither."""
    rules = AnswerRules(field="answer", scoring=FieldScoring(any_of=True, abstentions=("keine Angabe",)))
    assert rules.answerable(row("1", expected={"answer": []})) is False
    assert rules.answerable(row("1", expected={"answer": ["30", "30 days"]})) is True
    assert rules.answerable(row("1", expected={"answer": ["30", None]})) is None
    assert rules.answerable(row("1", expected={"other": 1})) is None
    assert rules.abstained(row("1", output={"answer": "Keine Angabe."}))
    assert not rules.abstained(row("1", output={"answer": "I don't know"}))


def test_none_may_be_the_answer() -> None:
    """Whoever says 'none' where none is right has answered."""
    none: dict[str, Any] = {"expected": {"answer": "none"}, "output": {"answer": "None."}}
    assert RULES.answerable(row("1", **none)) is True
    assert RULES.answered(row("1", **none))
    assert not RULES.abstained(row("1", **none))
    assert RULES.abstained(row("1", output={"answer": "None."}))


# ---- support and citations ------------------------------------------------------------------------------------------

TEXTS = {"d": "Leave is 30 days a year.", "e": "Meals are paid."}


def texts_of(row: Mapping[str, Any]) -> list[str | None]:
    return [TEXTS.get(source) for source in row["sources"]]


def test_support_by_hand() -> None:
    """Quoted answers are supported, made-up numbers are not, yes and no cannot be told; abstentions claim nothing."""
    rows = [
        *(row(f"s{i}") for i in range(6)),
        *(row(f"n{i}", 0, output={"answer": "40 days"}) for i in range(3)),
        *(row(f"y{i}", output={"answer": "yes"}) for i in range(1)),
        row("nothing", output={"answer": None}),
        row("crash", 0, output=None, status="failed"),
        row("closed", approach="closed-book", sources=()),
    ]
    (table,) = support(rows, RULES, texts_of, retrieves=("rag",))
    assert table.n == 10
    assert table.supported.value == pytest.approx(6 / 9)
    assert table.supported.low == pytest.approx(wilson(0.6, 10).low)
    assert table.supported.high == pytest.approx(wilson(0.7, 10).high)
    assert table.undecided.value == pytest.approx(0.1)
    assert (table.right_if_supported.value, table.right_if_unsupported.value) == (1, 0)
    assert str(table.supported.provenance) == "measured (10 of 12 cases)"


def test_text_that_is_not_known_decides_nothing() -> None:
    """A document deleted since may have held it."""
    rows = [row("1", sources=("gone", "e")), row("2", sources=("gone", "d"))]
    (table,) = support(rows, RULES, texts_of, retrieves=("rag",))
    assert (table.supported.value, table.undecided.value) == (1, 0.5)


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (["d", "e", "d"], ("d", "e")),
        ("d, e", ("d", "e")),
        ("Leave policy, v2.md", ("Leave policy, v2.md",)),
        ("as [d] and [2] say", ("d", "Leave policy, v2.md")),
        (1, ("d",)),
        ("9", ("9",)),
        (None, ()),
        ("", ()),
    ],
)
def test_ways_to_cite(value: object, ids: tuple[str, ...]) -> None:
    """Lists, texts with brackets, places in what was retrieved."""
    assert cited_sources(value, ["d", "Leave policy, v2.md"]) == ids


def test_citations_by_hand() -> None:
    """Right, retrieved but not gold, never seen, none at all; a passage cites its document."""
    cited = ["d", "e", "never-seen", None]
    rows = [row(i, output={"answer": "30 days", "source": one}) for i, one in enumerate(cited)]
    (table,) = citations(rows, CITING, level="document")
    assert table.cites.value == pytest.approx(3 / 4)
    assert table.right.value == pytest.approx(1 / 3)
    assert table.retrieved.value == pytest.approx(2 / 3)
    passages = row(1, sources=("d#1", "e#2"), gold=("d#1",), output={"answer": "30 days", "source": "d#2"})
    whole = passages | {"case_id": "2", "output": {"answer": "30 days", "source": "d"}}
    (table,) = citations([passages, whole], CITING, level="passage")
    assert (table.right.value, table.retrieved.value) == (0.5, 0.5)
    assert citations(rows, RULES, level="document") == ()


# ---- freshness ------------------------------------------------------------------------------------------------------

LEAVE = (
    VersionedAnswer(valid_from="2025-01-01", expected="28 days"),
    VersionedAnswer(valid_from="2024-01-01", expected="25 days"),
    VersionedAnswer(valid_from="2026-01-01", expected="30 days"),
)


@pytest.mark.parametrize(
    ("answer", "as_of", "age"),
    [
        ("28 days", "2025-06-01", "current"),
        ("28 days", "2025-01-01T08:00:00Z", "current"),
        ("25 days", "2025-06-01", "outdated"),
        ("30 days", "2025-06-01", "too_new"),
        ("12 days", "2025-06-01", "neither"),
        (None, "2025-06-01", "neither"),
        ("25 days", "2023-06-01", "too_new"),
        ("30 days", "2026-06-01", "current"),
    ],
)
def test_which_version_an_answer_matches(answer: str | None, as_of: str, age: str) -> None:
    """By the day of the question, whatever order the versions come in."""
    assert age_of({"answer": answer}, LEAVE, as_of=as_of, matches=matching(RULES)) == age
    assert age_of(None, LEAVE, as_of=as_of, matches=matching(RULES)) == "neither"


def test_what_was_right_before_and_is_right_again_is_current() -> None:
    """An answer that matches both an old version and the current one is not outdated; none may be the right answer."""
    versions = [
        VersionedAnswer(valid_from="2024-01-01", expected="25 days"),
        VersionedAnswer(valid_from="2025-01-01", expected=None),
        VersionedAnswer(valid_from="2026-01-01", expected="25 days"),
    ]
    matches = matching(RULES)
    assert age_of({"answer": "25 days"}, versions, as_of="2026-02-01", matches=matches) == "current"
    assert age_of({"answer": "I don't know"}, versions, as_of="2025-02-01", matches=matches) == "current"
    assert age_of({"answer": "25 days"}, versions, as_of="2025-02-01", matches=matches) == "outdated"


def test_freshness_by_hand() -> None:
    """Only cases whose answer changes count; the four shares make one."""
    answers = ["28 days"] * 5 + ["25 days"] * 3 + ["30 days", None]
    rows = [row(i, output={"answer": one}, time="2025-06-01") for i, one in enumerate(answers)]
    versions = dict.fromkeys(map(str, range(10)), LEAVE) | {"same": LEAVE[:1]}
    (table,) = freshness([*rows, row("same"), row("unknown")], versions, RULES)
    shares = [table.current.value, table.outdated.value, table.too_new.value, table.neither.value]
    assert shares == pytest.approx([0.5, 0.3, 0.1, 0.1])
    assert (table.n, table.n_unchanging) == (10, 2)
    assert (table.current.low, table.current.high) == pytest.approx(tuple(wilson(0.5, 10)))
    assert freshness([row("same")], versions, RULES) == ()
    (asked,) = freshness(rows, versions, RULES, as_of={str(i): "2026-06-01" for i in range(10)})
    assert asked.current.value == pytest.approx(0.1)


def test_versions_from_cases_that_ask_the_same_on_several_days() -> None:
    """Each day's expected answer is a version of the others."""
    cases = [
        Case(id=f"{name}{year}", input={"as_of": f"{year}-07-01"}, expected={"answer": answer}, meta={"key": name})
        for name, year, answer in [("a", 2024, "25"), ("a", 2025, "28"), ("b", 2024, "x")]
    ]
    versions = versions_of_cases([*cases, Case(id="odd", input={})], question="key", field="answer", day="as_of")
    assert [one.expected for one in versions["a2025"]] == ["25", "28"]
    assert len(versions["b2024"]) == 1
    assert versions.keys() == {"a2024", "a2025", "b2024"}


# ---- the report -----------------------------------------------------------------------------------------------------


def test_the_report_holds_together() -> None:
    """Every table from one list of rows, as JSON; what is left out is said."""
    rows = [
        *FOUR,
        *(row(f"u{i}", output={"answer": None}, **NOTHING) for i in range(6)),
        *(row(one["case_id"], 0, approach="closed-book", sources=()) for one in FOUR),
    ]
    versions = {"fr1": LEAVE, "fr2": LEAVE}
    report = retrieval_report(rows, CITING, texts_of=texts_of, versions=versions)
    shape = json.loads(json.dumps(report.to_json()))
    names = ("rankings", "found_and_right", "abstention", "support", "citations", "freshness")
    assert all({one["approach"] for one in shape[name]} <= {"rag", "closed-book"} and shape[name] for name in names)
    assert [one["approach"] for one in shape["rankings"]] == ["rag"]
    assert [one["approach"] for one in shape["abstention"]] == ["rag", "closed-book"]
    assert report.notes == (
        "without retrieval, and so not in the tables on sources: closed-book",
        "6 of 66 cases name no gold source (6 of them have no answer) and are left out of recall and its kin",
    )
    cells = shape["found_and_right"][0]
    hits = shape["rankings"][0]["hit"]["2"]["value"]
    assert cells["found_right"]["value"] + cells["found_wrong"]["value"] == pytest.approx(hits)


def test_nothing_to_say() -> None:
    """Without retrieval and gold sources every table is empty, and says why."""
    report = retrieval_report([row("1", sources=(), gold=())], RULES)
    assert (report.rankings, report.found_and_right, report.support) == ((), (), ())
    assert report.notes == ("no approach retrieves: nothing is said of finding sources",)
    report = retrieval_report([row("1", gold=())], RULES)
    assert report.notes == ("no case names a gold source: recall and the like cannot be worked out",)


def test_a_row_from_an_outcome_and_its_case() -> None:
    """Gold sources come from the case, everything else from the journal."""
    case = Case(id="1", input={"question": "?"}, expected={"answer": "30 days"}, sources=("d",))
    outcome = Outcome(
        approach="rag",
        fingerprint="f",
        case_id="1",
        case_digest=case.digest(),
        split="test",
        status=OutcomeStatus.ANSWERED,
        output={"answer": "30 days"},
        score=1.0,
        success=True,
        schema_pass=True,
        latency_s=1.0,
        own_s=0.1,
        cost_usd=None,
        sources=("d", "e"),
    )
    assert retrieval_report([answer_row(outcome, case)], RULES).found_and_right[0].found_right.value == 1


@pytest.mark.realdata
def test_last_years_answers_are_outdated_where_something_changed(shared_data: Path) -> None:
    """Release dates over four years: whoever answers every question as of the first year is current where nothing changed."""
    lines = (shared_data / "eol_freshness" / "qa.jsonl").read_text(encoding="utf-8").strip().split("\n")
    cases = [
        Case(id=one["id"], input=one["input"], expected={"answer": one["expected"]["answers"]}, meta=one["meta"])
        for one in map(json.loads, lines)
    ]
    versions = versions_of_cases(cases, question="key", field="answer", day="as_of")
    rules = AnswerRules(field="answer", scoring=FieldScoring(any_of=True))
    as_of = {case.id: case.input["as_of"] for case in cases}
    first = {case.id: min(versions[case.id], key=lambda one: one.valid_from).expected for case in cases}

    def table(answer: dict[str, Any]) -> Any:  # noqa: ANN401 - a row, read field by field
        rows = [row(case.id, output={"answer": (answer[case.id] or [None])[0]}) for case in cases]
        (only,) = freshness(rows, versions, rules, as_of=as_of)
        return only

    fresh = table({case.id: (case.expected or {})["answer"] for case in cases})
    stale = table(first)
    assert (fresh.current.value, fresh.n + fresh.n_unchanging) == (1, len(cases))
    expected = [
        first[case.id] == (case.expected or {})["answer"]
        for case in cases
        if len({str(one.expected) for one in versions[case.id]}) > 1
    ]
    assert stale.n == len(expected) > 100
    assert stale.current.value == pytest.approx(sum(expected) / len(expected))
    assert stale.outdated.value == pytest.approx(1 - sum(expected) / len(expected))


def test_a_difference_that_rests_on_a_single_case_is_not_shown() -> None:
    found = crossed([*(row(number) for number in range(9)), row("missed", 0, **MISSED)])
    assert (found.right_if_found.value, found.right_if_missed.value) == (1.0, 0.0)
    assert found.difference.value is None
    assert found.difference.unknown_because == "too few cases were found or missed to compare them"

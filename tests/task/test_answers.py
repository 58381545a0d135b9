"""Answers in free words: token F1, accepted variants, abstentions, and whether a text supports them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from steelyard.task.abstaining import abstains
from steelyard.task.accepted import accepted_answers, expected_fault, reference_output
from steelyard.task.field_scorers import Means, score_field
from steelyard.task.resolve import resolve_task
from steelyard.task.spec import FieldScoring, TaskSpec
from steelyard.task.support import answer_support
from steelyard.task.task import Task
from steelyard.task.tokens import answer_tokens, token_f1

TEXTS = st.text(st.sampled_from("ab the3.5,-$ \n'"), max_size=20)
KINDS = ("exact", "normalised", "number", "money", "date", "set", "regex", "contains", "token_f1")


def scored(value: object, expected: object, **scoring: object) -> tuple[float | None, str]:
    found = score_field("f", {"f": value}, expected, FieldScoring.model_validate(scoring), means=Means())
    return found.score, found.verdict


def score(value: object, expected: object, **scoring: object) -> float:
    found, _ = scored(value, expected, **scoring)
    assert found is not None
    return found


# ---- token F1 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1),
        ("It is the Eiffel Tower", "Eiffel Tower", 2 * 2 / 6),
        ("tower tower", "tower", 2 / 3),
        ("nothing alike", "other words", 0),
        ("$1,250.50", "$1250.50", 1),
        ("€49", "EUR 49", 1),
        ("49 €", "£49", 0.5),
        ("3.5", "35", 0),
        ("3.5 days", "5.3 days", 0.5),
        ("2026-03-05", "2026-03-06", 0),
        ("since 2026-03-05", "2026-03-05", 2 / 3),
        ("-5", 5, 0),
        ("308.0", 308, 1),
        (308.0, "308", 1),
        ("the", "a", 0),
        ("The", "the", 1),
        ("日本の首都", "日本 の 首都", 1),
        (["23", "days"], "23 days", 1),
    ],
)
def test_token_f1_by_hand(value: object, expected: object, f1: float) -> None:
    """Words in common over words in all; numbers stay whole."""
    assert token_f1(value, expected) == pytest.approx(f1)


@given(TEXTS, TEXTS)
def test_token_f1_is_symmetric_and_within_bounds(one: str, other: str) -> None:
    """Exchanging answer and expected answer changes nothing; an answer is wholly like itself."""
    assert token_f1(one, other) == token_f1(other, one)
    assert 0 <= token_f1(one, other) <= 1
    assert token_f1(one, one) == 1


@given(st.lists(st.sampled_from(["tower", "23", "the", "4.50"]), max_size=5), st.randoms(use_true_random=False))
def test_order_does_not_count(words: list[str], rng: Any) -> None:  # noqa: ANN401 - random.Random
    """The same words in another order."""
    assert token_f1(" ".join(words), " ".join(rng.sample(words, len(words)))) == 1


def test_a_threshold_makes_it_yes_or_no() -> None:
    """Without one the F1 is the score; with one it is right from there on."""
    answer = ("It is the Eiffel Tower", "Eiffel Tower")  # two of two and four words
    assert score(*answer, kind="token_f1") == pytest.approx(2 / 3)
    assert scored(*answer, kind="token_f1", threshold=0.6) == (1, "right")
    assert scored(*answer, kind="token_f1", threshold=0.7) == (0, "wrong")


def test_an_answer_of_nothing_but_punctuation_has_words_of_its_own() -> None:
    """It does not match every other empty answer."""
    assert answer_tokens("...") == ["..."]
    assert token_f1("...", "!") == 0


# ---- accepted variants ----------------------------------------------------------------------------------------------


@given(
    st.sampled_from(KINDS),
    TEXTS,
    st.lists(TEXTS | st.none(), max_size=4),
    TEXTS | st.none(),
    st.booleans(),
)
def test_one_more_accepted_answer_never_lowers_a_score(
    kind: str, value: str, accepted: list[str | None], more: str | None, abstentions: bool
) -> None:
    """Whoever accepts more is never stricter, unless 'there is none' was all that was accepted."""
    rules = {"kind": kind, "any_of": True, "abstentions": abstentions}
    if accepted:
        assert score(value, [*accepted, more], **rules) >= score(value, accepted, **rules)


@given(st.sampled_from(KINDS), TEXTS, TEXTS)
def test_one_accepted_answer_is_the_expected_one(kind: str, value: str, expected: str) -> None:
    """A list of one and the one itself are the same."""
    assert scored(value, [expected], kind=kind, any_of=True) == scored(value, expected, kind=kind)
    assert scored(value, expected, kind=kind, any_of=True) == scored(value, expected, kind=kind)


def test_accepted_answers_by_hand() -> None:
    """The best counts; no accepted answer means that there is none; lists of lists are lists of sets."""
    assert scored("308 points", ["308", "308 points"], kind="normalised", any_of=True) == (1, "right")
    assert scored("309", ["308", "308 points"], kind="normalised", any_of=True) == (0, "wrong")
    assert scored(None, [], kind="normalised", any_of=True) == (1, "right")
    assert scored("309", [], kind="normalised", any_of=True) == (0, "invented")
    assert scored(None, ["308"], kind="normalised", any_of=True) == (0, "missing")
    assert scored(None, ["308", None], kind="normalised", any_of=True) == (1, "right")
    assert scored(["b", "a"], [["a"], ["a", "b"]], kind="set", any_of=True) == (1, "right")


def test_a_judge_without_a_verdict_leaves_a_variant_open() -> None:
    """Unscored, not wrong: it may have been right."""
    rules = FieldScoring(kind="judge", rubric="same meaning", any_of=True)
    found = score_field("f", {"f": "x"}, ["y", "z"], rules, means=Means(marks={"f": None}))
    assert found.verdict == "unscored"
    found = score_field("f", {"f": "x"}, ["y", "z"], rules, means=Means(marks={"f": 0.9}))
    assert found.verdict == "right"


def test_a_function_sees_what_was_expected_as_it_is() -> None:
    """It can do with accepted answers what it likes, and is told so."""
    for option in ("any_of", "abstentions"):
        with pytest.raises(ValidationError, match=f"{option} is not for python"):
            FieldScoring.model_validate({"kind": "python", "function": "f.py:f", option: True})


def qa_task(**scoring: object) -> Task:
    spec = {"input": "question", "expected": ["answer", "source"], "scoring": {"answer": scoring}}
    return resolve_task(TaskSpec.model_validate(spec), Path())


def test_examples_show_the_first_accepted_answer() -> None:
    """A list of variants is no output a model should give."""
    task = qa_task(kind="token_f1", any_of=True)
    assert reference_output({"answer": ["308", "308 points"], "source": "d1"}, task) == {
        "answer": "308",
        "source": "d1",
    }
    assert reference_output({"answer": [], "source": None}, task) == {"answer": None, "source": None}
    assert accepted_answers(["a"], FieldScoring()) == (["a"],)


def test_every_accepted_answer_has_to_be_valid() -> None:
    """An accepted answer that the schema forbids can never be given."""
    task = qa_task(kind="token_f1", any_of=True)
    assert expected_fault({"answer": ["308", "308 points"], "source": "d1"}, task) is None
    assert expected_fault({"answer": ["308", {"n": 308}], "source": "d1"}, task) is not None
    assert expected_fault({"answer": ["308"], "source": "d1"}, qa_task(kind="token_f1")) is not None


# ---- abstentions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "I don't know.",
        "I don\u2019t know",
        "Unknown",
        "N/A",
        "Not stated.",
        "not stated in the handbook",
        "This is not specified in the provided context.",
        "The handbook doesn't say how many.",
        "The context provided does not explicitly mention it",
        "I'm sorry, but I can't answer that question based on the context.",
        "There is no information about fees.",
        "No information about parking was found",
        "It cannot be determined from the text",
        "Unable to answer",
        "I do not have enough information",
    ],
)
def test_ways_to_say_that_there_is_no_answer(text: str) -> None:
    """None of them is an answer."""
    assert abstains(text)
    assert scored(text, None, kind="token_f1", abstentions=True) == (1, "right")
    assert scored(text, None, kind="token_f1") == (0, "invented")


@pytest.mark.parametrize(
    "text",
    [
        "No",
        "None of the staff",
        "Not covered",
        "Not in winter",
        "No information security training is required",
        "The document does not need to be notarised",
        "We do not have offices in France",
        "Employees cannot find parking there",
        "I do not know for certain, but it is 30 days.",
        "Not known exactly; however, the law says 30 days",
        "30 days",
    ],
)
def test_answers_that_only_look_like_it(text: str) -> None:
    """A denial is an answer."""
    assert not abstains(text)


def test_phrases_of_the_study() -> None:
    """A list replaces the English ones: a text that is one or opens with one."""
    rules = {"kind": "normalised", "abstentions": ["keine Angabe", "weiß ich nicht"]}
    assert scored("Keine Angabe im Handbuch", None, **rules) == (1, "right")
    assert scored("Keine Angaben", None, **rules) == (0, "invented")
    assert scored("I don't know", None, **rules) == (0, "invented")


@given(
    st.sampled_from(KINDS),
    st.sampled_from([None, "", " ", "I don't know", "Not stated.", "unknown"]),
    st.sampled_from(["30 days", "I", "known", "2026-03-05", "12"]),
    st.booleans(),
)
def test_abstaining_on_an_answerable_question_scores_nothing(
    kind: str, said: str | None, expected: str, any_of: bool
) -> None:
    """Whatever words an abstention shares with the answer."""
    wanted: object = [expected, "another"] if any_of else expected
    assert scored(said, wanted, kind=kind, abstentions=True, any_of=any_of) == (0, "missing")


def test_none_is_an_answer_where_it_was_expected() -> None:
    """'How much notice in the first month?' 'None.' A label 'unknown' is a label."""
    assert scored("None.", "none", kind="exact", abstentions=True) == (0, "wrong")
    assert scored("None.", "none", kind="token_f1", abstentions=True) == (1, "right")
    assert scored("unknown", ["unknown", "unclear"], kind="exact", any_of=True, abstentions=True) == (1, "right")
    assert scored("I don't know", "none", kind="normalised", abstentions=True) == (0, "missing")


# ---- support --------------------------------------------------------------------------------------------------------

PASSAGES = (
    "Employees in Spain have 23 working days of annual leave. Up to five days may be carried over until March.",
    "Meals are reimbursed up to €45.50 per day.",
)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("23 working days", "supported"),
        ("5 days", "supported"),
        ("One meal per day", "undecided"),
        ("Employees in Spain have 23 days.", "supported"),
        ("Meals: €45.50 a day", "supported"),
        ("EUR 45.50", "supported"),
        (23, "supported"),
        (["23 working days", "five days"], "supported"),
        ("You get 25 days", "unsupported"),
        ("23 working days. Also 12 sick days.", "unsupported"),
        ("The moon is made of green cheese", "unsupported"),
        ("23 euros of annual leave in Spain", "undecided"),
        ("Employees in Spain do not have 23 days of annual leave per year", "undecided"),
        ("Unused leave may be carried over into spring", "undecided"),
        ("Yes", "undecided"),
        ("True.", "undecided"),
    ],
)
def test_support_by_hand(answer: object, verdict: str) -> None:
    """Quotes, numbers with their units, words in common; what words cannot tell is left open."""
    assert answer_support(answer, PASSAGES).verdict == verdict


def test_support_says_where() -> None:
    """A sentence each, from two passages."""
    found = answer_support("Up to five days may be carried over. Meals are reimbursed up to €45.50 per day.", PASSAGES)
    assert (found.verdict, found.passages) == ("supported", (0, 1))
    assert answer_support("23 days", []).because == "nothing was retrieved"
    assert answer_support("25 days", PASSAGES).because == "25 is in no retrieved passage"


def test_support_by_a_table() -> None:
    """Cells with commas between them are numbers of their own, and may be one number with a decimal comma."""
    line = "country,full_day,part_day\nItaly,38,25\nrelease,2026-02-16,2026-03-02"
    for answer in ("38", "25", "Italy", "2026-03-02"):
        assert answer_support(answer, [line]).verdict == "supported"
    assert answer_support("12,5 kg", ["The tank holds 12,5 kg."]).verdict == "supported"
    assert answer_support("26", [line]).verdict == "unsupported"


@given(st.sampled_from(PASSAGES), st.integers(0, 60), st.integers(1, 60))
def test_every_quote_of_whole_words_is_supported(passage: str, start: int, length: int) -> None:
    """Whatever stands in the text word for word, unless there is nothing in it to look for."""
    words = passage.split()
    quote = " ".join(words[start % len(words) :][:length]).replace(". ", " ")
    assert answer_support(quote, PASSAGES).verdict in ("supported", "undecided")


@given(TEXTS, st.lists(TEXTS, max_size=3), TEXTS)
def test_one_more_passage_never_takes_support_away(answer: str, passages: list[str], more: str) -> None:
    """What a text supports it supports among others too."""
    if answer_support(answer, passages).verdict == "supported":
        assert answer_support(answer, [*passages, more]).verdict == "supported"


@pytest.mark.realdata
@pytest.mark.parametrize(("study", "least", "most"), [("squad_mix", 0.99, 0.01), ("medquad", 1.0, 0.01)])
def test_support_of_real_answers(study: str, least: float, most: float, shared_data: Path) -> None:
    """Answers taken from a text are supported by it, and nearly none by another question's text."""
    documents, cases = (
        [json.loads(line) for line in (shared_data / study / name).read_text(encoding="utf-8").strip().split("\n")]
        for name in ("docs.jsonl", "qa.jsonl")
    )
    texts = {one["id"]: one["text"] for one in documents}
    pairs = [
        (case["expected"]["answers"][0], texts[case["meta"]["doc_id"]])
        for case in cases
        if case["expected"]["answers"] and case["meta"]["doc_id"] in texts
    ]
    own = [answer_support(answer, [text]).verdict for answer, text in pairs]
    other = [answer_support(pairs[i - len(pairs) // 2][0], [text]).verdict for i, (_, text) in enumerate(pairs)]
    assert own.count("supported") >= least * len(pairs)
    assert other.count("supported") <= most * len(pairs)

"""Training examples are looked through before they are trained on, and nothing is found that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from steelyard.approaches.tuning.audit import TrainingAudit, audit_training
from steelyard.approaches.tuning.base_model import load_base
from steelyard.approaches.tuning.examples import choose, hold_out, tokenise
from steelyard.approaches.tuning.label_suspects import confident_suspects, out_of_fold
from steelyard.approaches.tuning.repeats import without_repeats
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case
from steelyard.errors import InputError
from steelyard.models.embeddings import HashingEmbedder
from tests.approaches.test_lora import cases, prompt, target, workbench
from tests.approaches.tiny_llama import write_tiny_gguf


def bench_of(folder: Path, train: Sequence[Case]) -> Workbench:
    """The triage labels, and these train cases."""
    return workbench(folder, tuple(train))


def audited(bench: Workbench, **given: object) -> TrainingAudit:
    settings = {"max_examples": 1000, "max_tokens": 96, "seed": 0, "target": target, "where": "here", **given}
    return audit_training(bench, **settings)  # type: ignore[arg-type]


def tickets(n: int, *, seed: int = 0) -> tuple[Case, ...]:
    """Labelled tickets, no two alike; labels can be told from the words."""
    words = {"refund": "money payment order", "login": "password sign code", "card lost": "wallet street thief"}
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        label = list(words)[i % 3]
        said = " ".join(rng.permutation([*words[label].split(), *rng.choice(["a", "b", "c", "d", "e"], 3), f"n{i}"]))
        found.append(Case(id=f"t{i}", input={"text": said}, expected={"label": label}, where=f"cases.csv:{i + 2}"))
    return tuple(found)


# ------------------------------------------------------------------------------------------------ what is counted


def test_lengths_are_those_of_the_examples_that_are_trained_on(tmp_path: Path) -> None:
    """Counted without cutting, and what would be cut or left out is exactly what training cuts and leaves out."""
    long = Case(id="long", input={"text": "é" * 500}, expected={"label": "login"})
    answered = Case(id="wordy", input={"text": "hello there"}, expected={"label": "card lost"})
    some = (*cases(30), long, answered)
    base = load_base(write_tiny_gguf(tmp_path / "tiny.gguf"))

    def wordy(case: Case) -> str:
        return "no " * 60 if case.id == "wordy" else target(case)

    found = audited(bench_of(tmp_path, some), prompt=prompt, base=base, target=wordy, context_tokens=500).tokens
    assert found is not None
    assert (found.cut, found.left_out, found.over_context) == (("long",), ("wordy",), ("long",))
    distinct = without_repeats(some)
    trained = tokenise(base, distinct, prompt, wordy, max_tokens=96)
    assert (trained.n_cut, trained.n_left_out) == (len(found.cut), len(found.left_out))
    kept = [one.n_tokens for one in trained.examples if one.case_id]
    assert found.total.least == min(kept)
    assert found.total.most > 1000


def test_repeats_are_left_out_and_contradictions_stay(tmp_path: Path) -> None:
    """The same text with the same label counts once, whatever its spelling; with another label it is a question."""
    first, second, third, *rest = tickets(30)
    copies = [
        replace(first, id="copy", input={"text": f"  {first.input['text'].upper()}! "}),
        replace(second, id="other", expected={"label": "refund"}),
        replace(third, id="nothing", expected=None),
        replace(third, id="empty", input={"text": " "}),
    ]
    found = audited(bench_of(tmp_path, (first, second, third, *rest, *copies)))
    assert (found.n_labelled, found.n_unusable, found.n_repeats, found.n_examples) == (33, 1, 1, 31)
    assert sum(found.label_counts.values()) == 31
    assert {one.case_id for one in found.review} == {second.id, "other"}
    assert found.n_conflicts == 2


def test_the_counts_are_those_of_the_training(tmp_path: Path) -> None:
    """What is said to be trained and validated on is what choosing and holding out give."""
    some = tickets(90)
    found = audited(bench_of(tmp_path, some), max_examples=60)
    chosen = choose(without_repeats(some), target, at_most=60, seed=0)
    assert (found.n_examples, found.n_validation) == (60, len(hold_out(chosen, target, seed=0)[1]))


def test_personal_data_is_counted_by_kind(tmp_path: Path) -> None:
    """By occurrence and by case; numbers that are no card or account are not taken for one."""
    texts = ["write to a.b@example.org or c@example.org", "call +49 30 1234567", "invoice 2024-00012345 is late"]
    some = [replace(case, input={"text": text}) for case, text in zip(tickets(3), texts, strict=True)]
    found = audited(bench_of(tmp_path, (*some, *tickets(60)[3:])))
    assert found.personal == {"email": 2, "phone": 1}
    assert found.n_personal == 2


# ------------------------------------------------------------------------------------------------ labels to review


def test_of_a_group_that_mostly_agrees_the_odd_one_is_named(tmp_path: Path) -> None:
    """The suggestion is what the others say; its reason names one of them and where it stands."""
    text = "the parcel with the new charger never arrived at our office in the old town"
    group = [
        Case(id=f"g{i}", input={"text": text + end}, expected={"label": label}, where=f"cases.csv:{90 + i}")
        for i, (end, label) in enumerate([("", "login"), (" today", "login"), (" again", "refund")])
    ]
    (review,) = audited(bench_of(tmp_path, (*tickets(30), *group))).review
    assert (review.case_id, review.where, review.given, review.suggested) == ("g2", "cases.csv:92", "refund", "login")
    assert "'g0' (cases.csv:90), whose answer is 'login'" in review.reason


def test_wrong_labels_are_found_by_what_all_others_say(tmp_path: Path) -> None:
    """Of tickets whose words tell the label, those with a wrong one come out, with the right one suggested."""
    some = list(tickets(150))
    truth = {}
    for i in (4, 40, 77, 121):
        truth[some[i].id] = target(some[i])
        some[i] = replace(some[i], expected={"label": "refund" if target(some[i]) != "refund" else "login"})
    found = audited(bench_of(tmp_path, some), embed=HashingEmbedder())
    assert {one.case_id: one.suggested for one in found.review} == truth
    assert found.agreement is not None
    assert found.agreement > 0.9
    assert "a classifier that had not seen it gives" in found.review[0].reason


def test_rare_labels_are_not_judged(tmp_path: Path) -> None:
    """A classifier that has seen a label four times says nothing about it."""
    odd = [replace(case, id=f"o{i}", expected={"label": "login"}) for i, case in enumerate(tickets(600)[500:504])]
    many = [case for case in tickets(200) if target(case) != "login"]
    found = audited(bench_of(tmp_path, (*many, *odd)), embed=HashingEmbedder())
    assert not {one.case_id for one in found.review} & {case.id for case in odd}
    assert any("fewer than 5" in note.what and "'login' (4)" in note.what for note in found.notes)
    few = audited(bench_of(tmp_path, tickets(12)), embed=HashingEmbedder())
    assert few.not_judged == "fewer than two labels have 5 cases or more"


@st.composite
def predictions(draw: st.DrawFn) -> tuple[list[str], NDArray[np.float64], list[str]]:
    n, k = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    classes = [f"c{i}" for i in range(k)]
    return [str(one) for one in rng.choice(classes, n)], rng.dirichlet(np.full(k, 0.5), n), classes


@given(predictions())
def test_suspects_are_the_off_diagonal_of_the_confident_joint(
    drawn: tuple[list[str], NDArray[np.float64], list[str]],
) -> None:
    """One example at a time, by the definition; and the counts agree with scikit-learn's confusion matrix."""
    from sklearn.metrics import confusion_matrix

    labels, probabilities, classes = drawn
    expected = {}
    pairs = []
    for i, label in enumerate(labels):
        confident = []
        for j, name in enumerate(classes):
            of_class = [probabilities[k, j] for k in range(len(labels)) if labels[k] == name]
            if of_class and probabilities[i, j] >= np.mean(of_class):
                confident.append((probabilities[i, j], name))
        if not confident:
            continue
        p, best = max(confident, key=lambda one: one[0])
        is_likelier = p > probabilities[i, classes.index(label)]
        if best == label or is_likelier:
            pairs.append((label, best))
        if best != label and is_likelier:
            expected[i] = best
    found = confident_suspects(labels, probabilities, classes)
    assert {one.position: one.suggested for one in found} == expected
    margins = [one.p_given - one.p_suggested for one in found]
    assert margins == sorted(margins)
    if pairs:
        joint = confusion_matrix(*zip(*pairs, strict=True), labels=classes)
        assert joint.sum() - np.trace(joint) == len(found)


def test_no_classifier_sees_what_belongs_together_with_its_case() -> None:
    """A label that only one cluster carries is unknown to the classifier that judges this cluster."""
    vectors = np.random.default_rng(0).normal(size=(40, 4))
    labels = ["a", "b"] * 17 + ["only here"] * 6
    units = [[i] for i in range(34)] + [list(range(34, 40))]
    probabilities, classes = out_of_fold(vectors, labels, units, seed=0)
    assert classes == ("a", "b", "only here")
    assert (probabilities[34:, 2] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


# ------------------------------------------------------------------------------------------------ what is refused


def refusal(found: TrainingAudit) -> str:
    (problem,) = found.refusals
    return str(problem)


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    some = [replace(case, expected={"label": "login"}) for case in tickets(30)]
    assert "all 30 examples have the same answer, 'login'" in refusal(audited(bench_of(tmp_path, some)))


def test_a_label_seen_once_is_named_and_forbids_nothing(tmp_path: Path) -> None:
    some = [replace(case, expected={"label": "login" if i else "refund"}) for i, case in enumerate(tickets(30))]
    found = audited(bench_of(tmp_path, some))
    assert found.refusals == ()
    assert any("seen in a single train case, from which little can be learned: 'refund'" in n.what for n in found.notes)


def test_an_empty_answer_is_refused_with_its_place(tmp_path: Path) -> None:
    some = tickets(30)
    found = audited(bench_of(tmp_path, some), target=lambda case: "" if case.id == "t3" else target(case))
    said = [str(problem) for problem in found.refusals]
    assert said[0].startswith("cases.csv:5: 1 of 30 examples have an empty answer, first case 't3'")


def test_training_on_more_than_the_context_is_refused(tmp_path: Path) -> None:
    found = audited(bench_of(tmp_path, tickets(30)), max_tokens=4096, context_tokens=2048)
    assert "max_tokens is 4,096, and the model is served with a context of 2,048 tokens" in refusal(found)


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    assert "no labelled train case" in refusal(audited(bench_of(tmp_path, ())))


def test_twenty_examples_are_said_to_be_few(tmp_path: Path) -> None:
    (note,) = audited(bench_of(tmp_path, tickets(20))).notes
    assert "there are only 20 examples, 2 of them to validate on" in note.what
    (note,) = audited(bench_of(tmp_path, tickets(18))).notes
    assert "too few to validate on any" in note.what


def test_a_train_case_that_is_also_held_out_is_refused(tmp_path: Path) -> None:
    """In dev or in test, by id, text, cluster or a group of near-duplicates; both places are named."""
    some = tickets(30)
    held = replace(tickets(60, seed=1)[50], id="h", where="cases.csv:99")
    same_text = replace(held, input=some[3].input)
    in_dev = replace(bench_of(tmp_path, some), dev=(same_text,))
    with pytest.raises(InputError, match=r"cases\.csv:99: held-out case 'h' is also in the pool.*'t3' \(cases.csv:5\)"):
        audited(in_dev)
    with pytest.raises(InputError, match="held-out case 'h'"):
        audited(bench_of(tmp_path, some), test=(held,), groups={"h": "g", "t7": "g"})
    clustered = [replace(case, cluster="k") for case in some[:2]]
    with pytest.raises(InputError, match="held-out case 'h'"):
        audited(bench_of(tmp_path, (*clustered, *some[2:])), test=(replace(held, cluster="k"),))
    audited(bench_of(tmp_path, some), test=(held,))


def test_a_base_without_a_chat_template_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and when its tensors were kept before."""
    from gguf import GGUFWriter

    monkeypatch.setattr(GGUFWriter, "add_chat_template", lambda self, value: None)
    path = write_tiny_gguf(tmp_path / "bare.gguf")
    for _ in range(2):
        with pytest.raises(InputError, match=r"bare\.gguf: this model has no chat template"):
            load_base(path)

"""Which cases become examples."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from steelyard.approaches.examples import choose_fixed, shortened, usable_examples
from steelyard.approaches.prepare import prepare
from steelyard.approaches.prompt_spec import ChooseBy
from steelyard.approaches.spec import ApproachSpec
from steelyard.cases.case import Case
from steelyard.models.embeddings import HashingEmbedder
from tests.approaches.world import ticket, tickets, triage_task, workbench

TASK = triage_task()


def test_only_labelled_valid_cases_with_text_can_teach() -> None:
    """Unlabelled, mislabelled and empty cases are left out."""
    cases = [
        ticket("good", "hello", "refund"),
        ticket("unlabelled", "hello", None),
        ticket("unknown label", "hello", "banana"),
        ticket("empty", " \n", "refund"),
    ]
    assert [case.id for case in usable_examples(cases, TASK)] == ["good"]


def test_examples_are_spread_evenly_over_the_labels() -> None:
    """Frequent labels do not crowd out rare ones."""
    many = [ticket(f"more-{n}", f"money back number {n}", "refund") for n in range(100)]
    chosen = choose_fixed([*tickets(), *many], 6, task=TASK, seed=0)
    assert Counter(case.expected["label"] for case in chosen if case.expected) == {
        "refund": 2,
        "login": 2,
        "card lost": 2,
    }


def test_with_fewer_examples_than_labels_the_frequent_labels_come_first() -> None:
    """One example goes where most cases are."""
    many = [ticket(f"more-{n}", f"money back number {n}", "login") for n in range(10)]
    (chosen,) = choose_fixed([*tickets(), *many], 1, task=TASK, seed=0)
    assert chosen.expected == {"label": "login"}


def test_the_choice_follows_from_the_seed_and_not_from_the_order() -> None:
    """Same seed, same examples, however the file was sorted; another seed chooses others."""
    cases = [ticket(f"{n}", f"money back number {n}", "refund") for n in range(200)]
    shuffled = random.Random(1).sample(cases, len(cases))
    chosen = choose_fixed(cases, 5, task=TASK, seed=0)
    assert choose_fixed(shuffled, 5, task=TASK, seed=0) == chosen
    assert choose_fixed(cases, 5, task=TASK, seed=1) != chosen


def test_extreme_lengths_are_not_chosen_while_there_are_typical_ones() -> None:
    """A pasted log or a single word does not become the model of how inputs look."""
    cases = [ticket(f"typical {n}", "I want my money back " * (2 + n % 2), "refund") for n in range(10)]
    odd = [ticket(f"odd {n}", "x" if n % 2 else "log line " * 2000, "refund") for n in range(10)]
    chosen = choose_fixed([*odd, *cases], 5, task=TASK, seed=3)
    assert all(case.id.startswith("typical") for case in chosen)


@pytest.mark.parametrize("by", ["random", "diverse"])
def test_other_ways_follow_from_the_seed_too(by: ChooseBy) -> None:
    """Same seed, same examples, whatever the order of the file; another seed chooses others."""
    cases = [ticket(f"{n}", f"money back number {n} {'please ' * (n % 7)}", "refund") for n in range(80)]
    shuffled = random.Random(1).sample(cases, len(cases))

    def chosen(some: list[Case], seed: int) -> tuple[Case, ...]:
        return choose_fixed(some, 5, task=TASK, seed=seed, by=by, embed=HashingEmbedder())

    assert chosen(shuffled, 0) == chosen(cases, 0)
    assert chosen(cases, 1) != chosen(cases, 0)
    assert len({case.id for case in chosen(cases, 0)}) == 5
    assert len(chosen(cases[:3], 0)) == 3
    assert chosen([], 0) == ()


def test_diverse_examples_cover_what_there_is() -> None:
    """Kinds of input that random choice misses are shown: one of each before a second of any."""
    kinds = {"invoice of the plumber": 60, "cancel my flight to Oslo": 3, "PIN blocked at the till": 3}
    cases = [
        ticket(f"{kind}-{n}", f"{kind}, number {n}", "refund") for kind, many in kinds.items() for n in range(many)
    ]
    for seed in range(5):
        chosen = choose_fixed(cases, 3, task=TASK, seed=seed, by="diverse", embed=HashingEmbedder())
        assert {case.id.rpartition("-")[0] for case in chosen} == set(kinds)


def test_each_way_to_choose_is_another_approach(tmp_path: Path) -> None:
    """The way is a setting like any other: it is in the fingerprint, and it is used."""
    train = [ticket(f"{n}", f"money back number {n} {'please ' * (n % 7)}", "refund") for n in range(80)]
    bench = workbench(tmp_path, train=train)
    prints = {
        prepare("a", ApproachSpec.model_validate({"prompt": {"examples": 3, **more}}), bench).approach.fingerprint
        for more in ({}, {"choose": "random"}, {"choose": "diverse"}, {"choose": "random", "seed": 1})
    }
    assert len(prints) == 4
    with pytest.raises(ValueError, match="choose belongs to examples"):
        ApproachSpec.model_validate({"prompt": {"choose": "diverse"}})


def test_more_examples_than_cases_gives_all_of_them() -> None:
    """Asking for too many is not an error."""
    assert len(choose_fixed(tickets(), 100, task=TASK, seed=0)) == len(tickets())


def test_long_inputs_are_cut_between_words_and_say_so() -> None:
    """The cut is marked and never longer than asked; other values stay."""
    cut = shortened({"text": "alpha beta gamma delta", "n": 7}, 12)
    assert cut == {"text": "alpha …", "n": 7}
    assert shortened({"text": "short"}, 12) == {"text": "short"}
    assert len(shortened({"text": "x" * 100}, 20)["text"]) <= 20

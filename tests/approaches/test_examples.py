"""Which cases become examples."""

from __future__ import annotations

import random
from collections import Counter

from steelyard.approaches.examples import choose_fixed, shortened, usable_examples
from tests.approaches.world import ticket, tickets, triage_task

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


def test_more_examples_than_cases_gives_all_of_them() -> None:
    """Asking for too many is not an error."""
    assert len(choose_fixed(tickets(), 100, task=TASK, seed=0)) == len(tickets())


def test_long_inputs_are_cut_between_words_and_say_so() -> None:
    """The cut is marked and never longer than asked; other values stay."""
    cut = shortened({"text": "alpha beta gamma delta", "n": 7}, 12)
    assert cut == {"text": "alpha …", "n": 7}
    assert shortened({"text": "short"}, 12) == {"text": "short"}
    assert len(shortened({"text": "x" * 100}, 20)["text"]) <= 20

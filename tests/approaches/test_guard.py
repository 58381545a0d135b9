"""The guard set: checks that a program can decide, and instructions of all kinds in any part of it."""

from __future__ import annotations

import pytest

from steelyard.approaches.tuning.guard import Check, Instruction, guard_cases, guard_set, is_done


def test_the_set_is_what_the_documentation_says() -> None:
    """120 different instructions with ids of their own, each with a check."""
    found = guard_set()
    assert len(found) == 120
    assert len({one.id for one in found}) == len({one.ask for one in found}) == 120
    assert all(one.check != Check() for one in found)
    assert all(one.ask.isascii() for one in found)


def test_the_first_few_are_of_many_kinds() -> None:
    """A study that asks only some of them still asks about everything."""
    kinds = {one.kind for one in guard_set()}
    assert len(kinds) == 13
    assert len({one.kind for one in guard_set()[:20]}) == 13


@pytest.mark.parametrize("instruction", guard_set(), ids=lambda one: one.id)
def test_silence_and_a_label_do_nothing(instruction: Instruction) -> None:
    """What a model says that has learned nothing but a task's labels passes no check."""
    for said in ("", "billing_error", '{"category": "refund"}', "I cannot help with that."):
        assert not instruction.check.passes(said)


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (Check(equals=("Never give up.",)), '"never give up"', "Never give up, he said"),
        (Check(says=("hola",)), "You say ¡Hola!", "holas"),
        (Check(says=("apple", "pear", "plum"), least=2), "A pear and an apple", "An apple, an apple"),
        (Check(says_all=("north", "south")), "South, north.", "south"),
        (Check(says=("red",), says_not=("blue",)), "It is red", "red or blue"),
        (Check(says=("Málaga",)), "In Malaga", "in Mala"),
        (Check(matches=r"HELLO!?"), " HELLO! ", "Hello"),
        (Check(json={"ok": True}), '```json\n{"ok": true}\n```', '{"ok": true} is what you want'),
        (Check(json=[1, 2]), "[1,2]", "[1, 2"),
    ],
)
def test_a_check_takes_the_right_answer_and_no_other(check: Check, right: str, wrong: str) -> None:
    assert check.passes(right)
    assert not check.passes(wrong)


def test_cases_carry_the_instructions() -> None:
    """As many as are asked for, in the same order, and all that there are where more are asked for."""
    cases = guard_cases(5)
    assert [case.id for case in cases] == [f"guard/{one.id}" for one in guard_set()[:5]]
    assert len(guard_cases(1000)) == 120
    assert is_done(cases[0], "Paris, of course")
    assert not is_done(cases[0], "Lyon")

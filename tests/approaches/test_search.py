"""What a search tries, how it is planned, and what may be made of its scores."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.approaches.candidates import candidates
from steelyard.approaches.examples import expected_output, usable_examples
from steelyard.approaches.prepare import prepare
from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.prompted import Prompted
from steelyard.approaches.search import (
    MIN_FIRST_CASES,
    UNCHANGED,
    plan_search,
    smallest_budget,
)
from steelyard.approaches.search_spec import OptimiseSpec
from steelyard.approaches.spec import ApproachSpec
from steelyard.errors import InputError
from tests.approaches.played import searched, worlds
from tests.approaches.world import LABELS, ticket, tickets, triage_task, workbench

TASK = triage_task()
USABLE = usable_examples(tickets(), TASK)


def made(prompt: PromptSpec | None = None, *, right: Sequence[str] = (), **settings: object) -> list[PromptSpec]:
    """The prompts of a search."""
    spec = OptimiseSpec.model_validate(settings)
    found = candidates(prompt or PromptSpec(), spec, TASK, USABLE, right=right, where="optimise")
    return [one.prompt for one in found]


# ---- what is tried ---------------------------------------------------------------------------------------------------


def test_the_prompt_as_written_is_the_first_and_all_are_different() -> None:
    prompts = made()
    assert prompts[0] == PromptSpec()
    assert all(one != other for i, one in enumerate(prompts) for other in prompts[:i])


def test_the_same_seed_tries_the_same_and_another_one_something_else() -> None:
    assert made(seed=3) == made(seed=3)
    assert made(seed=3) != made(seed=4)


def test_the_first_few_reach_every_wording_and_many_example_sets() -> None:
    """A small budget sees each way to put the task, not one way with all example sets."""
    found = candidates(PromptSpec(), OptimiseSpec(), TASK, USABLE, right=(), where="optimise")
    wordings = {one.wording for one in found}
    assert len(wordings) == 7
    assert {one.wording for one in found[:7]} == wordings
    assert len({one.examples for one in found[:7]}) >= 6


def test_wordings_say_nothing_but_what_the_study_says(tmp_path: Path) -> None:
    """Every line of every built-in way is from the task, but for the few sentences that are the same for any task."""
    own = {"sort the ticket.", "the allowed answers:", "text:", "label:"}
    own |= {f"- {label}" for label in LABELS} | {f"- {label}: {text}" for label, text in LABELS.items()}
    own |= {"answer with exactly one of the allowed answers, spelled the same way, and nothing else."}
    own |= {"the allowed answers: " + " | ".join(LABELS)}
    general = ("you are the one who checks", "sort the ticket. answer with exactly one")
    case = ticket("new", "where is my card", None)
    for one in candidates(PromptSpec(), OptimiseSpec(examples=(0,)), TASK, USABLE, right=(), where="optimise"):
        approach = prepare("a", ApproachSpec(prompt=one.prompt), workbench(tmp_path)).approach
        assert isinstance(approach, Prompted)
        for message in approach.question.prompting.converse(case.visible()).messages:
            for line in filter(None, message.content.lower().splitlines()):
                assert line in own or line == "where is my card" or line.startswith(general), (one.wording, line)


def test_a_prompt_of_ones_own_keeps_all_its_words() -> None:
    """Built-in ways only add to a system message that was written by hand; they never replace it."""
    prompts = made(PromptSpec(system="Our house rules: {{ task.instruction }}"), examples=[0])
    assert len(prompts) > 2
    assert all("Our house rules" in (one.system or "") for one in prompts)


def test_own_instructions_stand_in_place_of_the_task_s() -> None:
    prompts = made(instructions=["File this ticket."], examples=[0])
    assert len(prompts) == 2
    assert "File this ticket." in (prompts[1].system or "")
    assert "labels" in (prompts[1].system or "")


def test_example_sets_are_of_the_sizes_asked_for_and_of_train_cases_alone() -> None:
    prompts = made(instructions=0, examples=[2, 3], example_sets=3, orders=2)
    assert {len(one.example_ids) for one in prompts} == {0, 2, 3}
    assert {name for one in prompts for name in one.example_ids} <= {case.id for case in USABLE}
    assert len(prompts) > 9


def test_bootstrapped_sets_are_filled_with_what_was_answered_right_first() -> None:
    right = [case.id for case in USABLE if case.id.endswith("-1")]
    spec = OptimiseSpec(instructions=0, examples=(4,), example_sets=2, orders=1)
    found = candidates(PromptSpec(), spec, TASK, USABLE, right=right, where="optimise")
    (bootstrapped,) = [one for one in found if "3 answered right" in one.examples]
    assert set(right) < set(bootstrapped.prompt.example_ids)
    assert len(bootstrapped.prompt.example_ids) == 4


def test_named_examples_are_shown_in_the_order_given(tmp_path: Path) -> None:
    ids = ("login-2", "refund-0")
    approach = prepare("a", ApproachSpec(prompt=PromptSpec(example_ids=ids)), workbench(tmp_path)).approach
    assert isinstance(approach, Prompted)
    messages = approach.question.prompting.converse(ticket("new", "hello", None).visible()).messages
    shown = [message.content for message in messages if message.role == "assistant"]
    assert shown == [expected_output(case, TASK)["label"] for name in ids for case in USABLE if case.id == name]


def test_an_example_that_is_no_train_case_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'login-9' is no train case.*\n.*did you mean 'login-"):
        prepare("a", ApproachSpec(prompt=PromptSpec(example_ids=("login-9",))), workbench(tmp_path))


# ---- the plan --------------------------------------------------------------------------------------------------------


@given(
    n_candidates=st.integers(2, 200),
    n_dev=st.integers(1, 500),
    budget=st.integers(1, 3000),
    per_case=st.integers(1, 8),
    n_trials=st.integers(0, 60),
)
def test_a_plan_never_exceeds_its_budget(
    n_candidates: int, n_dev: int, budget: int, per_case: int, n_trials: int
) -> None:
    """Whatever the sizes: counted one by one, the calls of all rounds and trials stay within the budget."""
    plan = plan_search(n_candidates, n_dev, budget_calls=budget, calls_per_case=per_case, n_trials=n_trials)
    if plan is None:
        assert budget < smallest_budget(n_dev, calls_per_case=per_case)
        return
    asked, done = 0, 0
    for one in plan.rounds:
        asked += one.n_candidates * (one.n_cases - done)
        assert done < one.n_cases <= n_dev
        done = one.n_cases
    assert (asked + plan.n_trials) * per_case == plan.most_calls <= budget
    assert 2 <= plan.n_candidates <= n_candidates
    assert plan.rounds[0].n_cases >= min(MIN_FIRST_CASES, n_dev)
    sizes = [one.n_candidates for one in plan.rounds]
    assert sizes == sorted(sizes, reverse=True)


def test_the_search_finds_one_of_the_best_and_keeps_to_its_budget() -> None:
    """Twelve prompts of which two are clearly better: at 300 calls one of the two is found nearly always."""
    draw = random.Random(5)
    qualities = [0.5, 0.75, 0.73, *[0.5, 0.48, 0.45, 0.42, 0.4, 0.35, 0.3, 0.5, 0.47]]
    plan = plan_search(len(qualities), 200, budget_calls=300)
    assert plan is not None
    n_found = 0
    for _ in range(200):
        best, now, asked = searched(plan, worlds(qualities, 200, draw), [100] * len(qualities))
        assert asked == plan.n_dev_outcomes <= 300
        assert UNCHANGED in now.left
        n_found += best in (1, 2)
    assert n_found >= 180


def test_of_equal_prompts_the_shorter_one_goes_on_and_the_written_one_stays() -> None:
    """No difference in scores is no reason to change anything."""
    plan = plan_search(6, 40, budget_calls=200)
    assert plan is not None
    answers = [[1.0, 0.0] * 20] * 6
    best, now, _ = searched(plan, answers, [500, 40, 90, 30, 80, 70])
    assert best == UNCHANGED
    assert 3 in now.left


def test_unscored_cases_count_neither_for_nor_against() -> None:
    plan = plan_search(2, 8, budget_calls=16)
    assert plan is not None
    nan = float("nan")
    best, _, _ = searched(plan, [[1, 0] * 4, [1, nan] * 4], [10, 10])
    assert best == 1

"""One tuned approach of a study before anything is trained: its settings, its prompt, its wanted answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from steelyard.approaches.asking import Asking
from steelyard.approaches.prepare import prepare
from steelyard.approaches.prompting import Prompting
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.tuning.taught import taught, training_cases
from steelyard.approaches.workbench import Workbench
from steelyard.approaches.workflow.flow import Flow
from steelyard.approaches.workflow.learned import learned_question, learned_step
from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem
from steelyard.study.running import Plan, workbench
from steelyard.study.till import StudyTill
from steelyard.study.trainable import label_of

if TYPE_CHECKING:
    from steelyard.approaches.tuning.examples import PromptOf, TargetOf


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """One tuned approach before it is trained."""

    spec: ApproachSpec
    bench: Workbench
    method: str
    where: str
    max_examples: int
    max_tokens: int | None
    seed: int
    context_tokens: int | None
    target: TargetOf
    prompt: PromptOf | None
    """`None` for a head, which is asked nothing."""

    def without_distilled(self) -> Ground:
        """The same with labels of people alone."""
        return replace(self, bench=replace(self.bench, distilled=()))

    @property
    def learnt(self) -> Workbench:
        """The bench with all that is learned from in the place of the train split: labels of people, then of teachers."""
        assert self.spec.tuning is not None, "refused before"
        return taught(self.bench, self.spec.tuning)

    @property
    def cases(self) -> tuple[Case, ...]:
        """What is trained and validated on, before a sample is taken."""
        assert self.spec.tuning is not None, "refused before"
        return training_cases(self.bench, self.spec.tuning)


def ground_of(plan: Plan, approach: str, say: Callable[[str], None], till: StudyTill | None = None) -> Ground:
    """Everything that is known of a tuned approach before it is trained.

    Args:
        plan: Holds the approach.
        approach: Its name.
        say: Shows progress.
        till: Counts what is paid, where the training costs money.

    Raises:
        InputError: The approach is not tuned, or asks in several steps.
    """
    where = f"study.yaml:approaches.{approach}"
    if approach in plan.cascades:
        cascade = plan.cascades[approach]
        hint = f"tune one of its approaches: {cascade.first}, {cascade.then}"
        raise InputError(
            Problem(what=f"{approach!r} is a cascade, which learns nothing itself", where=where, hint=hint)
        )
    spec = plan.specs[approach]
    if spec.tuning is None:
        tuned = [name for name, one in plan.file.approaches.items() if one.tuning is not None]
        hint = f"tuned approaches of this study: {', '.join(tuned)}" if tuned else "add tuning: {method: lora}"
        raise InputError(Problem(what=f"approach {approach!r} is not tuned", where=where, hint=hint))
    bench = workbench(plan, say=say, till=till)
    is_head = spec.tuning.method == "head"
    prompting = None if is_head else deployed_prompting(approach, spec, bench)
    facts = bench.endpoints.get(spec.model)
    return Ground(
        spec=spec,
        bench=bench,
        method=spec.tuning.method,
        where=f"{where}.tuning",
        max_examples=spec.tuning.max_examples,
        max_tokens=spec.tuning.max_tokens if spec.tuning.method == "lora" else None,
        seed=spec.tuning.seed,
        context_tokens=facts.context_tokens if facts is not None and not is_head else None,
        target=label_of(bench.task) if prompting is None else prompting.target,
        prompt=None if prompting is None else lambda case: prompting.converse(case).messages,
    )


def deployed_prompting(name: str, spec: ApproachSpec, bench: Workbench) -> Prompting:
    """How a tuned approach says a case to its model, before anything is trained.

    Raises:
        InputError: It asks in several steps, and there is not one question to learn.
    """
    where = f"study.yaml:approaches.{name}"
    plain = prepare(name, spec.model_copy(update={"tuning": None}), bench).approach
    question, said = learned_question(plain, where=where), spec.prompt
    if isinstance(plain, Flow):
        assert spec.workflow is not None
        assert spec.workflow.steps is not None, "the parts of a split are several questions"
        step = learned_step(plain, where=where)
        said = spec.workflow.steps[step].prompt or said
    prompting = question.prompting
    asking = Asking(
        bench=bench,
        endpoint=spec.model,
        facts=bench.endpoints[spec.model],
        choose_examples=prompting.choose_examples,
        find_passages=prompting.find_passages,
    )
    tuned = asking.question(said, question.task, where=where, short=True)
    return replace(prompting, text=tuned.prompting.text)

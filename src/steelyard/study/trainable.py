"""What forbids a training is found before anything is prepared, so before anything is paid for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from steelyard.approaches.examples import expected_output, usable_examples
from steelyard.approaches.tuning.audit import training_refusals
from steelyard.approaches.tuning.repeats import without_repeats
from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem

if TYPE_CHECKING:
    from steelyard.approaches.spec import ApproachSpec
    from steelyard.study.file import StudyFile
    from steelyard.task.task import Task


def refuse_untrainable(
    specs: Mapping[str, ApproachSpec],
    *,
    file: StudyFile,
    task: Task,
    train: tuple[Case, ...],
    distilled: tuple[Case, ...] = (),
) -> None:
    """Refuse approaches that cannot be trained on the train split; those that train nothing are not looked at.

    Leakage is not looked for here: no study opens whose splits touch (`study.material`).

    Args:
        specs: The approaches that are about to be prepared.
        file: Says how long the context of each model is.
        task: What the cases are of.
        train: The train split.
        distilled: What a teacher labelled, for those that learn from it.

    Raises:
        InputError: All that forbids training any of them: one answer only, empty answers, no labelled
            case at all, or examples that the served model could never be asked.
    """
    tuned = {name: spec for name, spec in specs.items() if spec.tuning is not None}
    if not tuned:
        return
    by_people = without_repeats(usable_examples(train, task))
    by_all = without_repeats(usable_examples((*train, *distilled), task)) if distilled else by_people
    problems: dict[tuple[str, str | None], Problem] = {}
    for name, spec in tuned.items():
        assert spec.tuning is not None
        found = training_refusals(
            by_all if spec.tuning.distilled > 0 else by_people,
            label_of(task),
            max_tokens=spec.tuning.max_tokens if spec.tuning.method == "lora" else None,
            context_tokens=_context_tokens(spec.model, file),
            where=f"study.yaml:approaches.{name}.tuning",
        )
        for problem in found:
            problems.setdefault((problem.what, problem.where), problem)
    if problems:
        raise InputError(problems.values())


def label_of(task: Task) -> Callable[[Case], str]:
    """The wanted answer of a case as one text: its label where there is one, else all expected fields."""

    def label(case: Case) -> str:
        values = expected_output(case, task)
        (value,) = values.values() if len(values) == 1 else (values,)
        return value if isinstance(value, str) else json.dumps(value, sort_keys=True)

    return label


# Private


def _context_tokens(model: str, file: StudyFile) -> int | None:
    if model == "local":
        return file.models.local.context_tokens
    endpoint = file.models.endpoints.get(model)
    return endpoint.context_tokens if endpoint is not None else None

"""How the outcomes of a study are scored: with its judges, embeddings and functions at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from steelyard.approaches.approach import Answer, Ask
from steelyard.cases.case import Case
from steelyard.engine.run import Score
from steelyard.models.calls import Attempt, ChatRequest
from steelyard.models.embeddings import Embed
from steelyard.task.field_scorers import Means
from steelyard.task.judge import judge
from steelyard.task.scorers import Scored, score_output
from steelyard.task.task import Task


def judges_of(task: Task) -> frozenset[str]:
    """Names of the models that judge some field of the task."""
    return frozenset(one.model for one in (task.scoring or {}).values() if one.kind == "judge")


def scorer(task: Task, *, embedder: Callable[[], Embed], enforces_schema: Mapping[str, bool]) -> Score:
    """The scorer a run uses.

    Args:
        task: Says how each field is compared.
        embedder: Makes the embedder, asked for once and only where texts are compared by likeness.
        enforces_schema: By model: whether its endpoint enforces a schema.
    """
    judged = {name: one for name, one in (task.scoring or {}).items() if one.kind == "judge"}
    likeness = _Likeness(cache(embedder))

    async def score(answer: Answer, case: Case, ask: Ask) -> Scored:
        async def ask_judge(request: ChatRequest) -> Attempt:
            return await ask(request, step="judge")

        output, expected = answer.output or {}, case.expected or {}
        marks: dict[str, float | None] = {}
        for name, scoring in judged.items():
            if _is_there(output.get(name)) and _is_there(expected.get(name)):
                marks[name] = await judge(
                    name,
                    output[name],
                    expected[name],
                    scoring,
                    instruction=task.instruction,
                    ask=ask_judge,
                    native_schema=enforces_schema.get(scoring.model, False),
                )
        means = Means(likeness=likeness, functions=task.functions, marks=marks)
        return score_output(answer.output, case.expected, task, means=means)

    return score


# ---- private --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Likeness:
    """Cosine of two texts' embeddings."""

    embedder: Callable[[], Embed]

    def __call__(self, one: str, other: str) -> float:
        left, right = self.embedder().embed([one, other])
        return float(np.dot(left, right) / max(float(np.linalg.norm(left) * np.linalg.norm(right)), 1e-12))


def _is_there(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return value is not None and value not in ("", [])

"""The approach that asks a generative model one question: prompt, examples, checks and tuned adapter are settings of it.

Without a workflow there is exactly one call; with one, an answer that cannot be used is asked again. How a question is
asked is in `steelyard.approaches.question`; workflows of several steps are in `steelyard.approaches.workflow.flow`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from steelyard.approaches.approach import Answer, Ask
from steelyard.approaches.question import Question
from steelyard.approaches.spec import ApproachSpec, Lever
from steelyard.cases.case import CaseInput

BEHAVIOUR = 1
"""Raised by one whenever this module, the asking, or the reading of answers, changes what an approach would do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompted:
    """One prepared way to ask a model."""

    name: str
    levers: frozenset[Lever]
    fingerprint: str
    question: Question

    @property
    def endpoint(self) -> str:
        """Where the question goes."""
        return self.question.endpoint

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        """Ask, read, and where a workflow says so repair."""
        reply = await self.question.put(case, ask)
        return Answer(
            output=reply.output,
            valid=reply.valid,
            schema_pass=reply.as_it_came,
            problem=reply.problem,
            sources=reply.sources,
            notes=reply.notes,
            confidence=reply.confidence,
        )


def fingerprint(
    spec: ApproachSpec, *, question: Question, model: str, index: str | None = None, adapter: str | None = None
) -> str:
    """Digest of everything that can change a prompted approach's answers.

    Args:
        spec: The approach as declared.
        question: Its compiled prompt with task, fixed examples and checks.
        model: Identity of the model behind the endpoint.
        index: Digest of the example index.
        adapter: Digest of the LoRA adapter.

    Returns:
        32 hexadecimal characters, the same in every process.
    """
    body: list[Any] = [
        "prompted",
        BEHAVIOUR,
        spec.model_dump(mode="json"),
        question.digest_parts(),
        model,
        index,
        adapter,
    ]
    return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()

"""A bare model as an approach to the guard set: it is asked the instruction and nothing else.

So a base model and what was tuned from it go through the engine as every approach does, as they are served: journalled,
priced, under the budget, paid once. What they do is scored by `guard.is_done`.
"""

from __future__ import annotations

from dataclasses import dataclass

from steelyard.approaches.approach import Answer, Ask
from steelyard.approaches.spec import Lever
from steelyard.approaches.tuning.guard import MAX_TOKENS
from steelyard.approaches.tuning.store import content_digest
from steelyard.cases.case import CaseInput
from steelyard.models.calls import ChatRequest, Message

_RECIPE = 1
"""Counts up when a change here would have the models asked something else."""


def guard_fingerprint(*model: str | None) -> str:
    """Digest of everything that can change what a model does with the guard set, where `model` says which it is."""
    return content_digest([_RECIPE, *model, MAX_TOKENS])


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardedModel:
    """One model, asked instructions."""

    name: str
    fingerprint: str
    """Made by `guard_fingerprint`."""
    endpoint: str
    adapter: str | None = None
    """Digest of the LoRA adapter to use."""
    model: str | None = None
    """What the host calls it, where that is not the endpoint's own model."""
    levers: frozenset[Lever] = frozenset()

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        """Ask the instruction; whatever text comes is the output."""
        attempt = await ask(
            ChatRequest(
                endpoint=self.endpoint,
                messages=(Message("user", case.fields["instruction"]),),
                max_tokens=MAX_TOKENS,
                seed=0,
                adapter=self.adapter,
                extra={"model": self.model} if self.model else {},
            ),
            step="guard",
        )
        if not attempt.status.has_text:
            return Answer(output=None, valid=False, schema_pass=False, problem=attempt.error or str(attempt.status))
        return Answer(output={"text": attempt.text}, valid=True, schema_pass=True)

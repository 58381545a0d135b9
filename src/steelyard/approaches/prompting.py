"""How a case becomes a conversation; the same for training, for search and for the deployed prompt.

The conversation is the system message, the fixed examples, the nearest examples (most similar last) and the case, in
this order: what stays the same comes first, so that a provider's prefix cache can hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from steelyard.approaches.approach import Ask
from steelyard.approaches.examples import expected_output, shortened
from steelyard.approaches.images import load_images
from steelyard.approaches.templates import PromptText
from steelyard.cases.case import Case, CaseInput
from steelyard.models.calls import Message
from steelyard.task.task import Task

ChooseExamples = Callable[[CaseInput], Sequence[Case]]
"""The examples for one case, most similar first; never the case itself."""


class LookedUp(NamedTuple):
    """What was found in documents for a case."""

    sources: tuple[str, ...] = ()
    """Ids of the passages, best first."""
    shown: tuple[Mapping[str, Any], ...] = ()
    """The passages as templates see them."""
    notes: tuple[str, ...] = ()
    """What the look-up had to do without."""
    problem: str | None = None
    """Why the case cannot be looked up at all."""


class FindPassages(Protocol):
    """Looks documents up for a case."""

    async def passages(self, case: CaseInput, ask: Ask, steps: Mapping[str, Any] | None = None) -> LookedUp:
        """What is found; models are asked through `ask`, and what they fail to do is a note.

        Args:
            case: What the model sees.
            ask: The engine's door to models.
            steps: Outputs of earlier steps by name.
        """
        ...

    def passages_without_asking(self, case: CaseInput) -> LookedUp:
        """The same where there is no engine, as for training.

        Raises:
            InputError: A model would have to be asked, or the case cannot be looked up.
        """
        ...


class Conversation(NamedTuple):
    """What is said to the model about one case."""

    messages: tuple[Message, ...]
    sources: tuple[str, ...]
    """Ids of the passages that were found for it, or else of the cases that were chosen, best first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompting:
    """Everything a conversation is made of, but the case."""

    text: PromptText
    task: Task
    fixed: tuple[Case, ...] = ()
    choose_examples: ChooseExamples | None = None
    find_passages: FindPassages | None = None
    """Only where the template shows them."""
    example_chars: int = 400
    folder: Path = Path()
    """The study folder, which paths of pictures start from."""

    async def look_up(self, case: CaseInput, ask: Ask, steps: Mapping[str, Any] | None = None) -> LookedUp | None:
        """What documents say of a case; `None` where the prompt shows none."""
        return await self.find_passages.passages(case, ask, steps) if self.find_passages is not None else None

    def converse(
        self, case: CaseInput, steps: Mapping[str, Any] | None = None, found: LookedUp | None = None
    ) -> Conversation:
        """The conversation up to the answer.

        A train case is never its own example, so that training on these conversations does not show the answer.

        Args:
            case: What the model sees.
            steps: Outputs of earlier steps, for the user message about the case itself; examples have none.
            found: What was looked up for it; left out, that is done here, without asking a model.

        Raises:
            InputError: The template cannot be filled in with this case, a picture of it cannot be read, or a model would
                have to be asked to look it up.
        """
        fixed = [example for example in self.fixed if example.id != case.id]
        fixed_ids = {example.id for example in fixed}
        nearest = self.choose_examples(case) if self.choose_examples is not None else ()
        added = [example for example in reversed(nearest) if example.id not in fixed_ids]
        messages = [Message("system", self.text.system)] if self.text.system else []
        messages += self.text.turns
        for example in (*fixed, *added):
            known = {name: expected_output(example, self.task) for name in steps or ()}
            said = self.text.user(shortened(example.input, self.example_chars, keep=self.task.image_fields), known)
            messages.append(Message("user", said, images=self._images(example.input)))
            messages.append(Message("assistant", self.target(example)))
        sources = tuple(example.id for example in nearest)
        shown: Sequence[Mapping[str, Any]] | None = None
        if self.find_passages is not None:
            looked_up = found if found is not None else self.find_passages.passages_without_asking(case)
            shown, sources = looked_up.shown, looked_up.sources
        messages.append(Message("user", self.text.user(case.fields, steps, shown), images=self._images(case.fields)))
        return Conversation(tuple(messages), sources)

    def target(self, case: Case) -> str:
        """The answer the model should give for a labelled case."""
        return self.text.target(expected_output(case, self.task))

    def with_schema(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The conversation with the output schema in its system message, for an endpoint that does not enforce it."""
        if messages[0].role != "system":
            return (Message("system", self.text.schema_text), *messages)
        first = messages[0]
        return (first._replace(content=f"{first.content}\n\n{self.text.schema_text}"), *messages[1:])

    def digest_parts(self) -> list[Any]:
        """Everything about the conversation, the index of nearest examples apart, that can change an answer."""
        text = self.text
        fixed = [case.digest() for case in self.fixed]
        said = [self.task.digest(), text.system, text.user_source, text.form, text.reminder, fixed]
        return [*said, [list(turn[:2]) for turn in text.turns]] if text.turns else said

    def _images(self, fields: Mapping[str, Any]) -> tuple[Any, ...]:
        return load_images(fields, self.task.image_fields, self.folder)

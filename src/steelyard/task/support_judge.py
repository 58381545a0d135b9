"""A model as judge of what the quote check leaves undecided: does an answer follow from what was retrieved?"""

from __future__ import annotations

from collections.abc import Sequence

from steelyard.task.judge import AskJudge, judge
from steelyard.task.spec import FieldScoring

RUBRIC = """\
"expected" holds passages of documents, numbered, and "answer" what somebody answered who was shown them.
Mark 1 if everything the answer says follows from the passages, in whatever words.
Mark 0 if any of it does not, or contradicts them, however true it may be elsewhere."""


async def support_mark(
    field: str,
    answer: object,
    passages: Sequence[str],
    *,
    model: str,
    instruction: str,
    ask: AskJudge,
    native_schema: bool,
) -> float | None:
    """How far an answer follows from passages, as a model judges it.

    Args:
        field: Field of the output that holds the answer.
        answer: Its value.
        passages: What was retrieved, best first; a long text is cut, as for any judge.
        model: Name of the endpoint that judges.
        instruction: What the task asks for.
        ask: The engine's door.
        native_schema: Whether that endpoint enforces a schema.

    Returns:
        0..1, or `None` where no verdict could be read.
    """
    shown = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(passages, 1))
    scoring = FieldScoring(kind="judge", rubric=RUBRIC, model=model)
    return await judge(field, answer, shown, scoring, instruction=instruction, ask=ask, native_schema=native_schema)

"""A scripted stand-in for the engine's `ask`, for tests of approaches; public, so that anyone can test their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest, ToolCall


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One call an approach made."""

    request: ChatRequest
    step: str
    extra: bool


@dataclass(slots=True)
class ScriptedAsk:
    """Answers from a script and writes down what it was asked; the last entry answers all further calls.

    A `str` is an answer, a list of `ToolCall` a request for tools, an `AttemptStatus` a call that ended that way without text (`TRUNCATED`: with some), an
    `Attempt` comes back as it is, and an exception is raised.
    """

    script: Sequence[str | list[ToolCall] | AttemptStatus | Attempt | BaseException]
    asked: list[Asked] = field(default_factory=list)

    async def __call__(self, request: ChatRequest, *, step: str = "answer", extra: bool = False) -> Attempt:
        """Take the next entry of the script."""
        entry = self.script[min(len(self.asked), len(self.script) - 1)]
        self.asked.append(Asked(request=request, step=step, extra=extra))
        if isinstance(entry, BaseException):
            raise entry
        if isinstance(entry, Attempt):
            return entry
        status, text = AttemptStatus.ANSWERED, ""
        tool_calls: tuple[ToolCall, ...] = ()
        if isinstance(entry, AttemptStatus):
            status, text = entry, "cut of" if entry is AttemptStatus.TRUNCATED else ""
        elif isinstance(entry, str):
            text = entry
        else:
            status, tool_calls = AttemptStatus.CALLED_TOOLS, tuple(entry)
        return Attempt(
            digest=f"scripted-{len(self.asked)}",
            endpoint=request.endpoint,
            model="scripted",
            status=status,
            text=text,
            tool_calls=tool_calls,
            error=None
            if status in (AttemptStatus.ANSWERED, AttemptStatus.CALLED_TOOLS)
            else f"scripted: {status.value}",
            latency_s=0.0,
            price_usd=0.0,
            step=step,
            extra=extra,
        )

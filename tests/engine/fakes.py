"""Hand-written stand-ins shared by the engine's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from steelyard.approaches.approach import Answer, Ask
from steelyard.approaches.spec import Lever
from steelyard.cases.case import Case, CaseInput
from steelyard.engine.limits import ManagedEndpoint
from steelyard.figures import Provenance
from steelyard.models.calls import AttemptStatus, ChatRequest, Message
from steelyard.models.endpoint import EndpointFault, Price, Response
from steelyard.models.http import hosted
from steelyard.models.spec import EndpointSpec, PriceSpec
from steelyard.task.scorers import Scored

CPU = Price(cpu_hour_usd=0.05, provenance=Provenance(kind="assumed", source="test"))
TOKENS = Price(
    input_per_million_usd=1.0, output_per_million_usd=2.0, provenance=Provenance(kind="assumed", source="test")
)
UNKNOWN = Price(provenance=Provenance(kind="assumed", source="test"))


@dataclass
class OnePrompt:
    """Asks once with the case's text; asks again, marked as extra, while the answer has no text and tries are left."""

    name: str = "one-prompt"
    fingerprint: str = "f1"
    endpoint: str | None = "stub"
    levers: frozenset[Lever] = frozenset((Lever.PROMPT,))
    n_repairs: int = 0
    max_tokens: int = 16
    seed: int | None = None

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        request = ChatRequest(
            endpoint=self.endpoint or "",
            messages=(Message("user", str(case.fields["text"])),),
            max_tokens=self.max_tokens,
            seed=self.seed,
        )
        attempt = await ask(request)
        for _ in range(self.n_repairs):
            if attempt.status is AttemptStatus.ANSWERED:
                break
            attempt = await ask(request, step="repair", extra=True)
        valid = attempt.status is AttemptStatus.ANSWERED
        return Answer(
            output={"label": attempt.text} if valid else None, valid=valid, schema_pass=valid, problem=attempt.error
        )


@dataclass
class FakeEndpoint:
    """Answers from a function of the request; counts what it was sent."""

    reply: Callable[[ChatRequest], Response | EndpointFault]
    price: Price = TOKENS
    name: str = "stub"
    model: str = "fake"
    context_tokens: int | None = None
    delay_s: float = 0.0
    sent: list[ChatRequest] = field(default_factory=list)

    async def send(self, request: ChatRequest, *, timeout_s: float) -> Response:
        self.sent.append(request)
        await asyncio.sleep(self.delay_s)
        result = self.reply(request)
        if isinstance(result, EndpointFault):
            raise result
        return result

    async def close(self) -> None:
        """Nothing to give up."""


def says(text: str = "ok", *, prompt_tokens: int = 5, completion_tokens: int = 2) -> Response:
    """A good answer."""
    return Response(
        status=AttemptStatus.ANSWERED, text=text, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens
    )


def cases(n: int, *, text: str = "ticket") -> list[Case]:
    """Cases with different texts that all expect `ok`."""
    return [Case(id=f"c{i}", input={"text": f"{text} {i}"}, expected={"label": "ok"}) for i in range(n)]


async def score(answer: Answer, case: Case, ask: Ask) -> Scored:
    """1 for the expected output, else 0."""
    return Scored(score=float(answer.output == case.expected))


def stub_endpoint(url: str, *, model: str = "stub", key_env: str | None = None, **limits: float) -> ManagedEndpoint:
    """A managed HTTP endpoint for the stub server."""
    spec = EndpointSpec(
        base_url=url, model=model, api_key_env=key_env, price_per_million=PriceSpec(input=1.0, output=2.0)
    )
    settings = {"max_retries": 1, "timeout_s": 5.0, "concurrency": 16} | limits
    return ManagedEndpoint(endpoint=hosted("stub", spec), **settings)  # type: ignore[arg-type]

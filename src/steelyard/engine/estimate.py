"""What a run would ask and cost, before anything is sent.

Each approach is asked to answer a sample of the cases that are left, with a door that notes the first request and
ends the task there. So a first call is known as it would be sent, but what comes after it (a repair, a second step, a
vote) depends on answers nobody has: the estimate is of first calls only and says so, while the budget stays a ceiling
on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from steelyard.approaches.approach import Ask
from steelyard.approaches.retrieval.queries import QUERY_STEP
from steelyard.engine.ask import GIVEN_UP, Calls
from steelyard.engine.budget import Budget, most_usd
from steelyard.engine.journal import Journal
from steelyard.engine.limits import ManagedEndpoint, likely_prompt_tokens
from steelyard.engine.run import Work
from steelyard.errors import SteelyardError
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest
from steelyard.models.operations import text_of_vectors

_SAMPLE = 100
"""Cases per approach that are rendered; the rest is taken to be like them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApproachEstimate:
    """What one approach would ask on the cases it has left; first calls only."""

    approach: str
    endpoint: str | None
    n_cases: int
    """Cases and repeats left to do."""
    n_first_calls: int
    """First calls that would be sent, with those that look passages up for them; more follow where an approach takes
    several steps or repairs."""
    n_replayed: int
    """First calls whose answer is in the journal already and costs nothing."""
    prompt_tokens: int
    """About, at four characters a token."""
    most_completion_tokens: int
    """The token limits of these calls added up."""
    likely_usd: float | None
    """Price of these tokens with full-length answers; `None` when no price is known."""
    most_usd: float | None
    """Upper bound with every transport retry and a token per byte; this is what the budget sets aside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a run would ask and cost."""

    approaches: tuple[ApproachEstimate, ...]

    @property
    def n_first_calls(self) -> int:
        """First calls of all approaches."""
        return sum(one.n_first_calls for one in self.approaches)

    @property
    def likely_usd(self) -> float | None:
        """Price of all first calls; `None` when one is unknown."""
        prices = [one.likely_usd for one in self.approaches]
        known = [price for price in prices if price is not None]
        return sum(known) if len(known) == len(prices) else None


class _FirstRequest(BaseException):
    """Ends a task at its first request; no `Exception`, so that no approach takes it for a fault it may handle."""


async def dry_run(
    work: Sequence[Work],
    *,
    endpoints: Mapping[str, ManagedEndpoint],
    journal: Journal | None,
    dimensions: Mapping[str, int] | None = None,
) -> Estimate:
    """Estimate a run; sends nothing and writes nothing.

    Args:
        work: As for `run`.
        endpoints: As for `run`.
        journal: What is done already; `None` before the first run.
        dimensions: Numbers in a vector, by endpoint that embeds.
    """
    return Estimate(approaches=tuple([await _estimate(one, endpoints, journal, dimensions or {}) for one in work]))


async def _estimate(
    work: Work,
    endpoints: Mapping[str, ManagedEndpoint],
    journal: Journal | None,
    dimensions: Mapping[str, int],
) -> ApproachEstimate:
    if journal is None:
        left = [(case, "", repeat) for repeat in range(work.repeats) for case in work.cases]
    else:
        left = list(work.left(journal))
    step = max(1, -(-len(left) // _SAMPLE))
    sample = left[::step]
    calls = Calls(endpoints=endpoints, journal=journal, budget=Budget()) if journal is not None else None
    n_calls = n_replayed = prompt_tokens = completion_tokens = 0
    likely: float | None = 0.0
    most: float | None = 0.0
    for case, _, repeat in sample:
        noted: list[ChatRequest] = []
        try:
            await work.approach.answer(case.visible(), _noting(noted, dimensions))
        except _FirstRequest:
            pass
        except SteelyardError:
            raise
        except Exception:  # noqa: BLE001, S112 - it would crash in the run as well, without a call
            continue
        for request in noted:
            managed = endpoints[request.endpoint]
            known = None if calls is None or journal is None else journal.lookup(calls.digest(request, repeat=repeat))
            if known is not None and known.status not in GIVEN_UP:
                n_replayed += 1
                continue
            n_calls += 1
            tokens = likely_prompt_tokens(request)
            prompt_tokens += tokens
            completion_tokens += request.max_tokens
            # A second is a guess for a call on this machine; only there do seconds count.
            price = managed.endpoint.price.of_call(
                prompt_tokens=tokens, cached_tokens=0, completion_tokens=request.max_tokens, seconds=1.0
            )
            bound = most_usd(request, managed)
            likely = None if likely is None or price is None else likely + price
            most = None if most is None or bound is None else most + bound
    scale = len(left) / len(sample) if sample else 0.0
    return ApproachEstimate(
        approach=work.approach.name,
        endpoint=work.approach.endpoint,
        n_cases=len(left),
        n_first_calls=round(n_calls * scale),
        n_replayed=round(n_replayed * scale),
        prompt_tokens=round(prompt_tokens * scale),
        most_completion_tokens=round(completion_tokens * scale),
        likely_usd=None if likely is None else likely * scale,
        most_usd=None if most is None else most * scale,
    )


def _noting(noted: list[ChatRequest], dimensions: Mapping[str, int]) -> Ask:
    """A door that notes requests; steps side by side all come to theirs before the first one's end reaches them.

    Embeddings, rankings and written queries get an answer that says nothing, so that the chat they serve is counted too:
    passages found with it are about as long as those that would be found.
    """

    async def note(request: ChatRequest, *, step: str = "answer", extra: bool = False) -> Attempt:
        noted.append(request)
        match request.operation:
            case "embed":
                shape = (len(request.messages), dimensions.get(request.endpoint, 1))
                text = text_of_vectors(np.ones(shape, dtype=np.float32))
            case "rerank":
                text = orjson.dumps([0.0] * (len(request.messages) - 1)).decode()
            case "chat" if step == QUERY_STEP:
                text = ""
            case _:
                raise _FirstRequest
        return Attempt(
            digest="",
            endpoint=request.endpoint,
            model="",
            status=AttemptStatus.ANSWERED if text else AttemptStatus.EMPTY,
            text=text,
            latency_s=0.0,
            price_usd=None,
            step=step,
        )

    return note

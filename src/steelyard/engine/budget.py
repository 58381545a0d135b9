"""The budget is a ceiling: no call starts that could take the study over it.

Before a call starts, the most it can cost is set aside; when it has ended, what it did cost takes that place. A call
that does not fit waits while others are in flight, since those may turn out cheaper than feared, and is refused only
when nothing is left to wait for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson

from steelyard.engine.entries import Spent
from steelyard.engine.limits import ManagedEndpoint, likely_prompt_tokens
from steelyard.errors import BudgetReached, InputError, Problem
from steelyard.models.calls import ChatRequest, Message, Operation
from steelyard.models.endpoint import EndpointFault, Price

_ROUNDING_USD = 1e-9
"""Sums of floats may miss the ceiling by this much."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a study may spend in all its runs together."""

    usd: float | None = None
    """Most money for model calls; `None`: no ceiling."""
    calls: int | None = None
    """Most model calls; transport retries of a call are not counted apart."""


class Purse:
    """What is spent and set aside during one run."""

    def __init__(self, budget: Budget, *, spent: Spent) -> None:
        self._budget = budget
        self._usd = spent.usd
        self._calls = spent.calls
        self._unpriced = spent.unpriced_calls
        self._reserved_usd = 0.0
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def spent(self) -> Spent:
        """What the study has paid so far, this run included."""
        return Spent(self._calls, self._usd, self._unpriced)

    async def reserve(self, most_usd: float | None) -> float:
        """Set aside the most a call can cost; waits for calls in flight where that may make room.

        Args:
            most_usd: Upper bound of the call's price; `None` only without a ceiling on money.

        Returns:
            What was set aside, to be handed to `settle`.

        Raises:
            BudgetReached: It does not fit, and nothing in flight could make room.
        """
        amount = most_usd or 0.0 if self._budget.usd is not None else 0.0
        while not self._fits(amount):
            if not self._in_flight:
                # One that waited may have gone unheard while a larger one was ahead of it.
                self._wake()
                raise BudgetReached(self._problem(amount))
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._reserved_usd += amount
        self._in_flight += 1
        return amount

    def settle(self, reserved: float, *, usd: float | None, called: bool) -> None:
        """Put what a call did cost in the place of what was set aside.

        Args:
            reserved: What `reserve` returned.
            usd: Its price; `None` when unknown.
            called: Whether anything was sent at all.
        """
        self._in_flight -= 1
        # Exactly nothing when nothing is in flight, so that rounding does not build up.
        self._reserved_usd = self._reserved_usd - reserved if self._in_flight else 0.0
        if called:
            self._calls += 1
            self._usd += usd or 0.0
            self._unpriced += usd is None
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    def _fits(self, amount: float) -> bool:
        usd, calls = self._budget.usd, self._budget.calls
        if calls is not None and self._calls + self._in_flight + 1 > calls:
            return False
        return usd is None or self._usd + self._reserved_usd + amount <= usd + _ROUNDING_USD

    def _problem(self, amount: float) -> Problem:
        usd, calls = self._budget.usd, self._budget.calls
        if calls is not None and self._calls + 1 > calls:
            what = f"the budget of {calls} calls is used up ({self._calls} made)"
        else:
            what = (
                f"the budget of {usd:.6g} USD is reached: {self._usd:.6g} USD are spent and the next call could cost"
                f" up to {amount:.6g} USD"
            )
        return Problem(what=what, hint="raise the budget and run the same command again; nothing is paid twice")


def check_prices(budget: Budget, endpoints: Iterable[ManagedEndpoint], *, operation: Operation = "chat") -> None:
    """Refuse a ceiling on money where a price is unknown.

    Args:
        budget: Of the study.
        endpoints: Those that will be asked.
        operation: What they will be asked to do; a chat alone needs the price of answers.

    Raises:
        InputError: Names every endpoint without a price.
    """
    if budget.usd is None:
        return
    texts = (Message("user", "?"), Message("user", "?"))
    problems: list[Problem] = []
    for managed in endpoints:
        probe = ChatRequest(
            endpoint=managed.endpoint.name, messages=texts, max_tokens=int(operation == "chat"), operation=operation
        )
        if managed.endpoint.price.upper_bound(probe, timeout_s=1.0, tries=1) is None:
            problems += unpriced(probe).problems
    if problems:
        raise InputError(problems)


def unpriced(request: ChatRequest) -> InputError:
    """An endpoint without a price meets a ceiling on money."""
    fields = "input and output" if request.operation == "chat" else "input"
    return InputError(
        Problem(
            what=f"a budget in money needs the price of endpoint {request.endpoint!r}, which is unknown",
            hint=f"give price_per_million ({fields}) in study.yaml, or set a budget in calls",
        )
    )


def most_usd(request: ChatRequest, managed: ManagedEndpoint) -> float | None:
    """The most this call can cost with all its tries; `None` when the price is unknown.

    Schema and further fields are counted as prompt too, since many servers write them into it.
    """
    if request.response_schema is not None or request.extra:
        more = orjson.dumps([request.response_schema, request.extra], option=orjson.OPT_SERIALIZE_NUMPY).decode()
        request = replace(request, messages=(*request.messages, Message("system", more)))
    return managed.endpoint.price.upper_bound(request, timeout_s=managed.timeout_s, tries=1 + managed.max_retries)


def lost_try_usd(
    request: ChatRequest, fault: EndpointFault, price: Price, *, seconds: float, prompt_tokens: int | None = None
) -> float | None:
    """What a failed try is counted as.

    A try that broke off, timed out or came back unreadable may well have been billed: it is counted with its prompt
    tokens (as the endpoint counted them for a later try, else estimated) and no answer. A try that was turned away
    (429, 5xx, 4xx) is counted as nothing on a hosted endpoint. Where the machine's time is priced, its time counts.
    """
    if price.cpu_hour_usd is None and fault.kind not in ("timed_out", "dropped", "unreadable"):
        return 0.0
    tokens = likely_prompt_tokens(request) if prompt_tokens is None else prompt_tokens
    return price.of_call(prompt_tokens=tokens, cached_tokens=0, completion_tokens=0, seconds=seconds)

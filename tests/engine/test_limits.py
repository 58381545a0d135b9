"""Rates are kept, retries wait as they are told, and no longer than makes sense."""

from __future__ import annotations

import random

import pytest

from steelyard.engine.limits import TokenBucket
from steelyard.engine.retry import LONGEST_BACKOFF_S, wait_before_retry_s
from steelyard.models.endpoint import EndpointFault


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("per_minute", [6, 60, 600])
async def test_no_minute_sees_more_than_the_rate_and_one_second_of_it(per_minute: int) -> None:
    """The rate holds over any minute, not just on average."""
    clock = Clock()
    bucket = TokenBucket(per_minute, clock=clock, sleep=clock.sleep)
    moments = []
    for _ in range(3 * per_minute):
        await bucket.take(1)
        moments.append(clock.now)
    most = max(sum(start <= moment < start + 60 for moment in moments) for start in moments)
    assert per_minute <= most <= per_minute + max(1, per_minute / 60) + 1
    assert moments[-1] - moments[0] <= 181


async def test_an_estimate_is_replaced_by_what_was_used() -> None:
    """Tokens that were reserved and not used are given back."""
    clock = Clock()
    bucket = TokenBucket(600, clock=clock, sleep=clock.sleep)
    await bucket.take(610)  # 10 are there, 600 are earned in a minute
    assert clock.now == pytest.approx(160)
    bucket.correct(-600)
    await bucket.take(10)
    assert clock.now == pytest.approx(160)


def test_backoff_grows_with_jitter_and_is_reproducible() -> None:
    """Same seed, same waits; each within its doubling bound."""
    fault = EndpointFault("server_error", "500")
    waits = [
        [wait_before_retry_s(fault, tries=n, max_retries=20, random=source) for n in range(1, 12)]
        for source in (random.Random(1), random.Random(1))
    ]
    assert waits[0] == waits[1]
    for number, wait_s in enumerate(waits[0]):
        assert wait_s is not None
        assert 0 <= wait_s <= min(LONGEST_BACKOFF_S, 0.5 * 2**number)


@pytest.mark.parametrize(
    ("fault", "tries", "low", "high"),
    [
        (EndpointFault("rate_limited", "429", retry_after_s=4.0), 1, 4.0, 4.4),
        (EndpointFault("rate_limited", "429", retry_after_s=4.0), 4, None, None),
        (EndpointFault("rate_limited", "429", retry_after_s=3600.0), 1, None, None),
        (EndpointFault("rejected", "400"), 1, None, None),
        (EndpointFault("unusable", "401"), 1, None, None),
    ],
)
def test_retries_follow_the_server_and_end(fault: EndpointFault, tries: int, low: float, high: float) -> None:
    """Retry-After is kept to the second and a little more; an hour is not waited; what cannot work is not repeated."""
    wait_s = wait_before_retry_s(fault, tries=tries, max_retries=3, random=random.Random(0))
    if low is None:
        assert wait_s is None
    else:
        assert wait_s is not None
        assert low <= wait_s <= high

"""When to try again: exponential backoff with full jitter, or what Retry-After asks for."""

from __future__ import annotations

import random

from steelyard.models.endpoint import EndpointFault

FIRST_WAIT_S = 0.5
LONGEST_BACKOFF_S = 30.0
LONGEST_RETRY_AFTER_S = 120.0
"""An endpoint that asks for a longer pause is not waited for: the call fails and says so."""


def wait_before_retry_s(fault: EndpointFault, *, tries: int, max_retries: int, random: random.Random) -> float | None:
    """Seconds to wait before the next try, or `None` when there shall be none.

    Args:
        fault: How the last try failed.
        tries: Tries made so far, at least 1.
        max_retries: Most tries after the first.
        random: Source of the jitter.
    """
    if not fault.retry or tries > max_retries:
        return None
    if fault.retry_after_s is not None:
        if fault.retry_after_s > LONGEST_RETRY_AFTER_S:
            return None
        # A little on top, so that calls sent away together do not come back together.
        return fault.retry_after_s + random.uniform(0.0, min(1.0, 0.1 * fault.retry_after_s))
    return random.uniform(0.0, min(LONGEST_BACKOFF_S, FIRST_WAIT_S * 2.0 ** (tries - 1)))

"""The seam to the study's money for what is paid before any case is asked: a job at a host."""

from __future__ import annotations

from typing import Protocol


class Till(Protocol):
    """Counts jobs against the budget of the study."""

    def reserve(self, job: str, most_usd: float | None) -> None:
        """Count the most a job can cost, before it is started; once for each job, however often it is told.

        Args:
            job: Mark of the job, the same in every process.
            most_usd: No such job can cost more; `None` where its price is unknown.

        Raises:
            BudgetReached: It does not fit; nothing is counted.
            InputError: The budget is in money, and the price is unknown.
            StorageFailed: It could not be written.
        """
        ...

    def settle(self, job: str, usd: float) -> None:
        """Count what a job did cost in the place of what was reserved for it.

        Raises:
            StorageFailed: It could not be written.
        """
        ...

"""The money of a study as jobs at hosts meet it: the same ceiling that model calls have, and the same journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steelyard.engine.budget import Budget
from steelyard.engine.journal import JOURNAL_FILE, Journal
from steelyard.errors import BudgetReached, InputError, Problem

if TYPE_CHECKING:
    from steelyard.study.study import Study


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyTill:
    """Counts jobs in the journal, beside what calls have cost."""

    journal: Journal
    budget: Budget

    def reserve(self, job: str, most_usd: float | None) -> None:
        """See `steelyard.approaches.till.Till`."""
        ceiling = self.budget.usd
        if ceiling is not None:
            if most_usd is None:
                raise InputError(
                    Problem(
                        what="a budget in money needs the price of hosted tuning, which is unknown",
                        hint="give tuning.price_per_million_training_tokens in study.yaml, or set a budget in calls",
                    )
                )
            spent = self.journal.spent(besides_job=job).usd
            if spent + most_usd > ceiling:
                raise BudgetReached(
                    Problem(
                        what=f"the budget of {ceiling:.6g} USD does not allow hosted tuning: {spent:.6g} USD are spent"
                        f" and the job could cost up to {most_usd:.6g} USD",
                        hint="raise the budget, or lower tuning.epochs or tuning.max_examples",
                    )
                )
        self.journal.record_job(job, most_usd)

    def settle(self, job: str, usd: float) -> None:
        """See `steelyard.approaches.till.Till`."""
        self.journal.record_job(job, usd)


@contextmanager
def counting_money(study: Study) -> Iterator[StudyTill | None]:
    """What a job at a host is counted with, where the study has one, and documents that an endpoint embeds."""
    has_job = any(one.tuning is not None and one.tuning.method == "hosted" for one in study.file.approaches.values())
    if not has_job and (study.file.knowledge is None or study.file.knowledge.embeddings is None):
        yield None
        return
    with Journal.open(study.folder / JOURNAL_FILE) as journal:
        yield StudyTill(
            journal=journal, budget=Budget(usd=study.file.run.budget_usd, calls=study.file.run.budget_calls)
        )

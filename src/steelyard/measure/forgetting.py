"""Forgetting: which general instructions a model could do before it was tuned, and can do no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steelyard.figures import Figure, unknown
from steelyard.measure.intervals import wilson
from steelyard.measure.paired import mcnemar

CLEAR_LOSS = 0.8
"""A tuned model whose share of what was kept is surely below this gets a warning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forgetting:
    """The same general instructions asked of a base model and of what was tuned from it, both as served."""

    n: int
    """Instructions both were asked."""
    base: int
    """Of these, those the base does."""
    tuned: int
    """Of these, those the tuned model does."""
    kept: int
    """Of those the base does, those the tuned model still does."""
    kept_share: Figure
    """`kept / base`, with its Wilson interval; higher is better. Unknown where the base does none.

    Replaces the difference of two accuracies, in which what was lost hides behind what was learned by chance.
    """
    p_mcnemar: float
    """Exact paired test of 'as many were lost as gained'."""

    @property
    def lost(self) -> int:
        """Instructions the base does and the tuned model does not."""
        return self.base - self.kept

    @property
    def gained(self) -> int:
        """Instructions the tuned model does and the base does not."""
        return self.tuned - self.kept

    @property
    def is_clear_loss(self) -> bool:
        """Whether the whole interval of what was kept lies below `CLEAR_LOSS`."""
        return self.kept_share.high is not None and self.kept_share.high < CLEAR_LOSS

    def to_json(self) -> dict[str, Any]:
        """As in `tune --json` and in the report."""
        return {
            "n": self.n,
            "base": self.base,
            "tuned": self.tuned,
            "kept": self.kept,
            "lost": self.lost,
            "gained": self.gained,
            "kept_share": self.kept_share.to_json(),
            "p_mcnemar": self.p_mcnemar,
            "is_clear_loss": self.is_clear_loss,
        }


def forgetting(base: Mapping[str, bool], tuned: Mapping[str, bool]) -> Forgetting | None:
    """Compare what two models do.

    Args:
        base: By instruction: whether the base does it.
        tuned: The same of the tuned model.

    Returns:
        The comparison on what both were asked; `None` where there is nothing of the kind.
    """
    both = [name for name in base if name in tuned]
    if not both:
        return None
    n_base, n_tuned = sum(base[name] for name in both), sum(tuned[name] for name in both)
    kept = sum(base[name] and tuned[name] for name in both)
    if n_base:
        low, high = wilson(kept / n_base, n_base)
        share = Figure(value=kept / n_base, low=low, high=high)
    else:
        share = unknown("the base does none of the instructions")
    return Forgetting(
        n=len(both),
        base=n_base,
        tuned=n_tuned,
        kept=kept,
        kept_share=share,
        p_mcnemar=mcnemar(n_base - kept, n_tuned - kept),
    )

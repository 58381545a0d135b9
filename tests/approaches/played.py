"""Searches played on answers that are known beforehand."""

from __future__ import annotations

import random
from collections.abc import Sequence

from steelyard.approaches.search import UNCHANGED, SearchPlan, Standing, standing, winner


def searched(plan: SearchPlan, answers: Sequence[Sequence[float]], lengths: Sequence[int]) -> tuple[int, Standing, int]:
    """Play a search in which every answer is known; returns winner, end, and outcomes asked."""
    scores: dict[int, Sequence[float]] = {}
    asked = 0
    while True:
        now = standing(plan, scores, lengths)
        assert UNCHANGED in now.left
        if now.round == len(plan.rounds):
            return winner(now, scores, lengths), now, asked
        n = plan.rounds[now.round].n_cases
        for candidate in now.left:
            asked += n - len(scores.get(candidate, ()))
            scores[candidate] = answers[candidate][:n]


def worlds(qualities: Sequence[float], n_dev: int, draw: random.Random) -> list[list[float]]:
    """Right or wrong by candidate and case; candidates share how hard a case is, as real prompts do."""
    hard = [draw.random() for _ in range(n_dev)]
    return [[float(0.6 * h + 0.4 * draw.random() < q) for h in hard] for q in qualities]

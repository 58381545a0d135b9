"""Shares of a set of cases that hold each other: every smaller one is part of every larger one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from steelyard.cases.case import Case
from steelyard.cases.split import together


def nested_shares(
    cases: Sequence[Case],
    shares: Sequence[float],
    *,
    label: Callable[[Case], str],
    groups: Mapping[str, str],
    seed: int,
) -> list[tuple[Case, ...]]:
    """Samples of several sizes, each part of the next, with about the label shares of the whole.

    Cases that belong together (a cluster, duplicates of each other) come in together. The units of each label are put
    into a seeded order and laid out evenly over 0 to 1; a share is a prefix of that row, so it holds every label in
    proportion, and growing it only adds.

    Args:
        cases: What is sampled from.
        shares: Parts of the whole, above 0 and at most 1.
        label: What keeps its proportion.
        groups: Group id by case id for cases that repeat each other.
        seed: Same seed, same samples.

    Returns:
        One sample per share, in the order of `cases`; the size is the nearest that whole units allow.
    """
    rng = np.random.default_rng([seed, 3])
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for unit in together(cases, groups):
        counts = Counter(label(cases[position]) for position in unit)
        by_label[min(counts, key=lambda name: (-counts[name], name))].append(unit)
    row: list[tuple[float, list[int]]] = []
    for name in sorted(by_label):
        units = by_label[name]
        start = rng.random()
        row += [((rank + start) / len(units), units[i]) for rank, i in enumerate(rng.permutation(len(units)))]
    row.sort(key=lambda placed: (placed[0], placed[1][0]))
    ordered = [unit for _, unit in row]
    ends = np.cumsum([len(unit) for unit in ordered])
    samples = []
    for share in shares:
        n_units = int(np.abs(ends - share * len(cases)).argmin()) + 1 if len(ends) else 0
        chosen = sorted(position for unit in ordered[:n_units] for position in unit)
        samples.append(tuple(cases[position] for position in chosen))
    return samples

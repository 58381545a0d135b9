"""Shares of cases that hold each other, with labels in proportion and clusters whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.cases.case import Case
from steelyard.cases.nested import nested_shares

SHARES = (0.125, 0.25, 0.5, 1.0)


def case(i: int, label: str, cluster: str | None = None) -> Case:
    return Case(id=f"case-{i}", input={"text": str(i)}, expected={"label": label}, cluster=cluster)


def label(case: Case) -> str:
    assert case.expected is not None
    return str(case.expected["label"])


def shares(cases: Sequence[Case], *, seed: int = 0, groups: dict[str, str] | None = None) -> list[tuple[Case, ...]]:
    return nested_shares(cases, SHARES, label=label, groups=groups or {}, seed=seed)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from("xyz")), min_size=1, max_size=60),
    st.integers(0, 5),
)
def test_each_share_holds_the_smaller_ones_and_whole_clusters(made: list[tuple[str, str | None]], seed: int) -> None:
    cases = [case(i, label, cluster) for i, (label, cluster) in enumerate(made)]
    samples = shares(cases, seed=seed)
    assert samples[-1] == tuple(cases)
    for small, large in pairwise(samples):
        assert {one.id for one in small} <= {one.id for one in large}
    for sample in samples:
        inside = {one.cluster for one in sample} - {None}
        outside = {one.cluster for one in cases if one not in sample}
        assert not inside & outside


def test_labels_keep_their_proportion() -> None:
    """A frequent and a rare label, 160 and 40 cases: every share has them 4 to 1, within one case each."""
    cases = [case(i, "often" if i % 5 else "rarely") for i in range(200)]
    for share, sample in zip(SHARES, shares(cases), strict=True):
        counts = Counter(label(one) for one in sample)
        assert len(sample) == round(200 * share)
        assert abs(counts["often"] - 160 * share) <= 1
        assert abs(counts["rarely"] - 40 * share) <= 1


def test_duplicates_come_in_together() -> None:
    cases = [case(i, "ab"[i % 2]) for i in range(40)]
    groups = {f"case-{i}": f"group {i // 2}" for i in range(40)}
    for sample in shares(cases, groups=groups):
        assert all(n == 2 for n in Counter(groups[one.id] for one in sample).values())


def test_another_seed_draws_other_cases() -> None:
    cases = [case(i, "ab"[i % 2]) for i in range(80)]
    assert shares(cases, seed=1) == shares(cases, seed=1)
    assert shares(cases, seed=1)[0] != shares(cases, seed=2)[0]
    often = Counter(one.id for seed in range(200) for one in shares(cases, seed=seed)[0])
    assert np.std([often[one.id] for one in cases]) < 8  # each about 25 times: nobody is favoured

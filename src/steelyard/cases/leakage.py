"""Refuse measurements on cases that were seen while learning or choosing.

A split made by `split_cases` cannot leak. Leaks come from splits a file declares and from example pools, indexes and
training sets built elsewhere; they are refused, not warned about, because every figure after one is wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from steelyard.cases.case import Case, SplitName, Splits
from steelyard.cases.duplicates import fold, input_text
from steelyard.errors import InputError, Problem


def find_leakage(splits: Splits, groups: Mapping[str, str]) -> tuple[Problem, ...]:
    """Every group and cluster that stands in more than one split, one problem each.

    Args:
        splits: The three splits.
        groups: Group id by case id for cases that repeat each other.
    """
    names: tuple[SplitName, ...] = ("train", "dev", "test")
    members: dict[tuple[str, str], list[tuple[SplitName, Case]]] = defaultdict(list)
    for name in names:
        for case in splits.named(name):
            if (group := groups.get(case.id)) is not None:
                members["repeats", group].append((name, case))
            if case.cluster is not None:
                members[f"is in the same cluster {case.cluster!r} as", case.cluster].append((name, case))
    problems = []
    for (relation, _), found in members.items():
        # Members come train first, so the last one stands furthest towards test.
        (first_split, first), (last_split, last) = found[0], found[-1]
        if first_split != last_split:
            problems.append(
                Problem(
                    what=f"case {last.id!r} in {last_split} {relation} case {first.id!r} in {first_split}"
                    f"{f' ({first.where})' if first.where else ''}",
                    where=last.where or None,
                    hint="put both in one split, remove one, or leave out cases.split_column",
                )
            )
    return tuple(problems)


def check_leakage(splits: Splits, groups: Mapping[str, str]) -> None:
    """Refuse splits that share cases.

    Raises:
        InputError: The same or a near-duplicate case, or one cluster, stands in more than one split.
    """
    if problems := find_leakage(splits, groups):
        raise InputError(problems)


def refuse_pool_leak(pool: Iterable[Case], held_out: Iterable[Case], groups: Mapping[str, str]) -> None:
    """Refuse a pool of examples, an index or a training set that holds a case it will be measured on.

    Args:
        pool: Cases to learn from or to show as examples.
        held_out: Cases to measure on.
        groups: Group id by case id for cases that repeat each other. Equal ids and equal inputs are found without it.

    Raises:
        InputError: Naming both places of every leak.
    """
    first_in_pool: dict[tuple[str, str], Case] = {}
    for case in pool:
        for mark in _marks(case, groups):
            first_in_pool.setdefault(mark, case)
    problems = []
    for case in held_out:
        leaked = next((first_in_pool[mark] for mark in _marks(case, groups) if mark in first_in_pool), None)
        if leaked is not None:
            what = f"held-out case {case.id!r} is also in the pool, as case {leaked.id!r}"
            what += f" ({leaked.where})" if leaked.where else ""
            hint = "build pools, indexes and training sets from the train split alone"
            problems.append(Problem(what=what, where=case.where or None, hint=hint))
    if problems:
        raise InputError(problems)


def apart_from(pool: Iterable[Case], held_out: Iterable[Case], groups: Mapping[str, str]) -> tuple[Case, ...]:
    """The cases of a pool that share nothing with those held out, by the same marks that `refuse_pool_leak` refuses.

    Args:
        pool: Cases that may be left out, in contrast to a train split.
        held_out: Cases to keep away from.
        groups: Group id by case id for cases that repeat each other.
    """
    held = {mark for case in held_out for mark in _marks(case, groups)}
    return tuple(case for case in pool if held.isdisjoint(_marks(case, groups)))


def _marks(case: Case, groups: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What two cases share when one gives the other away."""
    yield "id", case.id
    if (group := groups.get(case.id)) is not None:
        yield "group", group
    if text := fold(input_text(case)):
        yield "text", text
    if case.cluster is not None:
        yield "cluster", case.cluster

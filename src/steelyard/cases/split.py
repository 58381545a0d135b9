"""Divide cases into train, dev and test.

Cases that belong together (one cluster, duplicates of each other, or any chain of both) form a unit, and a unit goes to
one side whole. Same cases and seed, same split: in any file order, on any machine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from steelyard.cases.case import Case, Splits
from steelyard.cases.duplicates import DisjointSets
from steelyard.cases.sample import draw, find_label_field, label_of
from steelyard.cases.spec import SplitSpec
from steelyard.errors import InputError, Problem

MIN_STRATUM_UNITS: Final = 5
"""Labels with fewer units share one stratum; alone, rounding would send each of them to the same split."""


def split_cases(
    cases: Sequence[Case], spec: SplitSpec, *, groups: Mapping[str, str], stratify_by: str | None = None
) -> Splits:
    """Divide cases into train, dev and test.

    Random: every label is divided at the asked shares, in a seeded order that new cases hardly disturb. By time: units
    are ordered by their newest case and cut at the asked shares, so train and dev hold nothing newer than the newest
    case of any unit to their right; a long-lived cluster therefore goes late, whole. Declared: splits the file names
    are kept; where it names no dev, dev is carved from train at its share of all cases.

    Args:
        cases: All cases of the study, with distinct ids.
        spec: Kind, shares and seed.
        groups: Group id by case id for cases that repeat each other, from `duplicate_groups` or `Audit.groups`.
        stratify_by: Expected field that holds the label; left out, the only expected field, if its values recur.

    Returns:
        The three splits, each in the order of `cases`. With very few cases a split can be empty.

    Raises:
        InputError: By time, and cases have none; declared, and some cases name no split or none is train or test.
    """
    stratify_by = stratify_by or find_label_field(cases)
    declared = [case for case in cases if case.declared_split is not None]
    if declared:
        return _declared_splits(cases, spec, groups, stratify_by)
    units = _units(cases, groups, spec.seed, stratify_by)
    shares = (spec.train, spec.dev, 1 - spec.train - spec.dev)
    if spec.by == "time":
        _require_times(cases)
        sides = _by_time(units, shares)
    else:
        sides = _stratified(units, shares)
    train, dev, test = (_in_order(cases, side) for side in sides)
    return Splits(train=train, dev=dev, test=test)


def together(cases: Sequence[Case], groups: Mapping[str, str]) -> list[list[int]]:
    """Positions of the cases of each unit: linked by cluster or by group, directly or in a chain."""
    linked = DisjointSets(len(cases))
    first: dict[tuple[str, str], int] = {}
    for position, case in enumerate(cases):
        for kind, name in (("cluster", case.cluster), ("group", groups.get(case.id))):
            if name is not None:
                linked.join(first.setdefault((kind, name), position), position)
    members: dict[int, list[int]] = defaultdict(list)
    for position in range(len(cases)):
        members[linked.find(position)].append(position)
    return list(members.values())


# ---------------------------------------------------------------------------------------------------------------------
# Private
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unit:
    """Cases that go to one side together."""

    ids: tuple[str, ...]
    label: str
    """The most frequent label of its cases."""
    newest: str
    """Time of its newest case; empty where no case has one."""
    key: tuple[str, str]
    """Its place in the seeded order."""


_Side = list[_Unit]


def _units(cases: Sequence[Case], groups: Mapping[str, str], seed: int, stratify_by: str | None) -> list[_Unit]:
    units = []
    for positions in together(cases, groups):
        members = [cases[position] for position in positions]
        labels = Counter(label_of(case, stratify_by) for case in members)
        units.append(
            _Unit(
                ids=tuple(case.id for case in members),
                label=min(labels, key=lambda label: (-labels[label], label)),
                newest=max(case.time or "" for case in members),
                key=min(draw(seed, case) for case in members),
            )
        )
    return sorted(units, key=lambda unit: unit.key)


def _stratified(units: Iterable[_Unit], shares: Sequence[float]) -> list[_Side]:
    """Cut every stratum at the shares; what one stratum is over or under, by rounding or groups, the next makes good."""
    by_label: dict[str, list[_Unit]] = defaultdict(list)
    for unit in units:
        by_label[unit.label].append(unit)
    strata = [members for members in by_label.values() if len(members) >= MIN_STRATUM_UNITS]
    rare = [unit for members in by_label.values() if len(members) < MIN_STRATUM_UNITS for unit in members]
    if rare:
        strata.append(sorted(rare, key=lambda unit: unit.key))
    # A seeded order, so that no label gets the better of the rounding under every seed.
    strata.sort(key=lambda members: members[0].key)

    sides: list[_Side] = [[] for _ in shares]
    sizes = [0] * len(shares)
    n_seen = 0
    for members in strata:
        n_stratum = sum(len(unit.ids) for unit in members)
        n_seen += n_stratum
        quotas = [max(0.0, share * n_seen - size) for share, size in zip(shares, sizes, strict=True)]
        for unit, side in zip(members, _cut(members, quotas), strict=True):
            sides[side].append(unit)
            sizes[side] += len(unit.ids)
    return sides


def _by_time(units: Iterable[_Unit], shares: Sequence[float]) -> list[_Side]:
    ordered = sorted(units, key=lambda unit: (unit.newest, unit.key))
    sides: list[_Side] = [[] for _ in shares]
    for unit, side in zip(ordered, _cut(ordered, shares), strict=True):
        sides[side].append(unit)
    return sides


def _cut(units: Sequence[_Unit], quotas: Sequence[float]) -> list[int]:
    """The side of each unit when a row of units is cut in the proportions of the quotas.

    A unit belongs where its middle case falls.
    """
    n_cases = sum(len(unit.ids) for unit in units)
    total = sum(quotas)
    ends = [n_cases * sum(quotas[: side + 1]) / total for side in range(len(quotas))]
    sides = []
    position = 0
    for unit in units:
        middle = position + len(unit.ids) / 2
        sides.append(next((side for side, end in enumerate(ends[:-1]) if middle <= end), len(ends) - 1))
        position += len(unit.ids)
    return sides


def _declared_splits(
    cases: Sequence[Case], spec: SplitSpec, groups: Mapping[str, str], stratify_by: str | None
) -> Splits:
    undeclared = [case for case in cases if case.declared_split is None]
    if undeclared:
        what = f"{len(undeclared)} of {len(cases)} cases name no split, while the others do"
        hint = "write train, dev or test for every case, or leave out cases.split_column"
        raise InputError(Problem(what=what, where=undeclared[0].where, hint=hint))
    named = {name: [case for case in cases if case.declared_split == name] for name in ("train", "dev", "test")}
    for name in ("train", "test"):
        if not named[name]:
            file = cases[0].where.rsplit(":", 1)[0]
            hint = f"mark some cases {name!r}, or leave out cases.split_column"
            raise InputError(Problem(what=f"no case is in the declared split {name!r}", where=file, hint=hint))
    train, dev, test = named["train"], named["dev"], named["test"]
    if not dev:
        units = _units(train, groups, spec.seed, stratify_by)
        dev_share = spec.dev / (spec.train + spec.dev)
        shares = (1 - dev_share, dev_share)
        if spec.by == "time":
            _require_times(train)
            sides = _by_time(units, shares)
        else:
            sides = _stratified(units, shares)
        train, dev = (list(_in_order(train, side)) for side in sides)
    return Splits(train=tuple(train), dev=tuple(dev), test=tuple(test))


def _require_times(cases: Sequence[Case]) -> None:
    timeless = [case for case in cases if case.time is None]
    if timeless:
        places = ", ".join(case.where or case.id for case in timeless[:5])
        what = f"a split by time needs a time for every case; {len(timeless)} of {len(cases)} have none ({places})"
        hint = "fill the column, name it in cases.time, or use split: {by: random}"
        raise InputError(Problem(what=what, where=timeless[0].where or None, hint=hint))


def _in_order(cases: Sequence[Case], units: Iterable[_Unit]) -> tuple[Case, ...]:
    ids = {case_id for unit in units for case_id in unit.ids}
    return tuple(case for case in cases if case.id in ids)

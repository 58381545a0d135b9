"""Splits and samples are seeded, stratified, whole and independent of order."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.cases.case import Case, SplitName, Splits
from steelyard.cases.sample import take
from steelyard.cases.spec import SplitSpec
from steelyard.cases.split import split_cases, together
from steelyard.errors import InputError

NAMES: tuple[SplitName, ...] = ("train", "dev", "test")


def make(n: int, *, n_labels: int = 4, seed: int = 0) -> list[Case]:
    draw = random.Random(seed)
    return [
        Case(
            id=f"c{i}",
            input={"text": f"text {i}"},
            expected={"label": f"label {min(draw.randrange(n_labels), draw.randrange(n_labels))}"},
            time=f"2025-{i % 12 + 1:02d}-{i % 28 + 1:02d}T00:00:00Z",
        )
        for i in range(n)
    ]


def ids(splits: Splits) -> dict[str, set[str]]:
    return {name: {case.id for case in splits.named(name)} for name in NAMES}


def shares(splits: Splits) -> list[float]:
    sizes = [len(splits.named(name)) for name in NAMES]
    return [size / sum(sizes) for size in sizes]


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[Case], dict[str, str]]:
    """Cases with random labels, times, clusters and duplicate groups."""
    n = draw(st.integers(1, 60))
    labels, clusters, groups, days = (
        draw(st.lists(st.integers(0, top), min_size=n, max_size=n)) for top in (3, 20, 20, 27)
    )
    cases = [
        Case(
            id=f"c{i}",
            input={"text": f"text {i}"},
            expected={"label": f"l{labels[i]}"},
            cluster=f"k{clusters[i]}" if clusters[i] < 6 else None,
            time=f"2025-01-{days[i] + 1:02d}T00:00:00Z",
        )
        for i in range(n)
    ]
    return cases, {f"c{i}": f"g{groups[i]}" for i in range(n) if groups[i] < 6}


@settings(max_examples=60, deadline=None)
@given(study=studies(), seed=st.integers(0, 5), by=st.sampled_from(["random", "time"]), shuffle=st.randoms())
def test_a_split_is_whole_and_order_does_not_matter(
    study: tuple[list[Case], dict[str, str]], seed: int, by: str, shuffle: random.Random
) -> None:
    """Every case is in one split, no cluster or group straddles, and another file order gives the same split."""
    cases, groups = study
    spec = SplitSpec.model_validate({"by": by, "seed": seed})
    found = ids(split_cases(cases, spec, groups=groups))
    assert sorted(case_id for members in found.values() for case_id in members) == sorted(case.id for case in cases)
    for unit in together(cases, groups):
        members = {cases[position].id for position in unit}
        assert sum(bool(members & side) for side in found.values()) == 1
    shuffled = cases[:]
    shuffle.shuffle(shuffled)
    assert ids(split_cases(shuffled, spec, groups=groups)) == found


@pytest.mark.parametrize("n", [60, 200, 1_000])
@pytest.mark.parametrize("n_labels", [2, 12, 77])
def test_sizes_and_label_shares(n: int, n_labels: int) -> None:
    """Splits have the asked sizes within 2 points, and every label of some size its share in each."""
    cases = make(n, n_labels=n_labels)
    splits = split_cases(cases, SplitSpec(train=0.5, dev=0.2), groups={})
    assert shares(splits) == pytest.approx([0.5, 0.2, 0.3], abs=0.02)
    for label, count in Counter(str((case.expected or {})["label"]) for case in cases).items():
        if count >= 10:
            in_train = sum((case.expected or {})["label"] == label for case in splits.train)
            assert abs(in_train - count * 0.5) <= 2


def test_sizes_with_groups() -> None:
    """Groups of up to six cases leave the sizes within 2 points."""
    cases = make(600)
    groups = {case.id: f"g{i // random.Random(i).randrange(1, 7)}" for i, case in enumerate(cases)}
    assert shares(split_cases(cases, SplitSpec(), groups=groups)) == pytest.approx([0.6, 0.2, 0.2], abs=0.02)


def test_seeds_differ_and_new_cases_move_few() -> None:
    """Another seed gives another split; five per cent more cases leave nearly all others where they were."""
    cases = make(1_000)
    before = ids(split_cases(cases[:950], SplitSpec(), groups={}))
    assert ids(split_cases(cases[:950], SplitSpec(seed=1), groups={})) != before
    after = ids(split_cases(cases, SplitSpec(), groups={}))
    assert sum(len(before[name] - after[name]) for name in NAMES) < 950 * 0.03


def test_rows_without_ids_are_known_by_their_input() -> None:
    """Where the id is a row number, moving a row does not move the case to another split."""
    cases = [replace(case, id=f"row-{i + 1}") for i, case in enumerate(make(100))]
    moved = [replace(case, id=f"row-{i + 1}") for i, case in enumerate(cases[::-1])]
    first, second = (
        {str(case.input["text"]) for case in split_cases(order, SplitSpec(), groups={}).test}
        for order in (cases, moved)
    )
    assert first == second


def test_the_split_does_not_depend_on_python_hashing() -> None:
    """A fresh process with another hash seed splits and samples the same."""
    program = (
        "from tests.cases.test_split import *\n"
        "c = make(200)\n"
        "print([x.id for x in split_cases(c, SplitSpec(), groups={}).test], [x.id for x in take(c, 9, 1)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_by_time_the_newest_are_measured() -> None:
    """No train case is newer than a dev or test case, and sizes are as asked."""
    splits = split_cases(make(500), SplitSpec(by="time"), groups={})
    newest_train = max(case.time or "" for case in splits.train)
    newest_dev = max(case.time or "" for case in splits.dev)
    assert newest_train <= min(case.time or "" for case in splits.dev)
    assert newest_dev <= min(case.time or "" for case in splits.test)
    assert shares(splits) == pytest.approx([0.6, 0.2, 0.2], abs=0.02)


def test_by_time_a_group_goes_with_its_newest() -> None:
    """A duplicate pair of an old and a new case goes late, whole, so that train never holds the future."""
    cases = [replace(case, time=f"2025-01-01T00:{i:02d}:00Z") for i, case in enumerate(make(50))]
    splits = split_cases(cases, SplitSpec(by="time"), groups={"c0": "g", "c49": "g"})
    assert {"c0", "c49"} <= ids(splits)["test"]


def test_by_time_needs_times() -> None:
    """Cases without a time are named instead of being put somewhere."""
    cases = [*make(10), Case(id="late", input={"text": "t"}, where="c.csv:12")]
    with pytest.raises(InputError, match=r"c\.csv:12.*1 of 11 have none"):
        split_cases(cases, SplitSpec(by="time"), groups={})


def test_declared_splits_are_kept_and_dev_is_carved_from_train() -> None:
    """Where the file names train and test only, test stays as it is and dev is cut from train."""
    cases = [replace(case, declared_split="test" if i % 5 == 0 else "train") for i, case in enumerate(make(500))]
    splits = split_cases(cases, SplitSpec(), groups={})
    assert ids(splits)["test"] == {case.id for case in cases if case.declared_split == "test"}
    assert len(splits.dev) == pytest.approx(100, abs=3)
    all_three = [replace(case, declared_split=NAMES[i % 3]) for i, case in enumerate(cases)]
    assert ids(split_cases(all_three, SplitSpec(), groups={}))["dev"] == {case.id for case in all_three[1::3]}


@pytest.mark.parametrize("declared", [["train", "train"], ["test", "dev"], ["train", None]])
def test_declared_splits_that_cannot_work(declared: list[SplitName | None]) -> None:
    """A declared split without train or test, or with cases left out, is refused."""
    cases = [replace(case, declared_split=split) for case, split in zip(make(2), declared, strict=True)]
    with pytest.raises(InputError, match="split"):
        split_cases(cases, SplitSpec(), groups={})


def test_free_text_outputs_are_not_strata() -> None:
    """An expected output that never recurs does not disturb seeds or sizes."""
    cases = [replace(case, expected={"answer": f"answer {i}"}) for i, case in enumerate(make(300))]
    splits = split_cases(cases, SplitSpec(), groups={})
    assert shares(splits) == pytest.approx([0.6, 0.2, 0.2], abs=0.02)
    assert ids(splits) != ids(split_cases(cases, SplitSpec(seed=1), groups={}))


@settings(max_examples=40, deadline=None)
@given(small=st.integers(1, 80), more=st.integers(0, 80), seed=st.integers(0, 3))
def test_a_larger_limit_only_adds_cases(small: int, more: int, seed: int) -> None:
    """The sample of a limit lies within the sample of every larger one, in file order."""
    cases = make(120)
    few, many = take(cases, small, seed), take(cases, small + more, seed)
    assert len(few) == min(small, 120)
    assert {case.id for case in few} <= {case.id for case in many}
    positions = [cases.index(case) for case in many]
    assert positions == sorted(positions)


def test_a_sample_has_the_label_shares_of_the_whole() -> None:
    """Fifty of a thousand hold every label within two cases of its share."""
    cases = make(1_000)
    whole = Counter(str(case.expected) for case in cases)
    sample = Counter(str(case.expected) for case in take(cases, 50, seed=3))
    assert all(abs(sample[label] - count / 20) <= 2 for label, count in whole.items())


def test_a_limit_of_nothing_is_refused() -> None:
    """A limit below one leaves no cases, and says so."""
    with pytest.raises(InputError, match="limit of 0"):
        take(make(3), 0, seed=0)


def test_a_sample_of_cases_without_labels_holds_their_segments_in_proportion() -> None:
    """A segment of one case in ten is not left to chance."""
    cases = [
        replace(case, expected={"answer": f"text {number}"}, segment="rare" if number % 10 == 0 else "usual")
        for number, case in enumerate(make(200))
    ]
    for seed in range(5):
        assert Counter(case.segment for case in take(cases, 20, seed=seed))["rare"] in (2, 3)

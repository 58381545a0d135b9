"""Which train cases may serve as examples, and fixed choices among them."""

from __future__ import annotations

import difflib
import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import orjson

from steelyard.approaches.images import without_images
from steelyard.approaches.prompt_spec import ChooseBy
from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem
from steelyard.models.embeddings import Embed
from steelyard.task.accepted import reference_output
from steelyard.task.output import validate
from steelyard.task.task import Task

_MAX_CANDIDATES = 2_000
"""Cases that `diverse` looks at; all pairs of them are compared."""


def input_text(fields: Mapping[str, Any], task: Task) -> str:
    """The input fields a model sees as one text, one field after the other; for embeddings and lengths."""
    seen = without_images(fields, task.image_fields)
    values = (seen.get(name) for name in task.input_fields)
    return "\n".join(value if isinstance(value, str) else _as_text(value) for value in values if value is not None)


def expected_output(case: Case, task: Task) -> dict[str, Any]:
    """The expected fields of a labelled case, in the task's order; of several accepted answers the first."""
    expected = case.expected or {}
    return reference_output({name: expected[name] for name in task.expected_fields if name in expected}, task)


def usable_examples(cases: Sequence[Case], task: Task) -> tuple[Case, ...]:
    """The cases that can teach something: labelled, valid by the task's own schema, and not empty."""
    return tuple(
        case
        for case in cases
        if case.expected is not None
        and all(name in case.expected for name in task.expected_fields)
        and validate(expected_output(case, task), task) is None
        and input_text(case.input, task).strip()
    )


def choose_fixed(
    cases: Sequence[Case], n: int, *, task: Task, seed: int, by: ChooseBy = "spread", embed: Embed | None = None
) -> tuple[Case, ...]:
    """Choose examples once and for all.

    - `spread`: evenly over the labels, of typical length, by seed. In each group (label, or everything in a task
      without labels) the half whose length is nearest to the median is drawn from, so that neither a pasted log nor a
      two-word case becomes the model of how inputs look. With fewer examples than labels the most frequent labels come
      first.
    - `random`: by seed alone.
    - `diverse`: the first by seed, each further one the case that brings most of the others nearer to an example
      (greedy facility location over cosines). Unlike the farthest point, this does not collect oddities.

    Args:
        cases: Usable cases, in any order; the order does not change the choice.
        n: How many; all of them when there are fewer.
        task: Says which field holds the label.
        seed: Another seed, another choice.
        by: Which way.
        embed: Embeds inputs; needed for `diverse` alone.

    Returns:
        At most `n` cases, labels mixed.
    """
    drawn = sorted(cases, key=lambda case: _lot(case, seed))
    if by == "spread":
        chosen = _spread(cases, task=task, seed=seed)[:n]
    elif by == "random":
        chosen = drawn[:n]
    else:
        assert embed is not None
        chosen = _diverse(drawn[:_MAX_CANDIDATES], n, task=task, embed=embed)
    return tuple(sorted(chosen, key=lambda case: _lot(case, seed + 1)))


def named_examples(cases: Sequence[Case], ids: Sequence[str], *, where: str) -> tuple[Case, ...]:
    """The examples a person, or a search, has named.

    Args:
        cases: Usable cases.
        ids: Of the cases to show, in this order.
        where: Place of the ids, for messages.

    Raises:
        InputError: Some are no usable train case; names the first of them.
    """
    by_id = {case.id: case for case in cases}
    missing = [name for name in ids if name not in by_id]
    if missing:
        close = difflib.get_close_matches(missing[0], list(by_id), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "an example is a labelled case of the train split"
        raise InputError(
            Problem(what=f"{missing[0]!r} is no train case that can serve as an example", where=where, hint=hint)
        )
    return tuple(by_id[name] for name in ids)


def shortened(fields: Mapping[str, Any], max_chars: int, *, keep: Sequence[str] = ()) -> dict[str, Any]:
    """The fields, but for those to keep, with long text cut between words and the cut marked."""
    return {
        name: _cut(value, max_chars) if isinstance(value, str) and name not in keep else value
        for name, value in fields.items()
    }


# ---- private --------------------------------------------------------------------------------------------------------


def _spread(cases: Sequence[Case], *, task: Task, seed: int) -> list[Case]:
    """All cases, one of each label after the other."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        label = str((case.expected or {}).get(task.expected_fields[0], "")) if task.labels else ""
        groups.setdefault(label, []).append(case)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    drawn = [_drawn(group, task=task, seed=seed) for _, group in ordered]
    return [case for case in chain.from_iterable(zip_longest(*drawn)) if case is not None]


def _diverse(cases: Sequence[Case], n: int, *, task: Task, embed: Embed) -> list[Case]:
    """Greedy facility location, beginning with the first case."""
    if not cases or n < 1:
        return []
    vectors = embed.embed([input_text(case.input, task) for case in cases])
    alike = vectors @ vectors.T  # (n_cases, n_cases)
    chosen = [0]
    nearest = alike[0].copy()  # of each case to the nearest example so far
    while len(chosen) < min(n, len(cases)):
        gains = np.maximum(alike - nearest, 0).sum(axis=1)
        gains[chosen] = -1.0
        chosen.append(int(np.argmax(gains)))
        nearest = np.maximum(nearest, alike[chosen[-1]])
    return [cases[at] for at in chosen]


def _drawn(group: Sequence[Case], *, task: Task, seed: int) -> list[Case]:
    """The whole group, typical half first, each half in the order of its lots."""
    lengths = {case.id: math.log1p(len(input_text(case.input, task))) for case in group}
    median = statistics.median(lengths.values())
    by_typical = sorted(group, key=lambda case: (abs(lengths[case.id] - median), case.id))
    half = (len(group) + 1) // 2
    return [
        *sorted(by_typical[:half], key=lambda case: _lot(case, seed)),
        *sorted(by_typical[half:], key=lambda case: _lot(case, seed)),
    ]


def _lot(case: Case, seed: int) -> tuple[bytes, str]:
    """A place in a random order that depends on nothing but seed and id."""
    return hashlib.blake2b(f"{seed}:{case.id}".encode("utf-8", "replace"), digest_size=8).digest(), case.id


def _cut(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    head = text[: max_chars - 2]
    at_a_word = head.rsplit(None, 1)[0] if len(head.split(None, 1)) > 1 else head
    return f"{at_a_word} …"


def _as_text(value: object) -> str:
    return orjson.dumps(value, default=str).decode()

"""Training examples for a LoRA: chosen, split and tokenised exactly as the deployed prompt will be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from steelyard.approaches.tuning.base_model import BaseModel
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError, Problem
from steelyard.models.calls import Message

PromptOf = Callable[[CaseInput], tuple[Message, ...]]
TargetOf = Callable[[Case], str]

VALIDATION_SHARE = 0.1
MOST_VALIDATION = 200
FEWEST_FOR_VALIDATION = 20
MOST_BALANCE = 10.0
"""An example of a rare label counts at most so many times as one of the most frequent label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One example as token ids."""

    prompt: tuple[int, ...]
    """The deployed prompt, up to where the answer begins."""
    completion: tuple[int, ...]
    """The wanted answer and the token that ends it; the loss is on these alone."""
    case_id: str = ""
    """The case it was made from; empty where its input had to be cut, so that it is not what the model will be asked."""
    weight: float = 1.0
    """How much it counts in the loss; the mean over the training examples is 1."""

    @property
    def n_tokens(self) -> int:
        """Prompt and completion together."""
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenised:
    """Examples that fit, and what had to be done to make them fit."""

    examples: tuple[Example, ...]
    n_cut: int
    """Examples whose input text was cut."""
    n_left_out: int
    """Examples whose prompt and answer are too long even with an empty input."""


def choose(cases: Sequence[Case], target: TargetOf, *, at_most: int, seed: int) -> tuple[Case, ...]:
    """A seeded sample of the labelled cases in which every target keeps its share, within one case.

    Cases are shuffled, sorted by target (a stable sort, so that they stay shuffled within it) and taken at even
    distances. With targets that are all different this is a simple random sample. Labels that a teacher gave fill up
    what those of people leave room for.
    """
    labelled = [case for case in cases if case.expected is not None]
    by_people = _sample([case for case in labelled if case.teacher is None], target, at_most=at_most, seed=seed)
    distilled = [case for case in labelled if case.teacher is not None]
    return (*by_people, *_sample(distilled, target, at_most=at_most - len(by_people), seed=seed))


def hold_out(cases: Sequence[Case], target: TargetOf, *, seed: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Divide the chosen cases into those to train on and those to validate on, clusters whole.

    Returns:
        Training and validation cases. About a tenth is held out, at most 200; nothing below 20 cases, where a tenth
        says nothing and training needs every case. What a teacher labelled is never validated on, and left out where it
        belongs together with a validation case.
    """
    distilled = [case for case in cases if case.teacher is not None]
    if distilled:
        train, validation = hold_out([case for case in cases if case.teacher is None], target, seed=seed)
        held_clusters = {case.cluster for case in validation} - {None}
        return (*train, *(case for case in distilled if case.cluster not in held_clusters)), validation
    wanted = min(round(len(cases) * VALIDATION_SHARE), MOST_VALIDATION)
    if len(cases) < FEWEST_FOR_VALIDATION:
        return tuple(cases), ()
    clusters: dict[str, list[Case]] = {}
    for i, case in enumerate(cases):
        clusters.setdefault(f"cluster {case.cluster}" if case.cluster is not None else f"case {i}", []).append(case)
    groups = list(clusters.values())
    order = np.random.default_rng([seed, 2]).permutation(len(groups))
    # By target and at even distances, as in `choose`: a validation split should hold every label it can.
    shuffled = sorted((groups[i] for i in order), key=lambda group: target(group[0]))
    step = max(1.0, len(shuffled) * len(cases) / (len(groups) * wanted))
    held: set[int] = set()
    at = step / 2
    while at < len(shuffled) and len(held) < wanted:
        held.update(id(case) for case in shuffled[int(at)])
        at += step
    if len(held) > len(cases) // 2:  # a few giant clusters: validating on most of the data would starve training
        return tuple(cases), ()
    return tuple(c for c in cases if id(c) not in held), tuple(c for c in cases if id(c) in held)


def tokenise(
    base: BaseModel,
    cases: Sequence[Case],
    prompt: PromptOf,
    target: TargetOf,
    *,
    max_tokens: int,
    distilled_weight: float = 1.0,
) -> Tokenised:
    """Turn cases into token ids; inputs that are too long are cut, and labels of a teacher get their weight.

    Raises:
        InputError: Not one case fits, because the prompt around the input is already too long.
    """
    examples: list[Example] = []
    n_cut = 0
    for case in cases:
        completion = (*base.encode(target(case)), base.end_token)
        room = max_tokens - len(completion)
        ids = base.chat_ids(prompt(case.visible()))
        is_cut = len(ids) > room
        if is_cut:
            cut = _cut_to_fit(base, case.visible(), prompt, room)
            if cut is None:
                continue
            ids = cut
            n_cut += 1
        weight = 1.0 if case.teacher is None else distilled_weight
        case_id = "" if is_cut else case.id
        examples.append(Example(prompt=tuple(ids), completion=completion, case_id=case_id, weight=weight))
    if cases and not examples:
        bare = base.chat_ids(prompt(_shortened(cases[0].visible(), 0)))
        raise InputError(
            Problem(
                what=f"no training example fits {max_tokens} tokens: the prompt takes {len(bare)} without any input",
                where="study.yaml:approaches:tuning.max_tokens",
                hint=f"set max_tokens to {2 * len(bare)} or more, or shorten prompt.system of the tuned approach",
            )
        )
    return Tokenised(examples=tuple(examples), n_cut=n_cut, n_left_out=len(cases) - len(examples))


def balanced(examples: Sequence[Example], how: Literal["none", "oversample", "weight"]) -> tuple[Example, ...]:
    """Training examples with their answers evened out; answers stand for labels.

    Args:
        examples: What would be trained on.
        how: `oversample` repeats examples of rare answers until they are as many as those of the most frequent one,
            `weight` gives them that much more weight instead, `none` changes nothing. Either way an example counts at
            most `MOST_BALANCE` times, so that two odd cases cannot rule the training.

    Returns:
        The examples in their order, repeats next to each other; or as many as before. Either way, the mean of their
        weights is 1.
    """
    if how == "none":
        return _mean_of_one(examples)
    counts = Counter(example.completion for example in examples)
    most = max(counts.values())
    factors = [min(MOST_BALANCE, most / counts[example.completion]) for example in examples]
    if how == "oversample":
        return _mean_of_one([one for one, factor in zip(examples, factors, strict=True) for _ in range(round(factor))])
    return _mean_of_one(
        [replace(one, weight=one.weight * factor) for one, factor in zip(examples, factors, strict=True)]
    )


# ---------------------------------------------------------------------------------------------------- private


def _sample(cases: Sequence[Case], target: TargetOf, *, at_most: int, seed: int) -> tuple[Case, ...]:
    order = np.random.default_rng([seed, 1]).permutation(len(cases))
    shuffled = sorted((cases[i] for i in order), key=target)
    n = min(at_most, len(shuffled))
    return tuple(shuffled[int((i + 0.5) * len(shuffled) / n)] for i in range(n))


def _mean_of_one(examples: Sequence[Example]) -> tuple[Example, ...]:
    if all(example.weight == 1 for example in examples):
        return tuple(examples)
    mean = sum(example.weight for example in examples) / len(examples)
    return tuple(replace(example, weight=example.weight / mean) for example in examples)


def _cut_to_fit(base: BaseModel, case: CaseInput, prompt: PromptOf, room: int) -> list[int] | None:
    """Prompt of the longest input that fits `room` tokens, every text field cut to the same length; by bisection."""
    longest = max((len(value) for value in case.fields.values() if isinstance(value, str)), default=0)
    fits, too_long, best = -1, longest, None
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        ids = base.chat_ids(prompt(_shortened(case, middle)))
        if len(ids) <= room:
            fits, best = middle, ids
        else:
            too_long = middle
    return best


def _shortened(case: CaseInput, length: int) -> CaseInput:
    fields: Mapping[str, Any] = {
        name: value[:length] if isinstance(value, str) else value for name, value in case.fields.items()
    }
    return replace(case, fields=fields)

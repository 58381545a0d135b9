"""What a tuned model would learn from, looked through before anything is trained; from the train split alone.

Some of what is found forbids training (one class only, an empty answer, settings that the served model cannot follow). The rest is worth a look: labels that contradict a near-duplicate or what all other cases say,
long inputs, thin labels, personal data. Nothing is corrected here: a person decides, with the review list in hand.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from steelyard.approaches.examples import input_text, usable_examples
from steelyard.approaches.tuning.base_model import BaseModel
from steelyard.approaches.tuning.examples import PromptOf, TargetOf, choose, hold_out, tokenise
from steelyard.approaches.tuning.label_suspects import confident_suspects, out_of_fold
from steelyard.approaches.tuning.repeats import without_repeats
from steelyard.approaches.workbench import Workbench
from steelyard.approaches.workflow.guards import personal_data
from steelyard.cases.case import Case
from steelyard.cases.distilled import by_teacher
from steelyard.cases.duplicates import duplicate_groups
from steelyard.cases.leakage import refuse_pool_leak
from steelyard.cases.split import together
from steelyard.errors import InputError, Problem
from steelyard.models.embeddings import Embed
from steelyard.task.task import Task

RARE_BELOW: Final = 5
"""Labels with fewer cases are named; their cases are not judged by what a classifier says."""
FEW_EXAMPLES: Final = 50
"""Fewer than this can try a tuner out, and prove nothing."""
_NAMED: Final = 10
"""Labels or cases that are named in one sentence."""


class Spread(NamedTuple):
    """Least, median and most."""

    least: int
    median: int
    most: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Review:
    """One case whose label a person should look at."""

    case_id: str
    where: str
    """`file:line` it was read from."""
    given: str
    suggested: str
    """What it may be instead; empty where nothing speaks for one answer."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Lengths of the examples that would be trained on, as the base model's tokenizer counts them."""

    prompt: Spread
    completion: Spread
    """The answer with the token that ends it."""
    total: Spread
    max_tokens: int
    """The limit of the training."""
    context_tokens: int | None
    """The limit of the model as it is served."""
    cut: tuple[str, ...]
    """Ids of cases whose input would be cut to `max_tokens`."""
    left_out: tuple[str, ...]
    """Ids of cases that do not fit even with an empty input."""
    over_context: tuple[str, ...]
    """Ids of cases that, uncut, are longer than the context: as served they cannot be asked at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingAudit:
    """Findings over the training examples of one approach."""

    n_labelled: int
    """Labelled cases of the train split."""
    n_distilled: int
    """Cases beside them that a teacher labelled; all other figures count both."""
    teachers: Mapping[str, int]
    """Those by teacher."""
    n_unusable: int
    """Those of them with an empty input or an answer that breaks the schema; they are left out."""
    n_repeats: int
    """Those that repeat another one, with the same answer; they are left out."""
    n_examples: int
    """What is trained and validated on: the rest, or a sample of it."""
    n_validation: int
    label_counts: Mapping[str, int]
    """Usable, distinct cases by label, most frequent first; empty where the task has no labels."""
    tokens: Tokens | None
    """`None` where no tokenizer of the model is at hand."""
    review: tuple[Review, ...]
    """Contradicting near-duplicates first, then suspects, the surest first."""
    n_conflicts: int
    """How many of them contradict a near-duplicate."""
    agreement: float | None
    """Share of labels the classifier that looks for suspects gives too, where it had not seen the case. Where this is
    low, the labels cannot be learned this way, and its suspects say little."""
    not_judged: str | None
    """Why no classifier looked for suspects, if none did."""
    personal: Mapping[str, int]
    """Personal data by kind, in inputs and answers; names and addresses are not looked for."""
    n_personal: int
    """Cases that hold any."""
    refusals: tuple[Problem, ...]
    """What forbids training."""
    notes: tuple[Problem, ...]


def audit_training(
    bench: Workbench,
    *,
    max_examples: int,
    max_tokens: int | None,
    seed: int,
    target: TargetOf,
    where: str,
    near_duplicates: float = 0.8,
    groups: Mapping[str, str] | None = None,
    test: Sequence[Case] = (),
    prompt: PromptOf | None = None,
    base: BaseModel | None = None,
    context_tokens: int | None = None,
    embed: Embed | None = None,
) -> TrainingAudit:
    """Look through what an approach would be trained on.

    Args:
        bench: Task, train and dev splits.
        max_examples: Most examples to train on.
        max_tokens: Longer examples have their input cut; `None` where the tuner sets no limit.
        seed: Of the sample and of the division into folds.
        target: The answer wanted for a case, as the model should write it.
        where: Place of the `tuning:` section, for messages.
        near_duplicates: Least Jaccard similarity of near-duplicates.
        groups: Group id by case id for repeats across all splits, where they are known already.
        test: The test split; together with dev, what training must not touch.
        prompt: The deployed prompt; with `base`, lengths are counted.
        base: The model whose tokenizer counts.
        context_tokens: Of the model as it is served.
        embed: Embeds inputs for the classifier that looks for wrong labels; left out, none looks.

    Raises:
        InputError: A train case is, or repeats, or belongs together with a case of dev or test.
        MissingExtra: scikit-learn is not installed, and `embed` was given.
    """
    task = bench.task
    labelled = [case for case in bench.train if case.expected is not None]
    n_distilled = sum(case.teacher is not None for case in labelled)
    usable = usable_examples(bench.train, task)
    refuse_pool_leak(bench.train, (*bench.dev, *test), groups or {})
    distinct = without_repeats(usable)
    chosen = choose(distinct, target, at_most=max_examples, seed=seed)
    _, validation = hold_out(chosen, target, seed=seed)
    answers = Counter(target(case) for case in distinct)
    counts = dict(sorted(answers.items(), key=lambda item: (-item[1], item[0]))) if task.labels else {}
    tokens = None
    if base is not None and prompt is not None and max_tokens is not None and chosen:
        tokens = _tokens(base, chosen, prompt, target, max_tokens=max_tokens, context_tokens=context_tokens)
    own_groups = duplicate_groups(usable, threshold=near_duplicates)
    conflicts = _conflicts(usable, own_groups, target)
    not_judged = _why_not_judged(task, counts, embed)
    suspects: list[Review] = []
    agreement = None
    if not_judged is None:
        assert embed is not None
        suspects, agreement = _suspects(distinct, own_groups, target, task=task, embed=embed, counts=counts, seed=seed)
    known = {review.case_id for review in conflicts}
    found = [personal_data(f"{input_text(case.input, task)}\n{target(case)}") for case in usable]
    personal: Counter[Any] = sum(found, Counter())
    return TrainingAudit(
        n_labelled=len(labelled) - n_distilled,
        n_distilled=n_distilled,
        teachers=by_teacher(labelled),
        n_unusable=len(labelled) - len(usable),
        n_repeats=len(usable) - len(distinct),
        n_examples=len(chosen),
        n_validation=len(validation),
        label_counts=counts,
        tokens=tokens,
        review=(*conflicts, *(review for review in suspects if review.case_id not in known)),
        n_conflicts=len(conflicts),
        agreement=agreement,
        not_judged=not_judged,
        personal={str(kind): n for kind, n in sorted(personal.items())},
        n_personal=sum(1 for one in found if one),
        refusals=training_refusals(distinct, target, max_tokens=max_tokens, context_tokens=context_tokens, where=where),
        notes=_notes(counts, tokens, n_examples=len(chosen), n_validation=len(validation), where=where),
    )


def training_refusals(
    cases: Sequence[Case],
    target: TargetOf,
    *,
    max_tokens: int | None,
    context_tokens: int | None,
    where: str,
) -> tuple[Problem, ...]:
    """What forbids training on these cases, all of it; quick enough to be asked before every training."""
    problems = []
    answers = Counter(target(case) for case in cases)
    empty = [case for case in cases if not target(case).strip()]
    if not cases:
        what, hint = "there is no labelled train case to learn from", "label some cases, or leave out this approach"
        problems.append(Problem(what=what, where=where, hint=hint))
    if empty:
        what = f"{len(empty)} of {len(cases)} examples have an empty answer, first case {empty[0].id!r}"
        hint = "fill in the expected output, or remove these cases: a model would learn to say nothing"
        problems.append(Problem(what=what, where=empty[0].where or where, hint=hint))
    if len(cases) > 1 and len(answers) == 1:
        what = (
            f"all {len(cases)} examples have the same answer, {next(iter(answers))!r}: there is nothing to tell apart"
        )
        problems.append(Problem(what=what, where=where, hint="add train cases with other answers"))
    if context_tokens is not None and max_tokens is not None and max_tokens > context_tokens:
        what = f"max_tokens is {max_tokens:,}, and the model is served with a context of {context_tokens:,} tokens"
        hint = "lower tuning.max_tokens, or raise the model's context_tokens: longer examples could never be asked"
        problems.append(Problem(what=what, where=f"{where}.max_tokens", hint=hint))
    return tuple(problems)


# ---------------------------------------------------------------------------------------------------- private


def _tokens(
    base: BaseModel,
    cases: Sequence[Case],
    prompt: PromptOf,
    target: TargetOf,
    *,
    max_tokens: int,
    context_tokens: int | None,
) -> Tokens:
    prompts = [len(base.chat_ids(prompt(case.visible()))) for case in cases]
    completions = [len(base.encode(target(case))) + 1 for case in cases]
    totals = [one + other for one, other in zip(prompts, completions, strict=True)]
    long = [case for case, n in zip(cases, totals, strict=True) if n > max_tokens]
    left_out = [case.id for case in long if not _can_be_cut(base, case, prompt, target, max_tokens)]
    over = [case.id for case, n in zip(cases, totals, strict=True) if context_tokens is not None and n > context_tokens]
    return Tokens(
        prompt=_spread(prompts),
        completion=_spread(completions),
        total=_spread(totals),
        max_tokens=max_tokens,
        context_tokens=context_tokens,
        cut=tuple(case.id for case in long if case.id not in set(left_out)),
        left_out=tuple(left_out),
        over_context=tuple(over),
    )


def _can_be_cut(base: BaseModel, case: Case, prompt: PromptOf, target: TargetOf, max_tokens: int) -> bool:
    try:
        tokenise(base, [case], prompt, target, max_tokens=max_tokens)
    except InputError:
        return False
    return True


def _spread(lengths: Sequence[int]) -> Spread:
    return Spread(min(lengths), int(np.median(lengths)), max(lengths))


def _conflicts(cases: Sequence[Case], groups: Mapping[str, str], target: TargetOf) -> list[Review]:
    """Repeats and near-duplicates whose answers differ; where most of a group agree, only those who do not."""
    members: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.id in groups:
            members[groups[case.id]].append(case)
    reviews = []
    for group in members.values():
        answers = Counter(target(case) for case in group)
        if len(answers) < 2:
            continue
        (common, n), *_ = answers.most_common(1)
        is_clear = 2 * n > len(group)
        for case in group:
            if is_clear and target(case) == common:
                continue
            other = next(
                one for one in group if target(one) != target(case) and (not is_clear or target(one) == common)
            )
            place = f" ({other.where})" if other.where else ""
            reason = f"says nearly the same as case {other.id!r}{place}, whose answer is {target(other)!r}"
            reviews.append(_review(case, target, common if is_clear else "", reason))
    return reviews


def _suspects(
    cases: Sequence[Case],
    groups: Mapping[str, str],
    target: TargetOf,
    *,
    task: Task,
    embed: Embed,
    counts: Mapping[str, int],
    seed: int,
) -> tuple[list[Review], float]:
    judged = [case for case in cases if counts[target(case)] >= RARE_BELOW]
    vectors = embed.embed([input_text(case.input, task) for case in judged])
    labels = [target(case) for case in judged]
    probabilities, classes = out_of_fold(vectors, labels, together(judged, groups), seed=seed)
    reviews = []
    for suspect in confident_suspects(labels, probabilities, classes):
        case = judged[suspect.position]
        reason = (
            f"a classifier that had not seen it gives {suspect.suggested!r} {suspect.p_suggested:.0%} and "
            f"{target(case)!r} {suspect.p_given:.0%}"
        )
        reviews.append(_review(case, target, suspect.suggested, reason))
    likeliest = probabilities.argmax(axis=1)
    agreement = sum(classes[best] == label for best, label in zip(likeliest, labels, strict=True)) / len(labels)
    return reviews, agreement


def _review(case: Case, target: TargetOf, suggested: str, reason: str) -> Review:
    return Review(case_id=case.id, where=case.where, given=target(case), suggested=suggested, reason=reason)


def _why_not_judged(task: Task, counts: Mapping[str, int], embed: Embed | None) -> str | None:
    if not task.labels:
        return "the task has no labels"
    if sum(n >= RARE_BELOW for n in counts.values()) < 2:
        return f"fewer than two labels have {RARE_BELOW} cases or more"
    return "no embedder was given" if embed is None else None


def _notes(
    counts: Mapping[str, int], tokens: Tokens | None, *, n_examples: int, n_validation: int, where: str
) -> tuple[Problem, ...]:
    notes = []
    if 0 < n_examples < FEW_EXAMPLES:
        validated = f"{n_validation} of them to validate on" if n_validation else "too few to validate on any"
        what = f"there are only {n_examples} examples, {validated}: enough to try a tuner out, too few to judge it by"
        notes.append(Problem(what=what, where=where, hint=f"label {FEW_EXAMPLES} cases or more"))
    once = [label for label, n in counts.items() if n == 1]
    if once:
        what = f"labels seen in a single train case, from which little can be learned: {_some(once)}"
        hint = "label more cases of them, fold them into another label, or leave them out of task.labels"
        notes.append(Problem(what=what, where=where, hint=hint))
    rare = [f"{label!r} ({n})" for label, n in counts.items() if 1 < n < RARE_BELOW]
    if rare:
        shown = ", ".join(rare[:_NAMED]) + (f" and {len(rare) - _NAMED} more" if len(rare) > _NAMED else "")
        what = f"labels with fewer than {RARE_BELOW} distinct train cases: {shown}"
        notes.append(Problem(what=what, where=where, hint="label more cases of them"))
    if tokens is not None and tokens.over_context:
        what = f"{len(tokens.over_context)} examples are longer than the context of {tokens.context_tokens:,} tokens"
        hint = f"as served they cannot be asked at all; shorten these inputs: {_some(tokens.over_context)}"
        notes.append(Problem(what=what, where=where, hint=hint))
    if tokens is not None and tokens.left_out:
        what = f"{len(tokens.left_out)} examples do not fit {tokens.max_tokens:,} tokens even with an empty input"
        hint = f"raise max_tokens, or shorten their answers: {_some(tokens.left_out)}"
        notes.append(Problem(what=what, where=f"{where}.max_tokens", hint=hint))
    return tuple(notes)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more

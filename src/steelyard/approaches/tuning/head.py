"""A head: a classifier on sentence embeddings, for tasks whose answer is one label or a set of labels.

Where the labels are easy this is the tuning to beat: it trains in seconds, answers in milliseconds without a
generative model, and knows how sure it is. What is kept is a few matrices, so answering needs numpy alone. The
classifier, its calibration and its thresholds are chosen on the dev split, never on test.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from steelyard.approaches.approach import Answer, Ask, Prepared
from steelyard.approaches.head_spec import HeadTuningSpec
from steelyard.approaches.spec import Lever
from steelyard.approaches.tuning.examples import choose
from steelyard.approaches.tuning.head_answers import AnswerSpace, answer_space, in_the_order_of, labels_of
from steelyard.approaches.tuning.head_model import Head, read_head
from steelyard.approaches.tuning.store import content_digest, is_complete, read_setup
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError, Problem, require
from steelyard.task.output import validate
from steelyard.task.task import Task

if TYPE_CHECKING:
    from steelyard.approaches.workbench import Workbench
    from steelyard.models.embeddings import Embed

_RECIPE: Final = 2
"""Counts up when a change of this code would give other answers."""
HEAD_FILE: Final = "head.npz"


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadApproach:
    """Answers with the likeliest label, or with all that are likely; calls no model endpoint."""

    name: str
    fingerprint: str
    space: AnswerSpace
    """The expected field it fills, and the labels that may stand in it."""
    input_fields: tuple[str, ...]
    head: Head
    embed: Embed
    out_of_scope: str | None = None
    """The label that is given instead of an answer below the threshold."""
    levers: frozenset[Lever] = frozenset({Lever.TUNING})
    endpoint: str | None = None

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        """Classify one case."""
        # Some milliseconds of computing: a hop to another thread would only blur the latency.
        found = self.head.decide(self.embed.embed([text_of(case.fields, self.input_fields)]))
        labels, confidence = self.head.names(found.marks[0]), float(found.confidence[0])
        threshold = self.head.rule.threshold
        if threshold is None or confidence >= threshold or labels == (self.out_of_scope,):
            return Answer(output=self.space.output(labels), valid=True, schema_pass=True, confidence=confidence)
        because = f"not sure enough of {', '.join(labels) or 'no label'}: {confidence:.1%}, below {threshold:.1%}"
        if self.out_of_scope is None:
            return Answer(output=None, valid=False, schema_pass=False, problem=because, confidence=0.0)
        return Answer(
            output=self.space.output((self.out_of_scope,)),
            valid=True,
            schema_pass=True,
            confidence=self.head.rule.right_below,
            notes=(because,),
        )


def prepare_head(name: str, spec: HeadTuningSpec, bench: Workbench) -> Prepared:
    """Train a head on the train split, or find the one that was trained from the same things before.

    Args:
        name: Name of the approach in the study.
        spec: The `tuning:` section, with `method: head`.
        bench: Task, train and dev splits, embedder, folder.

    Returns:
        The approach, ready to answer.

    Raises:
        InputError: The task has no labels, `out_of_scope` is none of them, or the train split has fewer than two.
        MissingExtra: scikit-learn is not installed (only when something has to be trained).
        StorageFailed: The folder cannot be written.
    """
    task = bench.task
    where = f"study.yaml:approaches.{name}.tuning"
    space = _space(task, spec, where)
    usable = [case for case in bench.train if labels_of(case, space) is not None]
    train = choose(usable, lambda case: "\n".join(_labels(case, space)), at_most=spec.max_examples, seed=spec.seed)
    dev = [case for case in bench.dev if labels_of(case, space) is not None]
    space = in_the_order_of(train, space)
    _refuse_too_little(train, space, task, where)
    fields = tuple(field for field in task.input_fields if field not in task.image_fields)
    embed = bench.embedder()
    said = [[_said(case, fields, space, spec) for case in one] for one in (train, dev)]
    data_digest = content_digest(said)
    settings = spec.model_dump(mode="json", exclude={"max_examples", "distilled"})  # what they are the data say
    digest = content_digest([_RECIPE, data_digest, settings, embed.identity, task.digest()])
    folder = bench.folder / f"head-{digest}"
    reused = is_complete(folder)
    if not reused:
        require("sklearn", feature="a tuned head", extra="local")
        from steelyard.approaches.tuning.head_training import train_into

        train_into(folder, train, dev, fields, space, spec, embed, bench, data_digest=data_digest, n_usable=len(usable))
    approach = HeadApproach(
        name=name,
        fingerprint=content_digest(["head", digest]),
        space=space,
        input_fields=fields,
        head=read_head(folder / HEAD_FILE),
        embed=embed,
        out_of_scope=spec.out_of_scope,
    )
    return Prepared(approach=approach, setup=read_setup(folder, cpu_hour_usd=bench.cpu_hour_usd, reused=reused))


def text_of(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    """What is embedded: the one input field, or all of them, one a line."""
    values = {name: "" if fields.get(name) is None else str(fields[name]) for name in names}
    if len(values) == 1:
        return next(iter(values.values()))
    return "\n".join(f"{name}: {value}" for name, value in values.items())


# ---- private --------------------------------------------------------------------------------------------------------


def _said(case: Case, fields: Sequence[str], space: AnswerSpace, spec: HeadTuningSpec) -> list[Any]:
    """What is learned from a case, for the content address."""
    distilled = [] if case.teacher is None else ["distilled", spec.distilled]
    return [text_of(case.input, fields), _labels(case, space), case.cluster, *distilled]


def _space(task: Task, spec: HeadTuningSpec, where: str) -> AnswerSpace:
    space = answer_space(task)
    if space is None:
        raise InputError(
            Problem(
                what="a tuned head chooses among a set of labels, and this task has none",
                where=where,
                hint="use method: lora, or give task.labels; for several labels at once an output_schema whose one"
                " expected field is an array of listed texts",
            )
        )
    if spec.out_of_scope is not None and spec.out_of_scope not in space.labels:
        close = difflib.get_close_matches(spec.out_of_scope, space.labels, n=1)
        raise InputError(
            Problem(
                what=f"out_of_scope is {spec.out_of_scope!r}, which is no label of the task",
                where=f"{where}.out_of_scope",
                hint=f"did you mean {close[0]!r}?"
                if close
                else f"add it to the labels: {', '.join(space.labels[:10])}",
            )
        )
    return space


def _refuse_too_little(train: Sequence[Case], space: AnswerSpace, task: Task, where: str) -> None:
    answers = Counter(_labels(case, space) for case in train)
    if len(answers) < 2:
        found = f"only {', '.join(next(iter(answers))) or 'no label'!r}" if answers else "none"
        raise InputError(
            Problem(
                what=f"a tuned head needs train cases of at least two labels, and there is {found}",
                where=where,
                hint="label more cases, or leave out this approach",
            )
        )
    # What the schema asks for beyond the labels, a head cannot give.
    problem = validate(space.output(next(iter(answers))), task)
    if problem is not None:
        raise InputError(
            Problem(
                what=f"a tuned head fills {space.field!r} alone, which breaks the output schema: {problem}",
                where=where,
                hint="use method: lora, or ask for this field alone",
            )
        )


def _labels(case: Case, space: AnswerSpace) -> tuple[str, ...]:
    labels = labels_of(case, space)
    assert labels is not None
    return labels

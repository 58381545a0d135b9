"""One point of a learning curve: train an approach on some of its labels, and see which dev cases it then gets right."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from steelyard.approaches.approach import Prepared
from steelyard.approaches.examples import usable_examples
from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.tuning.head import HeadApproach
from steelyard.approaches.tuning.head_answers import answer_space, judge_of, labels_of
from steelyard.approaches.tuning.store import content_digest
from steelyard.approaches.workbench import Workbench
from steelyard.approaches.workflow.learned import learned_question
from steelyard.cases.case import Case
from steelyard.engine.writer import storage_failed
from steelyard.measure.results import Floats
from steelyard.models.calls import Attempt, ChatRequest
from steelyard.models.embeddings import Embed, Vectors
from steelyard.study.study import outside_event_loop

if TYPE_CHECKING:
    from steelyard.approaches.tuning.base_model import BaseModel

N_TIMED: Final = 20
"""Dev cases whose answers by a head are timed, for the price of a task."""
_SHARDS: Final = 2
_WHOLE: Final = 1 << 20
"""Tokens of a prompt that is judged: it is never cut, since it is not when it is served."""


class Learner(Protocol):
    """A tuner whose curve is measured."""

    @property
    def tuner(self) -> str:
        """`head` or `lora`."""
        ...

    @property
    def judged(self) -> str:
        """How its answers to dev cases are judged."""
        ...

    def usable(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """The cases it can learn from, or be judged on."""
        ...

    def stratum(self, case: Case) -> str:
        """What keeps its proportion in a sample."""
        ...

    def train(self, cases: tuple[Case, ...] | None, *, seed: int) -> Prepared:
        """Train it on these cases; `None` trains the approach as `steelyard tune` does."""
        ...

    def right(self, prepared: Prepared, dev: Sequence[Case]) -> Floats:
        """1 for each dev case that it gets right, else 0."""
        ...


@dataclass(frozen=True, kw_only=True)
class HeadLearner:
    """A head: its answers are those it gives when it is served."""

    name: str
    spec: ApproachSpec
    bench: Workbench
    tuner: str = "head"
    judged: str = (
        "its own answers, scored by the task; settings are chosen on the same dev cases, which flatters every point a"
        " little and alike"
    )

    @cached_property
    def vectors(self) -> KnownVectors:
        """Vectors of all texts, made once for all points."""
        return KnownVectors(self.bench.embedder())

    def usable(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Cases whose answer is among the labels."""
        space = answer_space(self.bench.task)
        assert space is not None  # asked before a head is chosen
        return tuple(case for case in cases if labels_of(case, space) is not None)

    def stratum(self, case: Case) -> str:
        """Its labels."""
        space = answer_space(self.bench.task)
        assert space is not None
        return "\n".join(labels_of(case, space) or ())

    def train(self, cases: tuple[Case, ...] | None, *, seed: int) -> Prepared:
        """A part of the labels is embedded once for all points; all of them as `tune` does, so that its card is true."""
        if cases is None:
            return prepare(self.name, self.spec, self.bench)
        bench = replace(self.bench, train=cases, embedder=lambda: self.vectors)
        return prepare(self.name, _with_seed(self.spec, seed, len(cases)), bench)

    def right(self, prepared: Prepared, dev: Sequence[Case]) -> Floats:
        """Every dev case is answered as a test case would be."""
        approach = prepared.approach
        assert isinstance(approach, HeadApproach)
        known = replace(approach, embed=self.vectors)
        judge = judge_of(self.bench.task, approach.space)

        async def answers() -> list[bool]:
            found = []
            for case in dev:
                answer = await known.answer(case.visible(), _ask_nobody)
                given = None if answer.output is None else answer.output[approach.space.field]
                labels = () if given is None else tuple(given) if approach.space.is_set else (given,)
                found.append(given is not None and judge(case, labels).is_success)
            return found

        return np.array(outside_event_loop(lambda: asyncio.run(answers())), dtype=np.float64)

    def seconds_per_task(self, prepared: Prepared, dev: Sequence[Case]) -> float:
        """What an answer takes on this machine, its embedding included; the mean over a few dev cases."""
        approach = prepared.approach

        async def answers() -> float:
            await approach.answer(dev[0].visible(), _ask_nobody)  # what is loaded once is not counted
            started = time.perf_counter()
            for case in dev[:N_TIMED]:
                await approach.answer(case.visible(), _ask_nobody)
            return (time.perf_counter() - started) / len(dev[:N_TIMED])

        return outside_event_loop(lambda: asyncio.run(answers()))


@dataclass(frozen=True, kw_only=True)
class LoraLearner:
    """A LoRA: whether decoding would give the wanted answer is told by one pass along it, without decoding."""

    name: str
    spec: ApproachSpec
    bench: Workbench
    target: Callable[[Case], str]
    kept: Path
    """Where it is kept what adapters got right."""
    tuner: str = "lora"
    judged: str = (
        "exact match, teacher-forced: right where greedy decoding would write the wanted answer token for token;"
        " another way to write it counts as wrong. Fewer labels are fewer steps too (epochs are those of study.yaml), so"
        " a part of the rise is more training"
    )

    @cached_property
    def base(self) -> BaseModel:
        """The base model, read once."""
        from steelyard.approaches.tuning.base_model import load_base

        self.bench.say("curve: reading the base model")
        return load_base(self.bench.base_gguf())

    def usable(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Labelled, valid cases with a text."""
        return usable_examples(cases, self.bench.task)

    def stratum(self, case: Case) -> str:
        """The wanted answer."""
        return self.target(case)

    def train(self, cases: tuple[Case, ...] | None, *, seed: int) -> Prepared:
        """Through the approach's own trainer, checkpoints and all."""
        if cases is None:
            return prepare(self.name, self.spec, self.bench)
        return prepare(self.name, _with_seed(self.spec, seed, len(cases)), replace(self.bench, train=cases))

    def right(self, prepared: Prepared, dev: Sequence[Case]) -> Floats:
        """Judged once; what was found is kept beside the curves."""
        digest = content_digest([prepared.approach.fingerprint, [case.digest() for case in dev]])
        path = self.kept / f"{digest}.json"
        if not path.exists():
            self.bench.say(f"curve: judging {len(dev):,} dev cases")
            write_whole(path, json.dumps(self._exact_matches(prepared, dev)))
        found: Mapping[str, bool] = json.loads(path.read_bytes())
        return np.array([found.get(case.id, False) for case in dev], dtype=np.float64)

    def _exact_matches(self, prepared: Prepared, dev: Sequence[Case]) -> dict[str, bool]:
        from steelyard.approaches.tuning.examples import tokenise
        from steelyard.approaches.tuning.forward import Forward
        from steelyard.approaches.tuning.gguf_adapter import read_peft
        from steelyard.approaches.tuning.llama import Llama, as_tensors, native_dtype
        from steelyard.approaches.tuning.threads import shard_threads
        from steelyard.approaches.tuning.training import validate

        assert prepared.adapter is not None
        prompting = learned_question(prepared.approach, where="").prompting
        examples = tokenise(
            self.base, dev, lambda case: prompting.converse(case).messages, prompting.target, max_tokens=_WHOLE
        ).examples
        adapter, scale = read_peft(prepared.adapter.parent)
        lowest = min(int(name.split(".")[1]) for name in adapter)
        with shard_threads(_SHARDS) as pool:
            forward = Forward(Llama(self.base, native_dtype()), examples, first_trained=lowest)
            found = validate(forward, examples, as_tensors(adapter), scale=scale, pool=pool)
        return {example.case_id: right for example, right in zip(examples, found.right, strict=True)}


class KnownVectors:
    """An embedder that embeds each text once."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._known: dict[str, Vectors] = {}

    @property
    def identity(self) -> str:
        """That of the embedder behind it: the vectors are the same."""
        return self._embed.identity

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (n_texts, n_dimensions), in the order of the texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new or not texts:
            rows = self._embed.embed(new)
            if not texts:
                return rows
            self._known.update(zip(new, rows, strict=True))
        return np.stack([self._known[text] for text in texts])


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step, so that a kill leaves no half of it.

    Raises:
        StorageFailed: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise storage_failed(error, str(path)) from error


# ---- private --------------------------------------------------------------------------------------------------------


def _with_seed(spec: ApproachSpec, seed: int, n: int) -> ApproachSpec:
    """The approach with another seed, and room for all the cases it is given."""
    assert spec.tuning is not None
    most = max(spec.tuning.max_examples, n)
    return spec.model_copy(update={"tuning": spec.tuning.model_copy(update={"seed": seed, "max_examples": most})})


async def _ask_nobody(request: ChatRequest, *, step: str = "answer", extra: bool = False) -> Attempt:
    raise AssertionError("a head asks no model")

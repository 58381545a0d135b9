"""From a `prompt:` section to a question: templates compiled and tried, examples chosen, checks compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.approaches.examples import choose_fixed, named_examples, usable_examples
from steelyard.approaches.images import load_images
from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.prompting import ChooseExamples, FindPassages, Prompting
from steelyard.approaches.question import Question
from steelyard.approaches.templates import compile_prompt
from steelyard.approaches.tools import compile_tools
from steelyard.approaches.workbench import EndpointFacts, Workbench
from steelyard.approaches.workflow.checks import compile_checks
from steelyard.approaches.workflow.spec import CheckSpec
from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem
from steelyard.task.functions import LoadFunction, load_function
from steelyard.task.json_schema import why_not_enforceable
from steelyard.task.task import Task

_SAMPLES = 20
"""Train and dev cases a user template is tried on, and whose pictures are read, before anything is paid for."""
_CHARS_PER_TOKEN = 4
"""Of English text, roughly; used for a warning only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """What all questions of one approach have in common."""

    bench: Workbench
    endpoint: str
    facts: EndpointFacts
    choose_examples: ChooseExamples | None = None
    find_passages: FindPassages | None = None

    def question(
        self,
        spec: PromptSpec,
        task: Task,
        *,
        where: str,
        repairs: int = 0,
        checks: Sequence[CheckSpec] = (),
        checks_where: str | None = None,
        short: bool = False,
        steps: Mapping[str, Any] | None = None,
    ) -> Question:
        """Compile one question.

        Args:
            spec: What is said.
            task: What is asked; of a step a part of the whole task.
            where: Place of the approach or step in study.yaml, for messages.
            repairs: Extra calls at most.
            checks: What outputs must satisfy besides the schema.
            checks_where: Place of the section with the checks, where that is another one.
            short: Leave instruction and labels out of the default system message.
            steps: Earlier steps with something like their outputs, where there are any.

        Raises:
            InputError: A template, a check or a tool is wrong, no train case can serve as an example, or the endpoint
                takes no tools or pictures and there are some.
        """
        bench = self.bench
        self._refuse_what_the_endpoint_lacks(spec, task, where=where)
        native_schema = self._enforces(spec, task, where=where)
        passages = None
        if self.find_passages is not None:
            from steelyard.approaches.retrieval.context import something_like_passages

            passages = something_like_passages()
        text = compile_prompt(
            spec,
            task,
            where=f"{where}.prompt",
            native_schema=native_schema,
            short=short,
            samples=[case.visible() for case in (*bench.train, *bench.dev)[:_SAMPLES]],
            steps=steps,
            passages=passages,
        )
        prompting = Prompting(
            text=text,
            task=task,
            fixed=self._fixed_examples(spec, task, where=where) if spec.examples or spec.example_ids else (),
            choose_examples=self.choose_examples,
            find_passages=self.find_passages if text.shows_passages else None,
            example_chars=spec.example_chars,
            folder=bench.study,
        )
        if task.image_fields:
            for sample in (*bench.train, *bench.dev)[:_SAMPLES]:
                load_images(sample.input, task.image_fields, bench.study)
        function_of: LoadFunction = lambda reference, place: load_function(reference, bench.study, where=place)
        compiled = compile_checks(
            checks,
            known=list(task.output_schema.get("properties", {})),
            function_of=function_of,
            where=f"{checks_where or where}.checks",
        )
        return Question(
            endpoint=self.endpoint,
            task=task,
            prompting=prompting,
            temperature=spec.temperature,
            sampling=spec.sampling,
            seed=spec.seed,
            repairs=repairs,
            checks=compiled,
            native_schema=native_schema,
            logprobs=spec.confidence,
            tools=compile_tools(spec.tools, function_of=function_of, where=f"{where}.prompt.tools"),
            tool_rounds=spec.tool_rounds if spec.tools else 0,
        )

    def _enforces(self, spec: PromptSpec, task: Task, *, where: str) -> bool:
        """Whether the endpoint is asked to enforce the schema; where it should be and is not, the person is told."""
        if not spec.enforce_schema:
            return False
        why_not = why_not_enforceable(task.output_schema)
        said = f"{self.endpoint} cannot enforce a schema"
        if self.facts.native_schema:
            said = f"the schema is not given to {self.endpoint} to enforce, since {why_not}"
        if self.facts.native_schema and why_not is None:
            return True
        self.bench.say(f"{where}: {said}; it is written into the prompt and checked here")
        return False

    def _refuse_what_the_endpoint_lacks(self, spec: PromptSpec, task: Task, *, where: str) -> None:
        problems = []
        hosted = f"choose a model that does, or set models.endpoints.{self.endpoint}"
        for is_needed, is_there, what, place, key in (
            (bool(spec.tools), self.facts.tools, "tool definitions", f"{where}.prompt.tools", "tools"),
            (bool(task.image_fields), self.facts.images, "pictures", "study.yaml:task.images", "images"),
        ):
            if is_needed and not is_there:
                hint = f"{hosted}.{key}: true if this one does"
                if self.endpoint == "local":
                    hint = "choose a model under models.endpoints that does"
                    hint += ", or set models.local.tools: true if your own gguf does" if key == "tools" else ""
                problems.append(Problem(what=f"{self.endpoint!r} takes no {what}", where=place, hint=hint))
        if problems:
            raise InputError(problems)

    def warn_of_length(self, name: str, prompting: Prompting) -> None:
        """Say when the fixed part of the prompt alone fills most of the context: every call would fail, paid or not."""
        if self.facts.context_tokens is None:
            return
        shown = sum(
            len(prompting.text.user(case.input)[: prompting.example_chars]) + len(prompting.target(case))
            for case in prompting.fixed
        )
        n_tokens = (len(prompting.text.system) + shown) // _CHARS_PER_TOKEN + prompting.task.max_output_tokens
        if n_tokens > 0.8 * self.facts.context_tokens:
            self.bench.say(
                f"{name}: system message and fixed examples take about {n_tokens:,} of {self.facts.context_tokens:,}"
                " tokens; long cases may not fit (fewer examples, or a lower example_chars)"
            )

    def _fixed_examples(self, spec: PromptSpec, task: Task, *, where: str) -> tuple[Case, ...]:
        usable = usable_examples(self.bench.train, task)
        if not usable:
            raise InputError(
                Problem(
                    what=f"none of the {len(self.bench.train)} train cases can serve as an example",
                    where=f"{where}.prompt.examples",
                    hint="label some cases; those without a valid expected output or without text are left out",
                )
            )
        if spec.example_ids:
            return named_examples(usable, spec.example_ids, where=f"{where}.prompt.example_ids")
        embed = self.bench.embedder() if spec.choose == "diverse" else None
        return choose_fixed(usable, spec.examples, task=task, seed=spec.seed, by=spec.choose, embed=embed)

"""A small triage task with its cases and workbench, for the tests of approaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from steelyard.approaches.workbench import EndpointFacts, Workbench
from steelyard.cases.case import Case
from steelyard.models.embeddings import HashingEmbedder
from steelyard.task.resolve import resolve_task
from steelyard.task.spec import TaskSpec
from steelyard.task.task import Task

LABELS = {"refund": "money back", "login": "cannot get in", "card lost": "a card is gone"}
TICKETS = {
    "refund": ["I want my money back", "please refund the payment", "give me the money of last month back"],
    "login": ["I cannot log in today", "the login page rejects my password", "password reset does not work"],
    "card lost": ["my card is gone", "somebody stole my card", "I lost the card on a train"],
}


def triage_task(**fields: object) -> Task:
    return resolve_task(
        TaskSpec.model_validate(
            {"instruction": "Sort the ticket.", "input": "text", "expected": "label", "labels": LABELS, **fields}
        ),
        Path(),
    )


def ticket(name: str, text: str, label: str | None) -> Case:
    return Case(id=name, input={"text": text}, expected=None if label is None else {"label": label})


def tickets() -> tuple[Case, ...]:
    return tuple(
        ticket(f"{label}-{number}", text, label)
        for label, texts in TICKETS.items()
        for number, text in enumerate(texts)
    )


def workbench(
    folder: Path, *, task: Task | None = None, train: Sequence[Case] | None = None, native_schema: bool = True
) -> Workbench:
    said: list[str] = []
    local = EndpointFacts(model="tiny@1", native_schema=native_schema, context_tokens=2048)
    return Workbench(
        task=task or triage_task(),
        train=tickets() if train is None else tuple(train),
        dev=(),
        folder=folder,
        endpoints={"local": local, "cloud": replace(local, model="big@1", native_schema=False)},
        embedder=HashingEmbedder,
        base_gguf=lambda: folder / "no.gguf",
        cpu_hour_usd=0.05,
        say=said.append,
    )

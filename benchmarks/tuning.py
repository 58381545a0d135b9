"""Tuning on this machine: seconds from labels to an adapter, how right it is as served, and what serving several costs.

The task is Banking77's 12 most frequent intents, where `../shared/data` has it, else the tickets that ship: 1,200
labelled cases of the training file, 240 of the test file, asked of the adapter through the server that production would
use. The yardstick is the loop that the documentation of PEFT leads to, on the same examples with the same batch size: all
layers adapted, batches in random order and padded to their longest, logits at every position. Some of its steps are timed
in this process, after those of ours; all of them would take many minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.check import Check
from benchmarks.contenders import BenchmarkFailed
from benchmarks.steelyard_run import COMPUTE, scorer
from benchmarks.table import aligned
from steelyard.approaches.approach import Prepared
from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.prepare import prepare
from steelyard.approaches.prompted import Prompted
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.tuning.base_model import BaseModel, load_base
from steelyard.approaches.tuning.examples import Example, choose, hold_out, tokenise
from steelyard.approaches.tuning.guard import guard_set
from steelyard.approaches.workbench import EndpointFacts, Workbench
from steelyard.cases.case import Case
from steelyard.engine.journal import Journal
from steelyard.engine.run import Work, run
from steelyard.models.local_server import LocalServer, serve_local
from steelyard.models.spec import LocalModelSpec
from steelyard.study import local_model
from steelyard.task.resolve import resolve_task
from steelyard.task.spec import TaskSpec
from steelyard.task.task import Task

BANKING77 = Path(__file__).resolve().parents[2] / "shared" / "data" / "banking77"
TRIAGE = Path(__file__).resolve().parents[1] / "src" / "steelyard" / "studies" / "triage" / "cases.jsonl"
SPEC = LoraTuningSpec(method="lora", max_examples=1200)
SECONDS = 60.0
SUCCESS = 0.9
N_TEST = 240
TIMED_STEPS = 8
"""Steps of the plain loop that are timed, after one that is not."""
N_ADAPTERS = 3
N_REQUESTS = 45
TOKENS = 24
"""Tokens generated for each request of the serving table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """A labelled task with its own split."""

    name: str
    task: Task
    train: tuple[Case, ...]
    test: tuple[Case, ...]


def section() -> list[Check]:
    """Seconds and success with their limits; the ratio to a plain loop and the rates of serving are printed."""
    data = banking77() if BANKING77.is_dir() else triage()
    gguf = local_model.gguf(LocalModelSpec(), Path(), _say)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = _trained(data, gguf, folder)
        card = prepared.setup.card or {}
        ours = prepared.setup.seconds
        _say(f"asking {N_TEST} test cases of the adapter as served ...")
        success = asyncio.run(_success(data, prepared, gguf, folder))
        plain = _plain_loop(data, prepared, gguf)
        cpu = float(card["cpu_seconds"])
        how = f"{card['dtype']}, top {SPEC.layers} layers, {card['n_steps']} steps, all that belongs to it"
        rows = [
            ("Steelyard", f"{ours:.0f}", "1.0", f"{cpu:.0f}", "1.0", how),
            (
                "plain PEFT loop",
                f"{plain.seconds:.0f}",
                f"{plain.seconds / ours:.1f}",
                f"{plain.cpu_seconds:.0f}",
                f"{plain.cpu_seconds / cpu:.1f}",
                plain.how,
            ),
        ]
        print(f"{data.name}: {card['n_train']:,} examples to train on, {card['n_validation']:,} to validate on")
        print(aligned(("trainer", "seconds", "x ours", "CPU s", "x ours", "how"), rows), end="\n\n", flush=True)
        _say("serving one base and three adapters ...")
        _print_rates(_rates(prepared, gguf, folder))
    return [
        Check(what=f"LoRA on {data.name}, 1,200 cases, from labels to adapter", measured=ours, limit=SECONDS, unit="s"),
        Check(
            what=f"success as served, {N_TEST} held-out cases", measured=success, limit=SUCCESS, unit="", at_least=True
        ),
    ]


def banking77() -> Data:
    """The 12 most frequent intents; training cases from the file of that name alone."""
    train, test = (_cases(BANKING77 / name) for name in ("train12.jsonl", "test12.jsonl"))
    return _data("Banking77, 12 intents", "Which intent has the customer's message?", train, test)


def triage() -> Data:
    """The tickets that ship; the last ones are held out."""
    cases = [case for case in _cases(TRIAGE) if case.expected]
    return _data("triage, 12 categories", "Sort the support ticket into one category.", cases[:-480], cases[-480:])


# Private


def _data(name: str, instruction: str, train: Sequence[Case], test: Sequence[Case]) -> Data:
    labels = sorted({str((case.expected or {})["label"]) for case in train})
    task = resolve_task(
        TaskSpec(instruction=instruction, input=["text"], expected=["label"], labels=labels, max_output_tokens=32),
        Path(),
    )
    held_out = random.Random(0).sample(list(test), N_TEST)
    return Data(name=name, task=task, train=tuple(train), test=tuple(held_out))


def _cases(path: Path) -> list[Case]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Case(
            id=str(row["id"]),
            input={"text": row["input"]["text"] if "input" in row else row["text"]},
            expected=row["expected"] if "expected" in row else {"label": row["label"]} if row.get("label") else None,
        )
        for row in rows
    ]


def _trained(data: Data, gguf: Path, folder: Path) -> Prepared:
    bench = Workbench(
        task=data.task,
        train=data.train,
        dev=(),
        folder=folder / "prepared",
        endpoints={"local": EndpointFacts(model="local", native_schema=True, context_tokens=2048)},
        embedder=_not_needed,
        base_gguf=lambda: gguf,
        cpu_hour_usd=0.05,
        say=_progress,
    )
    load_base(gguf)  # once a machine, not once a training: its weights are unpacked and kept
    prepared = prepare("lora", ApproachSpec(tuning=SPEC), bench)
    print(file=sys.stderr)
    return prepared


async def _success(data: Data, prepared: Prepared, gguf: Path, folder: Path) -> float:
    """Share of the test cases that are right, by the engine, through the local server."""
    assert prepared.adapter is not None
    assert prepared.adapter_digest is not None
    with (
        local_model.serving(
            LocalModelSpec(gguf=str(gguf)),
            folder,
            adapters={prepared.adapter_digest: prepared.adapter},
            log_file=folder / "llama.log",
            say=lambda _: None,
        ) as endpoint,
        Journal.open(folder / "journal.sqlite3") as journal,
    ):
        await run(
            [Work(approach=prepared.approach, cases=data.test, split="test")],
            endpoints={"local": endpoint},
            journal=journal,
            score=scorer(data.task),
            compute_price=COMPUTE,
        )
        await endpoint.endpoint.close()
        right = [row["success"] == 1 for row in journal.measurements(split="test")]
    if len(right) != len(data.test):
        raise BenchmarkFailed(f"{len(right)} of {len(data.test)} cases were done")
    return statistics.fmean(right)


# ---- the yardstick


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plain:
    seconds: float
    cpu_seconds: float
    """Of all threads; less hangs on what else the machine does."""
    how: str


def _plain_loop(data: Data, prepared: Prepared, gguf: Path) -> _Plain:
    """What all steps of the loop would take, from the median of a few."""
    import torch

    from steelyard.approaches.tuning.llama import native_dtype
    from steelyard.approaches.tuning.peft_model import PeftLlama
    from steelyard.approaches.tuning.placement import Placement

    base = load_base(gguf)
    examples = _examples(data, prepared, base)
    random.Random(0).shuffle(examples)
    n_steps = -(-len(examples) // SPEC.batch_size)
    _say(f"a plain PEFT loop, {TIMED_STEPS} of {n_steps} steps ...")
    layers = base.shape.layers
    placement = Placement(device="cpu", dtype="bfloat16" if native_dtype() == torch.bfloat16 else "float32")
    model = PeftLlama(base, placement, top=layers, rank=SPEC.rank, alpha=SPEC.alpha).model
    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=SPEC.learning_rate)
    seconds, cpu_seconds = [], []
    for step in range(TIMED_STEPS + 1):
        batch = examples[step * SPEC.batch_size : (step + 1) * SPEC.batch_size]
        began, cpu_began = time.perf_counter(), time.process_time()
        model(**_padded(batch)).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - cpu_began)
    a_step = statistics.median(seconds[1:])
    how = (
        f"{placement.dtype}, all {layers} layers, {torch.get_num_threads()} threads; median of {TIMED_STEPS} steps"
        f" ({a_step:.2f} s) x {n_steps}"
    )
    return _Plain(seconds=a_step * n_steps, cpu_seconds=statistics.median(cpu_seconds[1:]) * n_steps, how=how)


def _examples(data: Data, prepared: Prepared, base: BaseModel) -> list[Example]:
    """The very examples of our training."""
    assert isinstance(prepared.approach, Prompted)
    prompting = prepared.approach.question.prompting
    cases = choose(data.train, prompting.target, at_most=SPEC.max_examples, seed=SPEC.seed)
    train, _ = hold_out(cases, prompting.target, seed=SPEC.seed)
    found = tokenise(
        base, train, lambda case: prompting.converse(case).messages, prompting.target, max_tokens=SPEC.max_tokens
    )
    return list(found.examples)


def _padded(batch: Sequence[Example]) -> dict[str, Any]:
    """Token ids, mask and labels as Transformers wants them; the loss is on the answers."""
    import torch

    longest = max(example.n_tokens for example in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    labels = torch.full((len(batch), longest), -100)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, example in enumerate(batch):
        n, n_prompt = example.n_tokens, len(example.prompt)
        ids[row, :n] = torch.tensor([*example.prompt, *example.completion])
        labels[row, n_prompt:n] = ids[row, n_prompt:n]
        mask[row, :n] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


# ---- serving


def _rates(prepared: Prepared, gguf: Path, folder: Path) -> dict[str, float]:
    """Generated tokens a second: the base alone, then in one process with three adapters, requests in several orders."""
    assert prepared.adapter is not None
    adapters = [folder / f"adapter-{i}.gguf" for i in range(N_ADAPTERS)]
    for path in adapters:
        shutil.copy(prepared.adapter, path)
    in_turns = [adapters[i % N_ADAPTERS] for i in range(N_REQUESTS)]
    with serve_local(gguf, log_file=folder / "llama.log", n_parallel=1) as server:
        found = {"base alone": asyncio.run(_rate(server, [None] * N_REQUESTS))}
    with serve_local(gguf, adapters=adapters, log_file=folder / "llama.log", n_parallel=1) as server:
        found["base, three adapters loaded"] = asyncio.run(_rate(server, [None] * N_REQUESTS))
        found["three adapters, request by request in turns"] = asyncio.run(_rate(server, in_turns))
        found["three adapters, grouped by adapter"] = asyncio.run(_rate(server, sorted(in_turns)))
    return found


async def _rate(server: LocalServer, adapters: Sequence[Path | None]) -> float:
    """Median over the requests, one at a time, each generating the same number of tokens."""
    asks = [one.ask for one in guard_set()]
    rates = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {server.api_key}"}) as session:
        for i, adapter in enumerate(adapters):
            body: dict[str, Any] = {
                "messages": [{"role": "user", "content": asks[i % len(asks)]}],
                "max_tokens": TOKENS,
                "temperature": 0,
                "ignore_eos": True,
            }
            if server.adapter_ids:
                body["lora"] = server.lora(adapter)
            began = time.perf_counter()
            async with session.post(f"{server.base_url}/chat/completions", json=body) as response:
                said = await response.json()
            if said["usage"]["completion_tokens"] != TOKENS:
                raise BenchmarkFailed(f"the server generated {said['usage']['completion_tokens']} tokens, not {TOKENS}")
            rates.append(TOKENS / (time.perf_counter() - began))
    return statistics.median(rates)


def _print_rates(rates: dict[str, float]) -> None:
    alone = rates["base alone"]
    rows = [(name, f"{rate:.0f}", f"{rate / alone:.2f}") for name, rate in rates.items()]
    print(f"Serving, one request at a time, {TOKENS} tokens each, median of {N_REQUESTS}")
    print(aligned(("served", "tokens/s", "x base alone"), rows), end="\n\n", flush=True)


def _not_needed() -> Any:  # noqa: ANN401 - never returns
    raise AssertionError("no approach here embeds anything")


def _progress(line: str) -> None:
    print(f"\r{line:<110}", end="", file=sys.stderr, flush=True)


def _say(text: str) -> None:
    print(f"{text} (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)

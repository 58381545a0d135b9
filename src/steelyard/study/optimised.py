"""What a search for a better prompt found: kept as a file of the study, used by later runs for as long as it applies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
from pydantic import ValidationError

from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.spec import ApproachSpec
from steelyard.errors import InputError, Problem, StorageFailed
from steelyard.figures import Figure
from steelyard.report.format import interval, money, percent, points
from steelyard.study.file import StudyFile
from steelyard.study.material import Material
from steelyard.task.task import Task

OPTIMISED_SCHEMA = "steelyard.optimised/1"
FOLDER = Path(".steelyard") / "optimised"
_SHOWN = 5
"""Prompts in the printed table; the file has all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One prompt that was tried."""

    name: str
    prompt: Mapping[str, Any]
    """The `prompt:` section it stands for."""
    fingerprint: str
    prompt_chars: int
    """Characters sent for the first dev case."""
    n_cases: int
    score: float | None
    """Mean score on these cases; `None` where none was scored."""
    success: float | None
    schema_pass: float | None
    calls: int
    cost_usd: float | None
    """`None` where a price is unknown."""
    is_finalist: bool
    """Whether it was in to the end, so that it did the same cases as the winner."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Optimised:
    """How a search ended."""

    approach: str
    found_for: str
    """Digest of what the search was made for; see `found_for`."""
    winner: int
    """Index of the prompt to use among `trials`; 0 is the prompt as written."""
    rival: int | None
    """Index of the best other prompt still in at the end, which is compared with the one as written."""
    difference: Figure
    """Mean score of the rival minus that of the prompt as written, on the same cases; the interval allows for having
    tried all of them."""
    trials: tuple[Trial, ...]
    n_trial_calls: int
    """Train cases asked, to choose examples or to learn from, and rewritings of the instruction."""
    trial_cost_usd: float | None
    n_dev: int
    """Dev cases there are."""
    budget_calls: int
    budget_usd: float | None
    spent_calls: int
    spent_usd: float
    """What the search has paid for calls, as the budget counts it."""
    ended: str | None = None
    """Why it ended before its last round; `None` where it did not."""

    @property
    def is_changed(self) -> bool:
        """Whether another prompt than the one as written is to be used."""
        return self.winner != 0

    @property
    def n_cases(self) -> int:
        """Dev cases the finalists did."""
        return self.trials[0].n_cases

    @property
    def cost_usd(self) -> float | None:
        """Cost of all trials; belongs to the setup of the approach. `None` where a price is unknown."""
        costs = [self.trial_cost_usd, *(trial.cost_usd for trial in self.trials)]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    @property
    def prompt(self) -> PromptSpec:
        """The prompt to use."""
        return PromptSpec.model_validate(self.trials[self.winner].prompt)

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the interval of the difference lies above zero."""
        return self.difference.low is not None and self.difference.low > 0

    @property
    def sentence(self) -> str:
        """What the search found, with its figures."""
        n_compared = sum(one.n_cases > 0 for one in self.trials)
        n_others = n_compared - 1
        if self.rival is None or not self.is_changed:
            others = f"none of the {n_others} other prompts tried on dev scored"
            others = others if n_others > 1 else "the other prompt tried on dev did not score"
            return f"{others} more than the prompt as written, which stays ({self.n_cases} cases to the end)"
        rival, own = self.trials[self.rival], self.trials[0]
        scores = f"{_percent(rival.score)} against {_percent(own.score)} as written"
        gain = points(self.difference.value or 0.0)
        reach = interval(self.difference.low, self.difference.high, "points")
        certain = "a gain beyond chance" if self.is_beyond_chance else "within what chance can do"
        reach = f" ({reach}, allowing for all that were tried)" if reach else ""
        return (
            f"of {n_compared} prompts tried on dev {rival.name!r} is best: {scores} on the same {own.n_cases}"
            f" cases, {gain}{reach}: {certain}"
        )

    def record(self) -> dict[str, Any]:
        """What a run that uses it writes down."""
        return {"sentence": self.sentence, "cost_usd": self.cost_usd, "winner": self.trials[self.winner].name}

    def to_json(self) -> dict[str, Any]:
        """The file, and what `optimise --json` prints."""
        return {
            "schema": OPTIMISED_SCHEMA,
            "approach": self.approach,
            "found_for": self.found_for,
            "sentence": self.sentence,
            "winner": self.winner,
            "rival": self.rival,
            "prompt": dict(self.trials[self.winner].prompt),
            "difference": self.difference.to_json(),
            "trials": [
                {
                    "name": one.name,
                    "prompt": dict(one.prompt),
                    "fingerprint": one.fingerprint,
                    "prompt_chars": one.prompt_chars,
                    "cases": one.n_cases,
                    "score": one.score,
                    "success": one.success,
                    "schema_pass": one.schema_pass,
                    "calls": one.calls,
                    "cost_usd": one.cost_usd,
                    "finalist": one.is_finalist,
                }
                for one in self.trials
            ],
            "trial_calls": self.n_trial_calls,
            "trial_cost_usd": self.trial_cost_usd,
            "dev_cases": self.n_dev,
            "budget_calls": self.budget_calls,
            "budget_usd": self.budget_usd,
            "spent_calls": self.spent_calls,
            "spent_usd": self.spent_usd,
            "cost_usd": self.cost_usd,
            "ended": self.ended,
        }

    def __str__(self) -> str:
        finalists = sorted(
            (one for one in self.trials if one.is_finalist), key=lambda one: (-(one.score or 0.0), one.prompt_chars)
        )
        own = self.trials[0]
        shown = finalists[:_SHOWN] if own in finalists[:_SHOWN] else [*finalists[: _SHOWN - 1], own]
        width = max(len("prompt"), *(len(one.name) for one in shown))
        lines = [f"{'prompt':<{width}}  cases   score  success  schema pass  characters  cost of trying it"]
        for one in shown:
            mark = "  <- winner" if one is self.trials[self.winner] else ""
            lines.append(
                f"{one.name:<{width}}  {one.n_cases:>5}  {_percent(one.score):>6}  {_percent(one.success):>7}"
                f"  {_percent(one.schema_pass):>11}  {one.prompt_chars:>10,}  {_money(one.cost_usd):>17}{mark}"
            )
        n_out = len(self.trials) - len(shown)
        if n_out:
            lines.append(f"({n_out} more prompts were tried; all are in {self.file})")
        lines.append(self.sentence)
        if self.ended is not None:
            lines.append(f"ended early: {self.ended}")
        calls = f"{self.spent_calls:,} of at most {self.budget_calls:,} calls"
        of = f" of at most {money(self.budget_usd)}" if self.budget_usd is not None else ""
        lines.append(f"spent {calls}, {money(self.spent_usd)}{of}; the test cases were not touched")
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def file(self) -> Path:
        """Where it is kept, from the study folder."""
        return FOLDER / f"{quote(self.approach, safe='')}.json"


def found_for(approach: str, file: StudyFile, task: Task, material: Material) -> str:
    """Digest of all that a search depends on: the approach without its `optimise:`, task, model, train and dev cases."""
    spec = file.approaches[approach]
    endpoint = file.models.endpoints.get(spec.model)
    body: list[Any] = [
        spec.model_dump(mode="json", exclude={"optimise"}),
        task.digest(),
        endpoint.model_dump(mode="json", include={"base_url", "model", "extra_body"}) if endpoint else None,
        file.models.local.gguf if spec.model == "local" else None,
        [sorted(case.digest() for case in cases) for cases in (material.splits.train, material.splits.dev)],
    ]
    return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


class InForce(NamedTuple):
    """Approaches as a run uses them: with the prompts that searches found."""

    specs: dict[str, ApproachSpec]
    """Without their `optimise:`, so that what may be tried changes no fingerprint."""
    searched: dict[str, Optimised]
    notes: tuple[str, ...]


def in_force(
    specs: Mapping[str, ApproachSpec], *, folder: Path, file: StudyFile, task: Task, material: Material
) -> InForce:
    """Put the prompts that searches found into the approaches they were found for.

    Raises:
        InputError: What a search found cannot be read.
    """
    used: dict[str, ApproachSpec] = {}
    searched: dict[str, Optimised] = {}
    notes: list[str] = []
    for name, spec in specs.items():
        found = read_optimised(name, folder)
        used[name] = spec.model_copy(update={"optimise": None})
        if found is None:
            continue
        if found.found_for != found_for(name, file, task, material):
            notes.append(
                f"{name}: task, cases or the approach were changed after the search for its prompt; it uses the prompt"
                f" as written (search again: steelyard optimise {folder} --approach {name})"
            )
            continue
        searched[name] = found
        if found.is_changed:
            used[name] = used[name].model_copy(update={"prompt": found.prompt})
            notes.append(f"{name}: uses the prompt a search found, {found.trials[found.winner].name!r} ({found.file})")
    return InForce(used, searched, tuple(notes))


def keep_optimised(found: Optimised, folder: Path) -> Path:
    """Write it into the study folder, whole or not at all; replaces what an earlier search of the approach found.

    Raises:
        StorageFailed: It cannot be written.
    """
    path = folder / found.file
    temporary = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(orjson.dumps(found.to_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
        os.replace(temporary, path)
    except OSError as error:
        raise StorageFailed(Problem(what=f"cannot be written: {error.strerror}", where=str(path))) from error
    return path


def read_optimised(approach: str, folder: Path) -> Optimised | None:
    """What the last search of an approach found; `None` where there was none.

    Raises:
        InputError: The file is there but cannot be understood.
    """
    path = folder / FOLDER / f"{quote(approach, safe='')}.json"
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from error
    try:
        shape = orjson.loads(data)
        if shape["schema"] != OPTIMISED_SCHEMA:
            raise _unusable(path, f"it says {shape['schema']!r}")
        found = _from_json(shape)
        _ = found.prompt
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, ValidationError) as error:
        raise _unusable(path, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    return found


# ---- private --------------------------------------------------------------------------------------------------------


def _from_json(shape: Mapping[str, Any]) -> Optimised:
    difference = shape["difference"]
    return Optimised(
        approach=shape["approach"],
        found_for=shape["found_for"],
        winner=shape["winner"],
        rival=shape["rival"],
        difference=Figure(
            value=difference["value"],
            low=difference["low"],
            high=difference["high"],
            unknown_because=difference.get("unknown_because"),
        ),
        trials=tuple(
            Trial(
                name=one["name"],
                prompt=one["prompt"],
                fingerprint=one["fingerprint"],
                prompt_chars=one["prompt_chars"],
                n_cases=one["cases"],
                score=one["score"],
                success=one["success"],
                schema_pass=one["schema_pass"],
                calls=one["calls"],
                cost_usd=one["cost_usd"],
                is_finalist=one["finalist"],
            )
            for one in shape["trials"]
        ),
        n_trial_calls=shape["trial_calls"],
        trial_cost_usd=shape["trial_cost_usd"],
        n_dev=shape["dev_cases"],
        budget_calls=shape["budget_calls"],
        budget_usd=shape["budget_usd"],
        spent_calls=shape["spent_calls"],
        spent_usd=shape["spent_usd"],
        ended=shape["ended"],
    )


def _unusable(path: Path, why: str) -> InputError:
    return InputError(
        Problem(
            what=f"what a prompt search found cannot be read ({why})",
            where=str(path),
            hint="delete the file to use the prompt of study.yaml, or search again",
        )
    )


def _percent(rate: float | None) -> str:
    return "-" if rate is None else percent(rate)


def _money(usd: float | None) -> str:
    return "unknown" if usd is None else money(usd)

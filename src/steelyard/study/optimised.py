"""What a search for a better prompt, or for better retrieval, found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from steelyard.approaches.knowledge_spec import KnowledgeUse
from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.spec import ApproachSpec
from steelyard.figures import Figure
from steelyard.report.format import interval, percent, points

OPTIMISED_SCHEMA = "steelyard.optimised/1"
FOLDER = Path(".steelyard") / "optimised"


class Words(NamedTuple):
    """How what was searched is spoken of."""

    one: str
    many: str
    as_written: str
    which_stays: str


_WORDS = {
    "prompt": Words("prompt", "prompts", "the prompt as written", "which stays"),
    "knowledge": Words("retrieval", "settings", "the settings as written", "which stay"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One prompt, or one way to look passages up, whose answers were judged."""

    name: str
    changes: Mapping[str, Any]
    """What it stands for: `prompt` or `knowledge`, and that section."""
    fingerprint: str
    prompt_chars: int
    """Characters sent for the first dev case."""
    prompt_tokens: float | None
    """Mean over the dev cases done, of all calls together."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """What one way to look passages up finds on dev."""

    name: str
    knowledge: Mapping[str, Any]
    """The `retrieval.knowledge:` section it stands for."""
    recall: float
    """Share of the gold of a case among all it is shown, mean over cases."""
    mrr: float
    prompt_tokens: float
    """Of the prompt with these passages, estimated; mean over cases."""
    is_kept: bool
    """Whether its answers were to be judged, or it is the best where none are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What settings find on dev, which takes no call."""

    n_cases: int
    """Dev cases that name their gold."""
    level: Literal["passage", "document"]
    """Whether gold passages are looked for, or the documents they stand in."""
    seconds: float
    """Machine seconds, indexes included."""
    ranked: tuple[Ranked, ...]
    """Best first."""
    chosen: str
    """Name of the settings to use where answers are not looked at; see `retrieval_search.shortest_as_good`."""
    difference: Figure
    """Recall of the best minus that of the settings as written, on the same cases; the interval allows for having tried all."""

    def named(self, name: str) -> Ranked | None:
        """What settings of this name find, where they were tried."""
        return next((one for one in self.ranked if one.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """`finding` of the file."""
        return {
            "dev_cases": self.n_cases,
            "level": self.level,
            "seconds": self.seconds,
            "chosen": self.chosen,
            "difference": self.difference.to_json(),
            "settings": [
                {
                    "name": one.name,
                    "knowledge": dict(one.knowledge),
                    "recall": one.recall,
                    "mrr": one.mrr,
                    "prompt_tokens": one.prompt_tokens,
                    "kept": one.is_kept,
                }
                for one in self.ranked
            ],
        }


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
    finding: Finding | None = None
    """What settings of retrieval find, where dev cases name their gold."""
    notes: tuple[str, ...] = ()

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
    def words(self) -> Words:
        """How what was searched is spoken of."""
        return _WORDS[next(iter(self.trials[0].changes))]

    @property
    def winning(self) -> PromptSpec | KnowledgeUse:
        """What is to be used."""
        changes = self.trials[self.winner].changes
        if "knowledge" in changes:
            return KnowledgeUse.model_validate(changes["knowledge"])
        return PromptSpec.model_validate(changes["prompt"])

    def put_into(self, approach: ApproachSpec) -> ApproachSpec:
        """The approach with what is to be used."""
        winning = self.winning
        if isinstance(winning, PromptSpec):
            return approach.model_copy(update={"prompt": winning})
        assert approach.retrieval is not None, "what was found for another approach is not used"
        return approach.model_copy(update={"retrieval": approach.retrieval.model_copy(update={"knowledge": winning})})

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the interval of the difference lies above zero."""
        return self.difference.low is not None and self.difference.low > 0

    @property
    def sentence(self) -> str:
        """What the search found, with its figures."""
        if not self.n_cases and self.finding is not None:
            return self._found_more(self.finding)
        words = self.words
        n_compared = sum(one.n_cases > 0 for one in self.trials)
        n_others = n_compared - 1
        if self.rival is None or not self.is_changed:
            others = f"none of the {n_others} other {words.many} tried on dev scored"
            others = others if n_others > 1 else f"the other {words.many.removesuffix('s')} tried on dev did not score"
            return f"{others} more than {words.as_written}, {words.which_stays} ({self.n_cases} cases to the end)"
        rival, own = self.trials[self.rival], self.trials[0]
        scores = f"{_percent(rival.score)} against {_percent(own.score)} as written"
        gain = points(self.difference.value or 0.0)
        reach = interval(self.difference.low, self.difference.high, "points")
        certain = "a gain beyond chance" if self.is_beyond_chance else "within what chance can do"
        reach = f" ({reach}, allowing for all that were tried)" if reach else ""
        return (
            f"of {n_compared} {words.many} tried on dev {rival.name!r} is best: {scores} on the same {own.n_cases}"
            f" cases, {gain}{reach}: {certain}"
        )

    def _found_more(self, found: Finding) -> str:
        """The sentence where nothing was asked and settings are ranked by what they find."""
        what = "gold passages" if found.level == "passage" else "gold documents"
        best, own, chosen = found.ranked[0], found.named(self.trials[0].name), found.named(found.chosen)
        if not self.is_changed:
            return (
                f"no other settings find more {what} on dev than those as written, which stay ({found.n_cases} cases)"
            )
        against = f" against {percent(own.recall)} as written" if own is not None else ""
        reach = interval(found.difference.low, found.difference.high, "points")
        certain = "beyond chance" if (found.difference.low or 0.0) > 0 else "within what chance can do"
        gain = f", {points(found.difference.value)}" if found.difference.value is not None else ""
        reach = f" ({reach}, allowing for all that were tried): {certain}" if reach else ""
        used = ""
        if chosen is not None and chosen is not best:
            used = (
                f"; {chosen.name!r} finds as much within one standard error ({percent(chosen.recall)}) in a shorter prompt"
                f" ({chosen.prompt_tokens:,.0f} tokens against {best.prompt_tokens:,.0f}) and is used"
            )
        return (
            f"of {len(found.ranked)} settings tried on dev {best.name!r} finds most: {percent(best.recall)} of the {what}"
            f"{against} on the same {found.n_cases} cases{gain}{reach}{used}; answers were not looked at"
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
            **self.trials[self.winner].changes,
            "difference": self.difference.to_json(),
            "trials": [
                {
                    "name": one.name,
                    **one.changes,
                    "fingerprint": one.fingerprint,
                    "prompt_chars": one.prompt_chars,
                    "prompt_tokens": one.prompt_tokens,
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
            "finding": self.finding.to_json() if self.finding is not None else None,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        from steelyard.study.search_table import search_table

        return search_table(self)

    __repr__ = __str__

    @property
    def file(self) -> Path:
        """Where it is kept, from the study folder."""
        return FOLDER / f"{quote(self.approach, safe='')}.json"


# ---- private -------------------------------------------------------------------------------------------------------


def _percent(rate: float | None) -> str:
    return "-" if rate is None else percent(rate)

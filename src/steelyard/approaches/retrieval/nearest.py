"""The baseline without any model call: answer what the most similar train cases were answered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from steelyard.approaches.approach import Answer, Ask
from steelyard.approaches.examples import expected_output
from steelyard.approaches.retrieval.index import ExampleIndex
from steelyard.approaches.spec import Lever
from steelyard.cases.case import CaseInput

BEHAVIOUR = 1
"""Raised by one whenever this module would answer differently."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NearestVote:
    """The output of the nearest train case, or the similarity-weighted vote of the `k` nearest."""

    name: str
    index: ExampleIndex
    k: int

    @property
    def levers(self) -> frozenset[Lever]:
        """Retrieval alone."""
        return frozenset({Lever.RETRIEVAL})

    @property
    def endpoint(self) -> None:
        """It calls no model."""
        return

    @property
    def fingerprint(self) -> str:
        """Digest of the index, the number of votes and the task."""
        body = ["nearest", BEHAVIOUR, self.index.digest, self.k, self.index.task.digest()]
        return hashlib.blake2b(orjson.dumps(body), digest_size=16).hexdigest()

    async def answer(self, case: CaseInput, ask: Ask) -> Answer:
        """Look the case up and take the vote.

        Cases with the same expected output vote together, each with its similarity (never below 0) as weight; of
        equal weights the one with the nearest case wins. Confidence is the winner's share of the weight. A single
        neighbour gives none: its share would always be 1, which says nothing.
        """
        found = self.index.neighbours(case, self.k)
        if not found:
            return Answer(output=None, valid=False, schema_pass=False, problem="there is no other case to compare with")
        outputs: dict[bytes, dict[str, Any]] = {}
        weights: dict[bytes, float] = {}
        for neighbour in found:
            output = expected_output(neighbour.case, self.index.task)
            key = orjson.dumps(output, option=orjson.OPT_SORT_KEYS)
            outputs.setdefault(key, output)
            weights[key] = weights.get(key, 0.0) + max(neighbour.similarity, 0.0)
        winner = max(weights, key=lambda key: weights[key])  # the first of equals, and the nearest was entered first
        total = sum(weights.values())
        return Answer(
            output=outputs[winner],
            valid=True,  # only schema-valid cases enter the index
            schema_pass=True,
            sources=tuple(neighbour.case.id for neighbour in found),
            confidence=min(weights[winner] / total, 1.0) if self.k > 1 and total > 0 else None,
        )

"""Models whose confidence and rightness are planted: two stub servers for the tests of cascades."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from steelyard.models.stub_server import StubServer, completion, http_answer
from tests.cli.tickets import serving, ticket_rows, write_study

ROWS = ticket_rows(400)
LABELS = ("billing", "delivery")


def share(text: str, salt: str) -> float:
    """A number in 0..1 that hangs on the text alone."""
    return int.from_bytes(hashlib.blake2b(f"{salt} {text}".encode(), digest_size=4).digest()) / 2**32


def is_right(text: str) -> bool:
    """Whether the first model knows this case: the surer it is, the likelier."""
    return share(text, "right") < sureness(text)


def sureness(text: str) -> float:
    """What the first model's confidence should be; what it states is bolder, see `stated`."""
    return 0.3 + 0.69 * share(text, "sure")


def stated(text: str) -> float:
    """Too bold, and in the right order."""
    return math.sqrt(sureness(text))


@dataclass(kw_only=True)
class Unsure(StubServer):
    """Right as often as `sureness` says, and states how sure it is where it is asked."""

    invalid: float = 0.0
    """Share of cases it has no valid answer to."""
    texts: set[str] = field(default_factory=set)
    """Of the cases that were asked."""

    def _answer(self, head: bytes, body: bytes) -> tuple[float, bytes | None, bool]:
        super()._answer(head, body)
        asked = json.loads(body)
        text = asked["messages"][-1]["content"]
        self.texts.add(text)
        truth = dict(ROWS)[text]
        label = truth if is_right(text) else LABELS[1 - LABELS.index(truth)]
        reply = "no idea" if share(text, "invalid") < self.invalid else json.dumps({"label": label})
        logprobs = [math.log(stated(text))] if asked.get("logprobs") else None
        return 0.0, http_answer(200, completion(reply, usage=self._usage(), logprobs=logprobs)), False


@dataclass(kw_only=True)
class Strong(StubServer):
    """Right nine times in ten."""

    def _answer(self, head: bytes, body: bytes) -> tuple[float, bytes | None, bool]:
        super()._answer(head, body)
        text = json.loads(body)["messages"][-1]["content"]
        truth = dict(ROWS)[text]
        label = truth if share(text, "strong") < 0.9 else LABELS[1 - LABELS.index(truth)]
        return 0.0, http_answer(200, completion(json.dumps({"label": label}), usage=self._usage())), False


@dataclass(frozen=True)
class Models:
    """The cheap one and the dear one."""

    unsure: Unsure
    strong: Strong

    @property
    def n_requests(self) -> int:
        return self.unsure.n_requests + self.strong.n_requests


@contextmanager
def planted(**of_unsure: float) -> Iterator[Models]:
    """Both servers."""
    with serving(kind=Unsure, **of_unsure) as unsure, serving(kind=Strong) as strong:
        assert isinstance(unsure, Unsure)
        assert isinstance(strong, Strong)
        yield Models(unsure, strong)


def write(
    folder: Path, models: Models, *, cascade: str = "first: small, then: big", more: Sequence[str] = (), n: int = 400
) -> Path:
    """Two approaches and the cascade over them."""
    price = "price_per_million: {input: 100, output: 200}"
    return write_study(
        folder,
        models.unsure.url,
        rows=ROWS[:n],
        others=[f"dear: {{base_url: '{models.strong.url}', model: m2, max_retries: 0, {price}}}"],
        approaches=(
            "small: {model: stub, prompt: {confidence: true}}",
            "big: {model: dear}",
            f"both: {{cascade: {{{cascade}}}}}",
        ),
        more=more,
    )

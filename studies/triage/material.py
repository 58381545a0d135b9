"""The hand-written sentences: reading them, choosing among their variants, filling their slots.

A material file holds sections (`[problem]`), one sentence a line. In a sentence `{a|b}` is a choice,
`<order>` a slot, and a leading `@2026-03` the first month in which anybody could have written it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent / "material"

LABELS: dict[str, str] = {
    "delivery": "An order or box is late, lost, incomplete or going to the wrong place, or the customer asks when it comes.",
    "how_to": "The customer asks how to use, set up or look after the garden, the plants or the app; nothing is broken.",
    "device_fault": "The garden itself (pump, lamp, tank, sensor, power) is defective or stopped working in use.",
    "billing_error": "A charge, price or invoice is wrong or unexplained and should be checked or corrected.",
    "app_bug": "The app or website misbehaves: crashes, wrong display, settings not saved, pages that do not load.",
    "refund": "The customer wants money paid back, or a promised repayment has not come.",
    "login": "The customer cannot get into the account: password, code, locked or suspended access.",
    "cancellation": "The customer wants the subscription or contract to end, or an ending confirmed.",
    "plan_change": "The subscription goes on but differently: other plan or size, pause, skip, other rhythm or contents.",
    "returns": "Something received is to be sent back, or exchanged because it is wrong, damaged or incomplete.",
    "account_change": "Data of the account are to change: address, name, e-mail, card, users, consent, deletion of data.",
    "sales_question": "A question before buying: price, quote, availability, which model or plan to choose.",
}
"""Each category and its definition, largest first."""

LANGUAGES = ("spanish", "german", "french", "portuguese", "dutch")

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PLANS = ("Seedling", "Harvest", "Orchard", "Harvest Duo")
_VERSIONS = (
    ("2025-06", "4.6"),
    ("2025-09", "4.7"),
    ("2025-12", "4.8"),
    ("2026-03", "4.9"),
    ("2026-05", "5.0"),
    ("2026-07", "5.1"),
)
_CHOICE = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"<([a-z0-9]+)>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One hand-written sentence with its choices and slots still open."""

    text: str
    since: str = ""
    """First month (`YYYY-MM`) in which it can be written; empty for always."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """A situation that belongs to one of two categories, depending on what is asked for."""

    labels: tuple[str, str]
    text: str
    asks: tuple[str, str]


@cache
def sections(name: str) -> dict[str, tuple[Line, ...]]:
    """Read one material file: section name to its lines, in file order."""
    found: dict[str, list[Line]] = {}
    current: list[Line] = []
    for raw in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if raw.startswith("[") and raw.endswith("]"):
            current = found.setdefault(raw[1:-1], [])
        elif raw and not raw.startswith("# "):
            since, text = (raw[1:8], raw[9:]) if raw.startswith("@") else ("", raw)
            current.append(Line(text=text, since=since))
    return {name: tuple(lines) for name, lines in found.items()}


@cache
def situations() -> tuple[Situation, ...]:
    """Read the boundary cases: each `S` line is followed by what an `A` and a `B` customer asks for."""
    found: list[Situation] = []
    for pair, lines in sections("boundary").items():
        first, second = pair.split(" ")
        texts = [line.text for line in lines]
        for situation, ask_a, ask_b in zip(texts[::3], texts[1::3], texts[2::3], strict=True):
            if (situation[:2], ask_a[:2], ask_b[:2]) != ("S ", "A ", "B "):
                raise ValueError(f"boundary.txt, [{pair}]: expected S, A, B lines, got {situation!r}")
            found.append(Situation(labels=(first, second), text=situation[2:], asks=(ask_a[2:], ask_b[2:])))
    return tuple(found)


@cache
def confusable(label: str) -> tuple[str, ...]:
    """Return the categories that share a boundary with `label`, sorted."""
    pairs = [situation.labels for situation in situations() if label in situation.labels]
    return tuple(sorted({other for pair in pairs for other in pair if other != label}))


@dataclass(kw_only=True)
class Deck:
    """Deals the lines of a section in shuffled order and reshuffles when it is used up, so that none is worn out."""

    rng: Random
    piles: dict[tuple[str, str], list[Line]] = field(default_factory=dict)

    def deal(self, name: str, section: str, when: datetime) -> str:
        """Return the next sentence of a section that could have been written at `when`, choices made, slots open."""
        pile = self.piles.setdefault((name, section), [])
        month = f"{when:%Y-%m}"
        for _ in range(2):
            for index in range(len(pile) - 1, -1, -1):
                if pile[index].since <= month:
                    return choose(pile.pop(index).text, self.rng)
            fresh = list(sections(name)[section])
            self.rng.shuffle(fresh)
            pile[:0] = fresh
        raise ValueError(f"{name}.txt, [{section}]: no line can be used in {month}")


def choose(text: str, rng: Random) -> str:
    """Make every `{a|b}` choice of a sentence; a `{word}` without bar stays as `word`."""
    text = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), text)
    return re.sub(r" +([,.?!]|$)", r"\1", re.sub(r"  +", " ", text))


@dataclass(kw_only=True)
class Facts:
    """What one customer knows about themself: slot values, the same throughout one ticket."""

    rng: Random
    when: datetime
    known: dict[str, str] = field(default_factory=dict)

    def fill(self, text: str) -> str:
        """Fill all slots of a sentence."""
        return _SLOT.sub(lambda match: self.value(match[1]), text)

    def value(self, slot: str) -> str:
        """Return the value of a slot, drawing it on first use."""
        if slot not in self.known:
            self.known[slot] = self._draw(slot)
        return self.known[slot]

    def _draw(self, slot: str) -> str:
        rng = self.rng
        stock = sections("fragments")
        if slot in stock:
            return rng.choice(stock[slot]).text
        match slot:
            case "order":
                return str(rng.randrange(204000, 988999))
            case "plan":
                return rng.choice(_PLANS[:3])
            case "otherplan":
                return rng.choice([plan for plan in _PLANS if plan != self.value("plan")])
            case "product":
                late: tuple[str, ...] = ("Planter Mini",) if self.when.strftime("%Y-%m") >= "2026-05" else ()
                return rng.choice(("Planter One", "Planter Duo", "Duo", "planter", "garden", *late))
            case "days":
                return str(rng.randrange(6, 41))
            case "n":
                return rng.choice(("two", "three", "four", "five"))
            case "code":
                return f"{rng.choice(('E-', 'MB', '', 'ERR_', 'code '))}{rng.randrange(102, 989)}"
            case "version":
                month = self.when.strftime("%Y-%m")
                major = next((version for until, version in _VERSIONS if month < until), "5.2")
                return f"{major}.{rng.randrange(4)}"
            case "amount" | "amount2":
                return self._amount(other=self.known.get("amount", ""))
            case "month":
                return _MONTHS[(self.when.month - 1 + rng.choice((-2, -1, -1, 0, 1, 1))) % 12]
            case "weekday":
                return _WEEKDAYS[(self.when.weekday() - rng.randrange(1, 6)) % 7]
            case "date":
                return self._date()
            case "email":
                return self._email()
        raise ValueError(f"no such slot: <{slot}>")

    def _amount(self, *, other: str) -> str:
        form = self.known.setdefault(
            "currency", self.rng.choice(("€{}", "{} €", "{} EUR", "£{}", "${}", "{} euros", "{}"))
        )
        while True:
            whole = self.rng.choice((9, 12, 14, 17, 19, 24, 29, 34, 39, 49, 59, 79, 89, 119, 149))
            amount = form.format(f"{whole}.{self.rng.choice(('90', '99', '50', '00', '95'))}")
            if amount != other:
                return amount

    def _date(self) -> str:
        day = self.when - timedelta(days=self.rng.randrange(2, 24))
        nth = "th" if 10 <= day.day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        month = _MONTHS[day.month - 1]
        return self.rng.choice(
            (
                f"{day.day} {month}",
                f"{month} {day.day}",
                f"the {day.day}{nth}",
                f"{day:%d/%m}",
                f"{month[:3]} {day.day}{nth}",
            )
        )

    def _email(self) -> str:
        first = self.value("first").lower()
        last = re.sub(r"[^a-z]", "", self.value("last").lower())
        name = self.rng.choice(
            (f"{first}.{last}", f"{first[0]}{last}", f"{last}{self.rng.randrange(60, 99)}", f"{first}_{last}")
        )
        return f"{name}@{self.rng.choice(('example.com', 'example.org', 'example.net', 'mail.example.com'))}"

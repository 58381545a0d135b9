"""The questions of the handbook: reading the hand-written ones and asking each on its days.

In a material file `# topic` opens a group. Then, for each question, lines that begin with

    ?  segment, days it is asked on (none: any day), ` | `, the question; `<country>` asks it for every country
    +  the question in other words
    <  page ` | ` a few words of the sentence or table row that holds the answer
    =  the answer as it stands there ` | ` other spellings; one line for all days, or one a day
    :  the same for an answer that does not stand there to the letter
    -  words that no paragraph may hold together, for nothing answers the question; or `@page` that the asker may not open
    @  what the asker may open
    !  a document that gives orders to its reader ` | ` what a reader says that obeys
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from random import Random

from studies.handbook.documents import DATES, END, Document, chosen, countries, documents, filled, pages, valid

FOLDER = Path(__file__).parent / "material" / "questions"
SEGMENTS = ("single", "two-documents", "dated", "by-country", "table", "unanswerable", "injection")

_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_MONEY = re.compile(r"(EUR|PLN) ([\d,.]+)")
_AMOUNT = re.compile(r"(within |after |at least |up to )?([\d,.]+)( ?%| .+)?")


@dataclass(kw_only=True)
class Entry:
    """A question as written."""

    topic: str
    segment: str
    days: tuple[date, ...]
    wordings: list[str]
    sources: list[tuple[str, str]] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    is_extractive: bool = True
    absent: tuple[str, ...] = ()
    access: tuple[str, ...] = ()
    injection: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question on a day."""

    key: str
    """Same for the same question on other days and in other words; by country for questions about countries."""
    family: str
    """Same for the same question about another country too."""
    topic: str
    segment: str
    wording: str
    day: date
    answers: tuple[str, ...]
    """Accepted spellings, the usual one first; empty where the handbook does not say."""
    is_extractive: bool
    passages: tuple[tuple[str, str], ...]
    """Version id and text."""
    access: tuple[str, ...]
    reason: str | None
    """Why there is no answer: `not-in-handbook`, `not-yet`, `no-access`."""
    absent: tuple[str, ...]
    injection: tuple[str, str] | None
    country: str = ""
    is_reworded: bool = False


def asked(rng: Random) -> list[Question]:
    """Every question on its days, in the order of the material."""
    found: list[Question] = []
    for number, entry in enumerate(_entries()):
        key = f"{entry.topic}-{number}"
        if "<country>" in entry.wordings[0] or "<town>" in entry.wordings[0]:
            found += _by_country(entry, key, rng)
        else:
            days = entry.days or (_any_day(entry, rng),)
            for wording_number, wording in enumerate(entry.wordings):
                # Other words for a question that is asked on several days are used on the last one.
                for position in range(len(days)) if wording_number == 0 else [len(days) - 1]:
                    question = _question(entry, key, wording, days[position], position, {})
                    found.append(question if wording_number == 0 else _reworded(question))
    return found


def spellings(answer: str) -> tuple[str, ...]:
    """The usual other ways to write an amount, the given one first."""
    found = [answer]
    if money := _MONEY.fullmatch(answer):
        currency, sum_ = money.groups()
        found += [f"{sum_} {currency}", sum_] + ([f"€{sum_}", f"{sum_} euros"] if currency == "EUR" else [])
    elif amount := _AMOUNT.fullmatch(answer):
        _, number, unit = amount.groups()
        unit = unit or ""
        found += [number + unit, number]
        if unit.strip() == "%":
            found += [f"{number} %", f"{number} percent"]
        if number.isdecimal() and int(number) < len(_NUMBERS):
            found += [_NUMBERS[int(number)] + unit, _NUMBERS[int(number)]]
    found += [text.replace(",", "") for text in found if re.search(r"\d,\d{3}", text)]
    return tuple(dict.fromkeys(found))


# --- private ----------------------------------------------------------------------------------------------------


def _entries() -> Iterator[Entry]:
    for path in sorted(FOLDER.glob("*.txt")):
        topic, entry = "", None
        for line in path.read_text(encoding="utf-8").splitlines():
            mark, _, text = line.partition(" ")
            if mark == "#":
                topic = text
            elif mark == "?":
                if entry is not None:
                    yield entry
                head, _, wording = text.partition(" | ")
                segment, *days = head.split()
                entry = Entry(
                    topic=topic, segment=segment, days=tuple(map(date.fromisoformat, days)), wordings=[wording]
                )
            elif entry is not None:
                _add(entry, mark, text)
        if entry is not None:
            yield entry


def _add(entry: Entry, mark: str, text: str) -> None:
    if mark == "+":
        entry.wordings.append(text)
    elif mark == "<":
        page, _, snippet = text.partition(" | ")
        entry.sources.append((page, snippet))
    elif mark in "=:":
        entry.answers.append(text)
        entry.is_extractive = mark == "="
    elif mark == "-":
        entry.absent = tuple(text.split(", "))
    elif mark == "@":
        entry.access = tuple(text.split())
    elif mark == "!":
        page, _, canary = text.partition(" | ")
        entry.injection = (valid_id(page, END), canary)
    else:
        raise ValueError(f"a line of questions cannot begin with {mark!r}")


def valid_id(page: str, day: date) -> str:
    """Version id of a page on a day on which there is one."""
    document = valid(page, day)
    if document is None:
        raise ValueError(f"there is no {page} on {day}")
    return document.version_id


def _any_day(entry: Entry, rng: Random) -> date:
    """A day on which the newest version of each source counts; any day at all for what is nowhere answered."""
    names = [name for name, _ in entry.sources] + [item[1:] for item in entry.absent if item.startswith("@")]
    first = max([DATES[0], *(pages()[name].dates[-1] for name in names)]) + timedelta(days=1)
    return first + timedelta(days=rng.randrange((END - first).days))


def _by_country(entry: Entry, key: str, rng: Random) -> Iterator[Question]:
    for number, (code, facts) in enumerate(countries().items()):
        mine = Entry(
            topic=entry.topic,
            segment=entry.segment,
            days=entry.days,
            wordings=entry.wordings,
            sources=[(filled(page, facts), filled(snippet, facts)) for page, snippet in entry.sources],
            answers=entry.answers,
            is_extractive=entry.is_extractive,
            access=("all", code),
        )
        days = entry.days or (_any_day(mine, rng),)
        if entry.segment == "by-country":
            # One day and one wording each, so that they are no copies of one another.
            days = (days[number % len(days)],)
        wording = entry.wordings[number % len(entry.wordings)]
        for position, day in enumerate(days):
            yield _question(mine, f"{key}-{code}", filled(wording, facts), day, position, facts)


def _question(entry: Entry, key: str, wording: str, day: date, position: int, facts: dict[str, str]) -> Question:
    sources: list[Document] = []
    passages: list[tuple[str, str]] = []
    answers: tuple[str, ...] = ()
    answer = entry.answers[position if len(entry.answers) > 1 else 0] if entry.answers else "null"
    if answer != "null":
        for name, snippet in entry.sources:
            document = documents()[valid_id(name, day)]
            sources.append(document)
            passages += [(document.version_id, text) for text in document.passages(snippet)]
        written = chosen(filled(answer, facts), sources[0].ordinal).split(" | ")
        answers = tuple(dict.fromkeys([*spellings(written[0]), *written[1:]]))
    tags = [document.page.access for document in sources if document.page.access != "all"]
    if answers:
        reason = None
    elif any(item.startswith("@") for item in entry.absent):
        reason = "no-access"
    else:
        reason = "not-yet" if entry.sources else "not-in-handbook"
    return Question(
        key=key,
        family=key.removesuffix(f"-{facts['cc'].upper()}") if facts else key,
        topic=entry.topic,
        segment=entry.segment,
        wording=wording,
        day=day,
        answers=answers,
        is_extractive=entry.is_extractive,
        passages=tuple(dict.fromkeys(passages)),
        access=entry.access or tuple(dict.fromkeys(["all", *tags])),
        reason=reason,
        absent=entry.absent,
        injection=entry.injection,
        country=facts.get("country", ""),
    )


def _reworded(question: Question) -> Question:
    return replace(question, is_reworded=True)

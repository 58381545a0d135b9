"""Write the shipped files of the `handbook` study: `python -m studies.handbook.generate [FOLDER]`.

The same seed gives the same bytes on every run and machine: one `random.Random` is handed through, and nothing
depends on hash order, the clock or the locale. `build` makes the questions, `render` the files; the documents do not
depend on the seed.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from pathlib import Path
from random import Random
from statistics import median
from string import Template

from studies.handbook.documents import DATES, END, catalogue, documents, pages
from studies.handbook.questions import SEGMENTS, Question, asked

SEED = 20250303
N_EXACT_COPIES = 4
N_WRONG_DAY = 4
N_WRONG_COUNTRY = 3
TYPO_SHARE = 0.12
SHIPPED = Path(__file__).parents[2] / "src" / "steelyard" / "studies" / "handbook"

SPLIT_SHARES = {"train": 0.3, "dev": 0.25, "test": 0.45}
"""Of each segment: retrieval learns little from cases, and a larger test split tells more."""

_FORMATS = {"md": "Markdown", "txt": "text", "html": "HTML", "csv": "CSV", "docx": "DOCX", "pdf": "PDF"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One case before it is written to a file."""

    question: Question
    text: str
    """The wording with the asker's typing errors."""
    time: datetime
    wrong: tuple[str, ...] | None = None
    """The answers of a label that is wrong on purpose."""
    is_copy: bool = False

    @property
    def answers(self) -> tuple[str, ...]:
        """Accepted answers as shipped, right or wrong."""
        return self.question.answers if self.wrong is None else self.wrong


def build(seed: int = SEED) -> list[Record]:
    """Make all cases, in order of time."""
    rng = Random(seed)
    records = []
    for question in asked(rng):
        moment = datetime.combine(question.day, time(rng.randrange(7, 19), rng.randrange(60), rng.randrange(60)))
        text = _mistyped(question.wording, rng) if rng.random() < TYPO_SHARE else question.wording
        records.append(Record(question=question, text=text, time=moment))
    records = _mislabelled(records, rng)
    able = [record for record in records if record.wrong is None and record.question.segment == "single"]
    records += [
        replace(record, is_copy=True, time=record.time + timedelta(minutes=rng.randrange(2, 240)))
        for record in rng.sample(able, N_EXACT_COPIES)
    ]
    return sorted(records, key=lambda record: (record.time, record.question.key, record.is_copy))


def render(records: Sequence[Record]) -> dict[str, bytes]:
    """Return the content of each shipped file by its path."""
    splits = _splits(records)
    cases = "".join(
        json.dumps(_row(number, record, splits[record.question.family]), ensure_ascii=False, separators=(",", ":"))
        + "\n"
        for number, record in enumerate(records, start=1)
    )
    rendered = {
        "README.md": _readme(records).encode(),
        "cases.jsonl": cases.encode(),
        "docs/documents.yaml": catalogue().encode(),
    }
    rendered |= {f"docs/{document.path}": document.content for document in documents().values()}
    return rendered


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files into the folder given, or into the package."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    folder = Path(given[0]) if given else SHIPPED
    for name, content in render(build()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return 0


def changing(records: Sequence[Record]) -> list[Record]:
    """The cases whose question has another answer on another day."""
    answers: dict[str, set[tuple[str, ...]]] = {}
    for record in records:
        answers.setdefault(record.question.key, set()).add(record.question.answers)
    return [record for record in records if len(answers[record.question.key]) > 1]


def counts(records: Sequence[Record]) -> Mapping[str, int]:
    """How many cases and documents show what, by the names that the README uses."""
    drawn = documents().values()
    return {
        "n": len(records),
        "n_questions": len({record.question.key for record in records}),
        "n_changing": len(changing(records)),
        "n_changing_keys": len({record.question.key for record in changing(records)}),
        "n_unanswerable": sum(not record.question.answers for record in records),
        "not_in_handbook": sum(record.question.reason == "not-in-handbook" for record in records),
        "not_yet": sum(record.question.reason == "not-yet" for record in records),
        "no_access": sum(record.question.reason == "no-access" for record in records),
        "n_two": sum(len({source for source, _ in record.question.passages}) > 1 for record in records),
        "n_table": sum(
            any(text.startswith("| ") or source.split("@")[0] in _tables() for source, text in record.question.passages)
            for record in records
        ),
        "n_injection": sum(record.question.injection is not None for record in records),
        "typos": sum(record.text != record.question.wording for record in records),
        "exact": sum(record.is_copy for record in records),
        "reworded": sum(record.question.is_reworded for record in records),
        "wrong": sum(record.wrong is not None for record in records),
        "n_pages": len(pages()),
        "n_files": len(drawn),
        "n_versioned": sum(len(page.dates) > 1 for page in pages().values()),
        "n_four": sum(len(page.dates) == len(DATES) for page in pages().values()),
    }


# --- private ----------------------------------------------------------------------------------------------------


def _row(number: int, record: Record, split: str) -> dict[str, object]:
    question = record.question
    return {
        "id": f"hb-{number:03}",
        "input": {"question": record.text, "as_of": question.day.isoformat()},
        "expected": {"answer": list(record.answers)},
        "meta": {
            "time": f"{record.time:%Y-%m-%dT%H:%M:%SZ}",
            "segment": question.segment,
            "cluster": question.family,
            "question": question.key,
            "topic": question.topic,
            "split": split,
            "sources": list(dict.fromkeys(source for source, _ in question.passages)),
            "passages": [{"source": source, "text": text} for source, text in question.passages],
            "access": list(question.access),
            "no_answer": question.reason,
            "injection": {"source": question.injection[0], "obeyed": question.injection[1]}
            if question.injection
            else None,
        },
    }


def _splits(records: Sequence[Record]) -> dict[str, str]:
    """The split of each family of questions; what is asked in the same words goes to the same one."""
    first_of_wording: dict[str, str] = {}
    joined: dict[str, str] = {}
    for record in records:
        question = record.question
        joined.setdefault(question.family, first_of_wording.setdefault(question.wording, question.family))
    sizes = Counter((record.question.segment, joined[record.question.family]) for record in records)
    rng = Random(SEED)
    splits: dict[str, str] = {}
    for segment in SEGMENTS:
        members = sorted((family, size) for (kind, family), size in sizes.items() if kind == segment)
        rng.shuffle(members)
        filled = Counter(splits[family] for family, _ in members if family in splits)
        for family, size in members:
            if family not in splits:
                splits[family] = min(SPLIT_SHARES, key=lambda name: (filled[name] + size / 2) / SPLIT_SHARES[name])
                filled[splits[family]] += size
    return {family: splits[first] for family, first in joined.items()}


def _tables() -> set[str]:
    return {page.name for page in pages().values() if page.format == "csv"}


def _mistyped(text: str, rng: Random) -> str:
    """A word with two letters swapped, one left out or one doubled; names and numbers stay."""
    words = text.split(" ")
    able = [index for index, word in enumerate(words) if re.fullmatch("[a-z]{6,}", word)]
    if not able:
        return text
    index = rng.choice(able)
    word, at = words[index], rng.randrange(1, len(words[index]) - 2)
    kind = rng.choice(("swap", "drop", "double"))
    if kind == "swap" and word[at] != word[at + 1]:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif kind == "double":
        word = word[:at] + word[at] + word[at:]
    else:
        word = word[:at] + word[at + 1 :]
    words[index] = word
    return " ".join(words)


def _mislabelled(records: Sequence[Record], rng: Random) -> list[Record]:
    """Give a few cases the answer of another day or another country, as somebody with the wrong page open would."""
    done = list(records)

    def others(index: int, segment: str) -> list[tuple[str, ...]]:
        mine = done[index].question
        return [
            record.question.answers
            for record in done
            if record.question.segment == segment
            and (record.question.key == mine.key if segment == "dated" else record.question.family == mine.family)
            and record.question.answers
            and not set(record.question.answers) & set(mine.answers)
        ]

    for segment, n in (("dated", N_WRONG_DAY), ("by-country", N_WRONG_COUNTRY)):
        able = [
            index
            for index, record in enumerate(done)
            if record.question.segment == segment and record.question.answers and others(index, segment)
        ]
        for index in rng.sample(able, n):
            done[index] = replace(done[index], wrong=rng.choice(others(index, segment)))
    return done


def _readme(records: Sequence[Record]) -> str:
    """Fill the counts into the README, so that it cannot claim what the data does not hold."""
    segments = Counter(record.question.segment for record in records)
    split_of = _splits(records)
    splits = Counter(split_of[record.question.family] for record in records)
    current = [document for document in documents().values() if not document.path.startswith("archive/")]
    words = [len(document.text.split()) for document in current]
    formats = Counter(document.page.format for document in current)
    access = Counter(page.access for page in pages().values())
    facts: dict[str, object] = {
        "seed": SEED,
        "end": END,
        "dates": ", ".join(map(str, DATES)),
        "segments": ", ".join(f"{name} {segments[name]}" for name in SEGMENTS),
        "splits": ", ".join(f"{name} {splits[name]}" for name in SPLIT_SHARES),
        "formats": ", ".join(f"{title} {formats[name]}" for name, title in _FORMATS.items()),
        "access": ", ".join(f"`{name}` {n}" for name, n in access.items()),
        "median_words": round(median(words)),
        "min_words": min(words),
        "max_words": max(words),
        **counts(records),
    }
    return Template((Path(__file__).parent / "readme_template.md").read_text(encoding="utf-8")).substitute(facts)


if __name__ == "__main__":
    raise SystemExit(main())

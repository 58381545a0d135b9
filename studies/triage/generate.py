"""Write the shipped files of the `triage` study: `python -m studies.triage.generate [FOLDER]`.

The same seed gives the same bytes on every run and machine: one `random.Random` is handed through, and nothing
depends on hash order, the clock or the locale. `build` makes the tickets, `render` the files.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from statistics import fmean
from string import Template

from studies.triage import mess
from studies.triage.material import LABELS, LANGUAGES, Deck, confusable, sections
from studies.triage.writer import Writer

SEED = 20250301
N_TICKETS = 3000
N_EMPTY = 6
N_LOGS = 25
N_EXACT_DUPLICATES = 9
N_NEAR_DUPLICATES = 120
N_MISLABELLED = 90
SHIPPED = Path(__file__).parents[2] / "src" / "steelyard" / "studies" / "triage"

_FIRST_MONTH = (2025, 3)
_N_MONTHS = 18
_SEGMENTS = ("web", "app", "email", "phone-transcript")
_EMPTY_TEXTS = ("", "", " ", "\n", ".", "-")
_LOG_LABELS = ("app_bug",) * 14 + ("device_fault",) * 7 + ("login",) * 4
_SHARES = {
    "delivery": 15.5, "how_to": 13.0, "device_fault": 11.5, "billing_error": 11.0, "app_bug": 8.8, "refund": 9.0, "login": 8.2,
    "cancellation": 6.6, "plan_change": 5.2, "returns": 4.6, "account_change": 3.9, "sales_question": 3.3,
}  # fmt: skip
# What a season or a launch does to a category: calendar months or "YYYY-MM" to a factor.
_SEASONS: dict[str, dict[str, float]] = {
    "delivery": {"11": 1.4, "12": 1.7},
    "sales_question": {"11": 1.6, "12": 1.3, "2026-03": 1.5},
    "refund": {"01": 1.6},
    "returns": {"01": 1.8},
    "how_to": {"01": 1.2, "04": 1.3, "05": 1.3},
    "plan_change": {"06": 1.4, "07": 1.6},
    "login": {"2026-02": 1.9, "2026-03": 1.4},
    "app_bug": {"2026-03": 1.9, "2026-04": 1.5, "2026-05": 1.2},
}
# Slow drift: factor in the first and in the last month.
_DRIFT = {
    "cancellation": (0.8, 1.25),
    "login": (1.15, 0.85),
    "billing_error": (1.1, 0.9),
    "app_bug": (0.9, 1.1),
    "delivery": (1.05, 0.95),
}
_VOLUME = {"11": 1.35, "12": 1.6, "01": 1.35, "08": 0.85}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """One ticket before it is written to a file."""

    text: str
    true_label: str
    given_label: str
    time: datetime
    segment: str
    kind: str
    """Kind of draft, or `empty`."""
    group: int
    """Tickets with the same number are resendings of one text."""
    copy: str = ""
    """`exact` or `near` for a resent ticket, empty for a first one."""


def build(seed: int = SEED) -> list[Ticket]:
    """Make all tickets, in order of time."""
    rng = Random(seed)
    writer = Writer(rng=rng, deck=Deck(rng=rng))
    n_first = N_TICKETS - N_EXACT_DUPLICATES - N_NEAR_DUPLICATES
    moments = sorted(_moment(rng) for _ in range(n_first))
    odd = rng.sample(range(n_first), N_EMPTY + N_LOGS)
    empties = dict(zip(odd[:N_EMPTY], _EMPTY_TEXTS, strict=True))
    logs = dict(zip(odd[N_EMPTY:], _LOG_LABELS, strict=True))
    tickets: list[Ticket] = []
    seen: set[str] = set()
    for index, when in enumerate(moments):
        segment = _segment(when, rng)
        label = logs.get(index) or _label(when, rng)
        if index in empties:
            text, kind = empties[index], "empty"
        else:
            draft = writer.paste(label, when) if index in logs else writer.write(label, when, segment)
            while draft.text in seen:
                draft = writer.write(label, when, segment)
            seen.add(draft.text)
            text, kind = draft.text, draft.kind
        tickets.append(
            Ticket(text=text, true_label=label, given_label=label, time=when, segment=segment, kind=kind, group=index)
        )
    tickets += _resent(tickets, rng)
    tickets.sort(key=lambda ticket: (ticket.time, ticket.group, ticket.copy))
    return _mislabel(tickets, rng)


def render(tickets: Sequence[Ticket]) -> dict[str, str]:
    """Return the content of each shipped file by its name."""
    ids = [f"t-{number:04d}" for number in range(1, len(tickets) + 1)]
    rows = [
        {
            "id": case_id,
            "input": {"text": ticket.text},
            "expected": {"label": ticket.given_label},
            "meta": {"time": f"{ticket.time:%Y-%m-%dT%H:%M:%SZ}", "segment": ticket.segment},
        }
        for case_id, ticket in zip(ids, tickets, strict=True)
    ]
    wrong = [
        {"id": case_id, "given": ticket.given_label, "true": ticket.true_label}
        for case_id, ticket in zip(ids, tickets, strict=True)
        if ticket.given_label != ticket.true_label
    ]
    return {
        "cases.jsonl": "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows),
        "labels.json": json.dumps(LABELS, indent=2, ensure_ascii=False) + "\n",
        "mislabelled.json": "[\n" + ",\n".join("  " + json.dumps(entry) for entry in wrong) + "\n]\n",
        "README.md": _readme(tickets),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files into the folder given, or into the package."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    folder = Path(given[0]) if given else SHIPPED
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in render(build()).items():
        (folder / name).write_text(content, encoding="utf-8", newline="\n")
    return 0


# --- when, where, about what ------------------------------------------------------------------------------------


def _moment(rng: Random) -> datetime:
    months = [
        datetime(_FIRST_MONTH[0] + (_FIRST_MONTH[1] - 1 + k) // 12, (_FIRST_MONTH[1] - 1 + k) % 12 + 1, 1)
        for k in range(_N_MONTHS)
    ]
    weights = [(1 + 0.02 * k) * _VOLUME.get(f"{month:%m}", 1.0) for k, month in enumerate(months)]
    month = rng.choices(months, weights=weights)[0]
    n_days = ((month + timedelta(days=32)).replace(day=1) - month).days
    days = [month + timedelta(days=k) for k in range(n_days)]
    day = rng.choices(days, weights=[0.45 if day.weekday() > 4 else 1.0 for day in days])[0]
    hour = rng.choices(
        range(24), weights=[1, 1, 0, 0, 0, 1, 3, 6, 9, 11, 11, 10, 8, 9, 10, 9, 9, 9, 10, 12, 12, 9, 5, 2]
    )[0]
    return day + timedelta(hours=hour, minutes=rng.randrange(60), seconds=rng.randrange(60))


def _progress(when: datetime) -> float:
    return ((when.year - _FIRST_MONTH[0]) * 12 + when.month - _FIRST_MONTH[1]) / (_N_MONTHS - 1)


def _segment(when: datetime, rng: Random) -> str:
    app = 24 + 10 * _progress(when)
    return rng.choices(_SEGMENTS, weights=(36, app, 62 - app, 10))[0]


def _label(when: datetime, rng: Random) -> str:
    weights = []
    for label, share in _SHARES.items():
        season = _SEASONS.get(label, {})
        start, end = _DRIFT.get(label, (1.0, 1.0))
        weights.append(
            share
            * season.get(f"{when:%m}", 1.0)
            * season.get(f"{when:%Y-%m}", 1.0)
            * (start + (end - start) * _progress(when))
        )
    return rng.choices(list(_SHARES), weights=weights)[0]


# --- deliberate defects -----------------------------------------------------------------------------------------


def _resent(tickets: Sequence[Ticket], rng: Random) -> list[Ticket]:
    """Copies of some tickets: a few to the letter within minutes, more with small edits up to nine days later."""
    limit = datetime(_FIRST_MONTH[0] + 1, _FIRST_MONTH[1] + 6, 1) - timedelta(days=10)
    able = [t for t in tickets if t.kind not in ("empty", "log") and t.segment != "phone-transcript" and t.time < limit]
    chosen = rng.sample(able, N_EXACT_DUPLICATES + N_NEAR_DUPLICATES)
    copies = [
        replace(ticket, time=ticket.time + timedelta(seconds=rng.randrange(5, 1500)), copy="exact")
        for ticket in chosen[:N_EXACT_DUPLICATES]
    ]
    for ticket in chosen[N_EXACT_DUPLICATES:]:
        later = timedelta(seconds=rng.choice((rng.randrange(120, 7200), rng.randrange(40_000, 780_000))))
        segment = ticket.segment if rng.random() < 0.8 else rng.choice(_SEGMENTS[:3])
        copies.append(
            replace(ticket, text=_edited(ticket, rng), time=ticket.time + later, segment=segment, copy="near")
        )
    return copies


def _edited(ticket: Ticket, rng: Random) -> str:
    text = ticket.text
    while text == ticket.text:
        text = mess.mistype(text, 0.03, rng)
        habit = rng.random()
        if habit < 0.35 and ticket.kind not in LANGUAGES:
            # A topic or subject line stays where it is.
            head = text[: text.index("\n") + 1] if text.startswith(("Topic:", "Subject:")) else ""
            text = f"{head}{rng.choice(sections('shared')['resend']).text} {text[len(head) :]}"
        elif habit < 0.55:
            text = " ".join(text.split())
        elif habit < 0.7:
            text = text.lower()
        elif habit < 0.85:
            text = text.rstrip(".?!") + rng.choice(("!!", "??", " ???", " !"))
        elif len(text.split()) > 25:
            text = text.rsplit(".", 1)[0] + "."
    return text if 5 <= len(text.split()) <= 150 else f"{ticket.text} ?"


def _mislabel(tickets: Sequence[Ticket], rng: Random) -> list[Ticket]:
    """Give some tickets the label of a category that is easily confused with theirs."""
    able = [index for index, ticket in enumerate(tickets) if ticket.kind not in ("empty", "log")]
    wrong = set(rng.sample(able, N_MISLABELLED))
    return [
        replace(ticket, given_label=rng.choice(confusable(ticket.true_label))) if index in wrong else ticket
        for index, ticket in enumerate(tickets)
    ]


# --- documentation ----------------------------------------------------------------------------------------------


def _readme(tickets: Sequence[Ticket]) -> str:
    """Fill the counts into the README, so that it cannot claim what the data does not hold."""
    kinds = Counter(ticket.kind for ticket in tickets)
    given = Counter(ticket.given_label for ticket in tickets)
    lengths = [len(ticket.text.split()) for ticket in tickets if ticket.kind not in ("empty", "log")]
    copies = Counter(ticket.copy for ticket in tickets)
    segments = Counter(ticket.segment for ticket in tickets)
    facts: dict[str, object] = {
        "n": len(tickets),
        "seed": SEED,
        "categories": "\n".join(
            f"| `{label}` | {given[label]} | {definition} |" for label, definition in LABELS.items()
        ),
        "mean_words": f"{fmean(lengths):.0f}",
        "min_words": min(lengths),
        "max_words": max(lengths),
        "mislabelled": sum(ticket.given_label != ticket.true_label for ticket in tickets),
        "near": copies["near"],
        "exact": copies["exact"],
        "empty": kinds["empty"],
        "logs": kinds["log"],
        "two_issues": kinds["two_issues"],
        "boundary": kinds["boundary"],
        "short": kinds["short"],
        "chaser": kinds["chaser"],
        "foreign": sum(kinds[language] for language in LANGUAGES),
        "languages": ", ".join(f"{language.capitalize()} {kinds[language]}" for language in LANGUAGES),
        "segments": ", ".join(f"{segment} {segments[segment]}" for segment in _SEGMENTS),
    }
    return Template((Path(__file__).parent / "readme_template.md").read_text(encoding="utf-8")).substitute(facts)


if __name__ == "__main__":
    raise SystemExit(main())

"""`steelyard recheck`: whether the last verdict stands with today's money, prices, models and outcomes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.decision.deciding import decide
from steelyard.decision.verdict import Verdict
from steelyard.decision.wording import likelihood, listed, usd
from steelyard.errors import InputError, Problem, SteelyardError, StorageFailed
from steelyard.study.grounds import Grounds, outcomes_basis, outcomes_grounds, study_basis, study_grounds
from steelyard.study.history import HISTORY_FILE, VerdictRecord, keep, read_history, record_of
from steelyard.study.rechecked import Change, History, Recheck

if TYPE_CHECKING:
    from steelyard.engine.journal import Journal
    from steelyard.study.outcomes import Outcomes
    from steelyard.study.scoring import Evidence
    from steelyard.study.study import Study

_WHOLE = ("prices", "retired", "approaches")
"""Sections of which an entry changes as a whole; of the others each field by itself."""


def recheck(source: Study | Path, *, as_of: date | None = None, accept: bool = False) -> Recheck:
    """Hold the last verdict of a study or of an imported folder against today.

    Args:
        source: A study, or a folder made by `steelyard import outcomes`.
        as_of: Day to recheck at; left out, today.
        accept: Take today's verdict over: later rechecks compare with it.

    Raises:
        InputError: There is no verdict to recheck, or nothing was run.
        StorageFailed: The history cannot be written.
    """
    day = as_of or datetime.now(UTC).date()
    path = history_path(source)
    then = next((one for one in reversed(read_history(path)) if one.kind != "recheck"), None)
    if then is None:
        where = str(source if isinstance(source, Path) else source.folder)
        raise InputError(
            Problem(where=where, what="there is no verdict to recheck yet", hint=f"steelyard decide {where}")
        )
    with _grounds(source, as_of=day) as grounds:
        found = _held_against(then, grounds, as_of=day)
        basis = type(grounds.basis)(settings=grounds.today, outcomes=grounds.basis.outcomes)
        record = record_of(found.verdict, basis, kind="accepted" if accept else "recheck", date=day.isoformat())
        if accept or (record.sentence, record.basis.digest) != (then.sentence, then.basis.digest):
            keep(path, record)
    return found


def history(source: Study | Path) -> History:
    """All verdicts kept for a study or an imported folder."""
    return History(records=read_history(history_path(source)))


def history_path(source: Study | Path) -> Path:
    """Where the history lies."""
    return source / HISTORY_FILE if isinstance(source, Path) else source.folder / ".steelyard" / HISTORY_FILE


def keep_decision(path: Path, verdict: Verdict, evidence: Evidence, journal: Journal) -> tuple[str, ...]:
    """Add the verdict on a study to its history.

    Returns:
        A note where the folder cannot be written: reading a verdict must not fail for that.
    """
    return _kept(path, record_of(verdict, study_basis(evidence, journal), kind="decide", date=_today()))


def keep_outcomes_decision(folder: Path, verdict: Verdict, outcomes: Outcomes) -> tuple[str, ...]:
    """Add the verdict on imported outcomes to the history in their folder; see `keep_decision`."""
    return _kept(folder / HISTORY_FILE, record_of(verdict, outcomes_basis(outcomes), kind="decide", date=_today()))


# --- private ---------------------------------------------------------------------------------------------------------


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _kept(path: Path, record: VerdictRecord) -> tuple[str, ...]:
    try:
        keep(path, record)
    except StorageFailed:
        return (f"this verdict was not kept for recheck: {path} cannot be written",)
    return ()


@contextmanager
def _grounds(source: Study | Path, *, as_of: date) -> Iterator[Grounds]:
    if isinstance(source, Path):
        from steelyard.study.outcomes import load_outcomes

        yield outcomes_grounds(load_outcomes(source))
        return
    with source._evidence(()) as (evidence, journal):
        grounds = study_grounds(evidence, journal, as_of=as_of)
        yield replace(grounds, notices=(*grounds.notices, *_not_done(source, evidence)))


def _not_done(study: Study, evidence: Evidence) -> tuple[str, ...]:
    """Test cases, as the case file is today, that no run has done yet."""
    try:
        there = {case.id for case in study.material.splits.test}
    except SteelyardError:
        return ("The cases cannot be read, so whether there are new ones is not known: steelyard check says why.",)
    limit = study.file.run.limit or len(there)
    done = min(len(there & set(one.case_ids)) for one in evidence.results.values())
    n_open = min(limit, len(there)) - done
    if n_open <= 0:
        return ()
    return (f"{n_open:,} test cases were not done yet by every approach: steelyard run {study.folder}",)


def _held_against(then: VerdictRecord, grounds: Grounds, *, as_of: date) -> Recheck:
    weighing = grounds.under(grounds.today)
    verdict = decide(
        weighing.results,
        weighing.facts,
        as_of=as_of,
        money=weighing.money,
        goal=weighing.goal,
        baseline=weighing.baseline,
        dropped=weighing.dropped,
        alpha=weighing.alpha,
        seed=weighing.seed,
    )
    stands = verdict.choice == then.choice
    changes = tuple(_changes(then, grounds))
    return Recheck(
        then=then,
        verdict=verdict,
        stands=stands,
        sentence=_sentence(then, verdict, changes, stands=stands),
        changes=changes,
        warnings=(*verdict.stale_prices, *grounds.notices),
        notes=grounds.notes,
    )


def _changes(then: VerdictRecord, grounds: Grounds) -> Iterator[Change]:
    before, after = _entries(then.basis.settings), _entries(grounds.today)
    told_outcomes = _outcomes_changed(then, grounds)
    # Settings are varied on today's outcomes: those of then are no longer there by themselves.
    changed = [key for key in dict.fromkeys((*before, *after)) if not _is_same(key, before.get(key), after.get(key))]
    choice = grounds.call(then.basis.settings).choice if told_outcomes or changed else then.choice
    if told_outcomes:
        yield Change(name="outcomes", sentence=told_outcomes, choice=choice, turns=choice != then.choice)
    for key in changed:
        old, new = before.get(key), after.get(key)
        alone = copy.deepcopy(dict(then.basis.settings))
        _put(alone, key, new)
        found = grounds.call(alone).choice
        yield Change(
            name=_field(key),
            sentence=_told(key, old, new),
            choice=found,
            turns=found != choice and found != then.choice,
        )


def _entries(settings: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """What can change by itself: each field of money and goal, each endpoint's price, each retirement."""
    entries: dict[tuple[str, ...], Any] = {}

    def walk(value: Any, path: tuple[str, ...], depth: int) -> None:  # noqa: ANN401 - any JSON
        if isinstance(value, Mapping) and depth > 0:
            for key, inner in value.items():
                walk(inner, (*path, key), depth - 1)
        else:
            entries[path] = value

    for section, value in settings.items():
        walk(value, (section,), 1 if section in _WHOLE else 9)
    return entries


def _is_same(key: tuple[str, ...], old: Any, new: Any) -> bool:  # noqa: ANN401 - any JSON
    if key[0] == "prices" and isinstance(old, Mapping) and isinstance(new, Mapping):
        about = ("source", "as_of")  # a price read again that is what it was changes nothing
        return {k: v for k, v in old.items() if k not in about} == {k: v for k, v in new.items() if k not in about}
    return bool(old == new)


def _put(settings: dict[str, Any], key: tuple[str, ...], value: Any) -> None:  # noqa: ANN401 - any JSON
    *parents, last = key
    for parent in parents:
        settings = settings.setdefault(parent, {})
    if value is None and parents and parents[0] in _WHOLE:
        settings.pop(last, None)
    else:
        settings[last] = value


def _outcomes_changed(then: VerdictRecord, grounds: Grounds) -> str | None:
    """What is different about the outcomes, in a sentence."""
    before, after = then.basis.outcomes, grounds.basis.outcomes
    told = []
    for name in dict.fromkeys((*before, *after)):
        if name not in before:
            told.append(f"{name} is new")
        elif name not in after:
            told.append(f"{name} is no longer compared")
        elif before[name]["fingerprint"] != after[name]["fingerprint"]:
            told.append(f"another version of {name} was run")
        elif before[name]["cases"] != after[name]["cases"]:
            told.append(f"{name} did {before[name]['cases']:,} cases and now {after[name]['cases']:,}")
        elif before[name]["digest"] != after[name]["digest"]:
            told.append(f"outcomes of {name} are others")
    return f"Outcomes: {'; '.join(told)}." if told else None


def _field(key: tuple[str, ...]) -> str:
    """The field of study.yaml a change stands in."""
    if key[0] == "prices":
        return "models.local.cpu_hour_usd" if key[1] == "local" else f"models.endpoints.{key[1]}.price_per_million"
    if key[0] == "retired":
        return f"models.endpoints.{key[1]}.retired_on"
    return ".".join(key)


def _told(key: tuple[str, ...], old: Any, new: Any) -> str:  # noqa: ANN401 - any JSON
    if key[0] == "retired":
        return f"The model of {key[1]} is retired since {new}." if new else f"The model of {key[1]} is served again."
    was, becomes = _shown(old), _shown(new)
    if was == becomes:  # study.yaml was changed between runs: the calls were paid at another price than it says
        return f"{_field(key)} is {becomes}, but the calls were paid at another price."
    return f"{_field(key)} went from {was} to {becomes}."


def _shown(value: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, Mapping):
        if "cpu_hour_usd" in value:
            return _shown(value["cpu_hour_usd"])
        if "input" in value:
            if value["input"] is None:
                return "no known price"
            cached = "" if value.get("cached_input") is None else f", {value['cached_input']:g} cached"
            batch = "" if not value.get("batch_discount") else f", {value['batch_discount']:.0%} off in batches"
            return f"{value['input']:,g} in, {value['output']:,g} out{cached}{batch}"
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items() if inner is not None) or "nothing"
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    return f"{value:,g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _sentence(then: VerdictRecord, verdict: Verdict, changes: Sequence[Change], *, stands: bool) -> str:
    was = "the evidence carries no choice" if then.choice is None else f"take {then.choice}"
    if stands:
        return f"The verdict of {then.date} stands: {was}{_as_sure(then, verdict)}."
    turning = [change for change in changes if change.turns] or list(changes)
    because = (
        listed([_inside(change.sentence) for change in turning]) if turning else "steelyard itself weighs differently"
    )
    together = " (none of them alone)" if len(turning) > 1 and not any(change.turns for change in turning) else ""
    becomes = "the evidence carries no choice" if verdict.choice is None else f"take {verdict.choice}"
    return f"The verdict of {then.date}, {was}, no longer stands: now {becomes}, because {because}{together}."


def _inside(sentence: str) -> str:
    """A sentence as a part of another."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _as_sure(then: VerdictRecord, verdict: Verdict) -> str:
    """Probability and cost, and what they were."""
    name, p_then = verdict.choice, then.p_best["value"]
    if name is None or verdict.p_best is None or p_then is None:
        return ""
    before = then.cost_per_success_usd.get(name, {"value": None})["value"]
    now = next(one.cost_per_success_usd.value for one in verdict.standings if one.name == name)
    cost = "" if before is None or now is None else f" and costs {usd(now)} per successful task (then {usd(before)})"
    return f", which is best with probability {likelihood(verdict.p_best)} (then {likelihood(p_then)}){cost}"

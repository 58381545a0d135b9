"""What a search found, as text on a terminal."""

from __future__ import annotations

import yaml

from steelyard.report.format import money, percent
from steelyard.study.optimised import Finding, Optimised, Trial

_SHOWN = 5
"""Rows of each table; the file has all of them."""


def search_table(found: Optimised) -> str:
    """What settings find, what the finalists answer, what is to be used, and what it took."""
    lines = list(found.notes)
    if found.finding is not None:
        lines += _finding_lines(found.finding, found.trials[0].name)
    if found.n_cases:
        lines += _trial_lines(found)
    n_out = len(found.trials) - min(_SHOWN, len(_finalists(found))) if found.n_cases else 0
    if n_out:
        lines.append(f"({n_out} more {found.words.many} were tried; all are in {found.file})")
    lines.append(found.sentence)
    if found.is_changed and "knowledge" in found.trials[found.winner].changes:
        lines += ["to have it in study.yaml:", _as_yaml(found.trials[found.winner])]
    if found.ended is not None:
        lines.append(f"ended early: {found.ended}")
    calls = f"{found.spent_calls:,} of at most {found.budget_calls:,} calls"
    of = f" of at most {money(found.budget_usd)}" if found.budget_usd is not None else ""
    lines.append(f"spent {calls}, {money(found.spent_usd)}{of}; the test cases were not touched")
    return "\n".join(lines)


# ---- private --------------------------------------------------------------------------------------------------------


def _finding_lines(finding: Finding, as_written: str) -> list[str]:
    own = next((place for place, one in enumerate(finding.ranked) if one.name == as_written), None)
    places = list(range(min(_SHOWN, len(finding.ranked))))
    if own is not None and own not in places:
        places[-1] = own
    what = "passages" if finding.level == "passage" else "documents"
    width = max(len("settings"), *(len(finding.ranked[place].name) for place in places))
    lines = [f"{'settings':<{width}}  gold {what} shown    MRR  tokens of a prompt"]
    for place in places:
        one = finding.ranked[place]
        lines.append(
            f"{one.name:<{width}}  {percent(one.recall):>{len(what) + 11}}  {one.mrr:>5.2f}  {one.prompt_tokens:>18,.0f}"
            + ("  kept" if one.is_kept else "")
        )
    lines.append(
        f"({len(finding.ranked)} settings on {finding.n_cases} dev cases with gold {what}, without a call, in"
        f" {finding.seconds:.0f} s)"
    )
    return lines


def _trial_lines(found: Optimised) -> list[str]:
    is_prompt = "prompt" in found.trials[0].changes
    finalists = _finalists(found)
    own = found.trials[0]
    shown = finalists[:_SHOWN] if own in finalists[:_SHOWN] else [*finalists[: _SHOWN - 1], own]
    title, size = ("prompt", "characters") if is_prompt else ("settings", "prompt tokens")
    width = max(len(title), *(len(one.name) for one in shown))
    lines = [f"{title:<{width}}  cases   score  success  schema pass  {size}  cost of trying it"]
    for one in shown:
        mark = "  <- winner" if one is found.trials[found.winner] else ""
        length = f"{one.prompt_chars:,}" if is_prompt else _count(one.prompt_tokens)
        lines.append(
            f"{one.name:<{width}}  {one.n_cases:>5}  {_percent(one.score):>6}  {_percent(one.success):>7}"
            f"  {_percent(one.schema_pass):>11}  {length:>{len(size)}}  {_money(one.cost_usd):>17}{mark}"
        )
    return lines


def _finalists(found: Optimised) -> list[Trial]:
    """Best first."""
    return sorted(
        (one for one in found.trials if one.is_finalist), key=lambda one: (-(one.score or 0.0), one.prompt_chars)
    )


def _as_yaml(trial: Trial) -> str:
    """The settings, to be put under the approach."""
    body = {"retrieval": {"knowledge": dict(trial.changes["knowledge"]) or True}}
    return yaml.safe_dump(body, default_flow_style=False, sort_keys=False).rstrip()


def _percent(rate: float | None) -> str:
    return "-" if rate is None else percent(rate)


def _count(number: float | None) -> str:
    return "unknown" if number is None else f"{number:,.0f}"


def _money(usd: float | None) -> str:
    return "unknown" if usd is None else money(usd)

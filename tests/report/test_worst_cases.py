"""Which cases are shown as the worst."""

from __future__ import annotations

import random

from steelyard.engine.outcome import Outcome, OutcomeStatus
from steelyard.report.content import choose_worst_cases


def _outcome(case_id: str, approach: str, success: bool | None, *, repeat: int = 0) -> Outcome:
    return Outcome(
        approach=approach, fingerprint="f", case_id=case_id, case_digest="d", split="test", repeat=repeat,
        status=OutcomeStatus.ANSWERED, output={}, score=None if success is None else float(success), success=success,
        schema_pass=True, latency_s=0.1, own_s=0.0, cost_usd=0.0,
    )  # fmt: skip


def _case(case_id: str, pattern: str) -> list[Outcome]:
    """One letter an approach: f failed, p passed, u unscored; the first approach is a0."""
    meaning = {"f": False, "p": True, "u": None}
    return [_outcome(case_id, f"a{index}", meaning[letter]) for index, letter in enumerate(pattern)]


def _cases(patterns: dict[str, str]) -> dict[str, list[Outcome]]:
    return {case_id: _case(case_id, pattern) for case_id, pattern in patterns.items()}


def test_cases_the_best_approach_fails_come_first() -> None:
    """What the chosen approach gets wrong matters more than what a weak one does."""
    outcomes = _cases({"others": "pfff", "best": "fffp", "all": "ffff", "none": "pppp", "unscored": "uuuu"})
    assert choose_worst_cases(outcomes, k=10, best="a0") == ["all", "best", "others"]


def test_order_of_outcomes_does_not_matter() -> None:
    """The same journal gives the same cases."""
    outcomes = _cases({f"c{index:02}": "ffpp" if index % 2 else "fffp" for index in range(30)})
    shuffled = list(outcomes.items())
    random.Random(3).shuffle(shuffled)
    assert choose_worst_cases(outcomes, k=5, best="a1") == choose_worst_cases(dict(shuffled), k=5, best="a1")


def test_no_label_fills_the_list() -> None:
    """Ten failures of one category do not hide the others."""
    patterns = {f"billing-{index}": "ffff" for index in range(10)} | {"delivery": "fffp", "returns": "ffpp"}
    labels = {case_id: case_id.split("-")[0] for case_id in patterns}
    chosen = choose_worst_cases(_cases(patterns), k=3, best="a0", label_of=labels)
    assert chosen == ["billing-0", "delivery", "returns"]
    assert len(choose_worst_cases(_cases(patterns), k=8, label_of=labels)) == 8


def test_repeats_are_averaged_within_an_approach() -> None:
    """An approach asked three times has one vote."""
    outcomes = {
        "often": [
            *_case("often", "ppf"),
            _outcome("often", "a2", False, repeat=1),
            _outcome("often", "a2", False, repeat=2),
        ],
        "broad": _case("broad", "pff"),
    }
    assert choose_worst_cases(outcomes, k=2) == ["broad", "often"]

"""Every set of levers has its rung."""

from __future__ import annotations

from steelyard.approaches.ladder import RUNG_NAMES, rung
from steelyard.approaches.spec import Lever


def test_the_ladder_climbs_from_prompt_to_combinations() -> None:
    """Single levers come in the order of the design, combinations above all of them."""
    order = [rung([lever]) for lever in (Lever.PROMPT, Lever.WORKFLOW, Lever.RETRIEVAL, Lever.TUNING)]
    assert order == [0, 1, 2, 3]
    assert rung([Lever.WORKFLOW, Lever.RETRIEVAL]) > 3
    assert max(RUNG_NAMES) == rung(Lever)


def test_every_rung_has_its_own_name() -> None:
    """Names and rungs go together one to one."""
    assert len(set(RUNG_NAMES.values())) == len(RUNG_NAMES) == 8
    assert RUNG_NAMES[rung([Lever.PROMPT])] == "prompt"
    assert RUNG_NAMES[rung([Lever.TUNING, Lever.RETRIEVAL])] == "retrieval + tuning"

"""Gold passages given as text are found however documents are cut."""

from __future__ import annotations

from steelyard.measure.gold import GoldPassage, passage_ranking
from steelyard.measure.retrieval import ranking_rows

TEXTS = {
    "leave#0": "Leave. Employees in Spain have 23 working days of leave.",
    "leave#1": "Employees in Spain have 23 working days of leave. It ends in March.",
    "leave#2": "Nothing of the kind.",
    "copy#0": "Employees in Spain have 23 working days of leave.",
    "both#0": "First aiders get EUR 25 a month. Fire wardens get EUR 30 a month.",
}
LEAVE = GoldPassage(source="leave", text="Employees in Spain have **23 working days** of leave.")


def test_whatever_the_chunk_it_is_the_same_passage() -> None:
    """Both overlapping chunks hold it and count once; markup does not matter; another document's copy is another source."""
    made = passage_ranking(["copy#0", "leave#2", "leave#1", "leave#0"], [LEAVE], TEXTS.get)
    assert made.sources == ("copy#0", "leave#2", "leave#gold-0")
    assert made.gold == ("leave#gold-0",)


def test_a_chunk_may_hold_two_passages() -> None:
    """It stands for both of them."""
    pair = [
        GoldPassage(source="both", text="First aiders get EUR 25 a month."),
        GoldPassage(source="both", text="Fire wardens get EUR 30 a month."),
    ]
    made = passage_ranking(["both#0"], pair, TEXTS.get)
    assert made.sources == made.gold == ("both#gold-0", "both#gold-1")


def test_the_right_document_is_not_yet_the_right_passage() -> None:
    """A chunk of the gold document without the passage is a miss, and so is one whose text is not known."""
    made = passage_ranking(["leave#2", "leave#9", "leave"], [LEAVE], TEXTS.get)
    row = {"approach": "a", "case_id": "c", "sources": made.sources, "gold": made.gold}
    (table,) = ranking_rows([row])
    assert table.recall[-1].value == 0
    (document,) = ranking_rows([row], level="document")
    assert document.recall[-1].value == 1

"""Hostile characters are shown, not obeyed."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from steelyard.report.text import as_text, excerpt, one_line, visible


@given(st.text(st.characters(codec=None)))
def test_no_control_or_direction_character_survives(text: str) -> None:
    """What is shown can be encoded and holds nothing that moves a cursor or turns the line around."""
    safe = visible(text)
    safe.encode("utf-8")
    kept = {"\n", "\t", "\u200c", "\u200d"}
    assert not [c for c in safe if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in kept]
    assert "\n" not in one_line(text)


def test_hostile_characters_are_named() -> None:
    """The reader sees that something was there, and what."""
    assert visible("pay\u202e001\u202c") == "pay⟨U+202E⟩001⟨U+202C⟩"
    assert visible("\x1b]0;owned\x07") == "⟨U+001B⟩]0;owned⟨U+0007⟩"
    assert visible("\ud800") == "⟨U+D800⟩"


def test_ordinary_writing_is_left_alone() -> None:
    """Other scripts, accents and emoji are not an attack."""
    for text in ("Привет", "می‌خواهم", "naïve café", "👩‍💻 ok", "多谢", "line\nbreak"):
        assert visible(text) == text


def test_a_long_text_keeps_both_ends_and_says_what_is_missing() -> None:
    """A megabyte of pasted log does not fill the report."""
    cut = excerpt("a" * 500_000 + "b" * 500_000, 1000)
    assert len(cut) < 1100
    assert cut.startswith("aaa")
    assert cut.endswith("bbb")
    assert "999,000 characters left out" in cut


def test_values_that_are_not_text_are_shown_as_json() -> None:
    """Lists and numbers in case fields stay readable."""
    assert as_text({"a": [1, None, "ü"]}) == '{"a": [1, null, "ü"]}'

"""When an answer is none: the words by which a model says that it does not know.

Saying so is right where nothing can be known and wrong where something can; either way it is not an answer like others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from steelyard.task.text import fold_text

_MAX_CHARS = 1000
"""Whoever writes more than this says something."""

# All of it is matched against folded text: no case and no punctuation, so that `don't` reads `don t`.
_NOT = r"(?:(?:do|does|did|is|was|are|were) not|(?:don|doesn|didn|isn|wasn|aren|weren) t)"
_UNABLE = rf"(?:cannot|can not|can t|could not|couldn t|(?:am |m |are |re )?(?:unable|not able) to|{_NOT})"
_SOURCE = (
    r"(?:(?:the|this|these|my|our) )?(?:(?:provided|given|available|retrieved|supplied) )?"
    r"(?:context|documents?|documentation|texts?|passages?|sources?|handbook|information|materials?|excerpts?)"
    r"(?: (?:provided|given|available|retrieved|supplied))?"
)
_IT = r"(?:it|this|that|the answer|the information|the question)"
_WHOLE = (
    r"unknown|n a|none|null|nothing|no answer|unanswerable|not applicable",
    r"not (?:available|found|provided|given|answerable|sure|certain)",
    r"no information(?: found)?|(?:the )?information (?:is )?not (?:available|found|provided|given)",
)
"""These say nothing as a whole answer only: `none` does not, `none of the staff` does."""
_OPENING = (
    rf"(?:i|we) {_UNABLE} (?:know|find|answer|tell|say|determine|see|locate)",
    rf"(?:i|we) {_UNABLE} have (?:\w+ )?(?:information|details|data|answer)",
    r"(?:i|we) (?:am|m|are|re) not sure",
    rf"{_SOURCE} {_NOT} (?:\w+ )?(?:say|state|mention|specify|contain|provide|include|give|answer|address|tell|indicate)",
    rf"(?:{_IT} {_NOT}|(?:{_IT} is )?not) (?:stated|specified|mentioned|known)",
    rf"(?:{_IT} {_NOT}|(?:{_IT} is )?not) (?:\w+ )?(?:in|by|from) {_SOURCE}",
    r"there (?:is|was) (?:no|not enough|insufficient) (?:information|mention|answer)",
    r"(?:not enough|insufficient) information",
    r"no (?:information|mention|answer) (?:is|was|about|on|of|in|available|given|provided|found)",
    rf"(?:{_IT} )?{_UNABLE} (?:be )?(?:answer|answered|determine|determined|find|found)",
)
_ABSTAINS = re.compile(
    rf"(?:{'|'.join(_WHOLE)})$|(?:(?:sorry|unfortunately) )*(?:i (?:am|m) (?:sorry|afraid) )?(?:but )?(?:that )?"
    rf"(?:{'|'.join(_OPENING)})\b"
)
_GOES_ON = re.compile(r" (?:but|however) ")
"""`I do not know for certain, but it is 30 days` is an answer."""


def is_empty(value: object) -> bool:
    """Whether there is nothing: null, blank text or an empty list."""
    return value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, list) and not value)


def abstains(value: object, phrases: bool | Sequence[str] = True) -> bool:
    """Whether an answer says that there is none.

    Replaces a test for null, which models asked for a text rarely give.

    Args:
        value: One field of an output.
        phrases: `True`: the English ways to say so that are known here. Texts: those instead, each as a whole answer
            or as the opening of one. `False`: nothing but an empty value.

    Returns:
        `False` for a text that goes on with 'but' or 'however', and for one of more than 1,000 characters: something
        is then said after all. What is not English needs phrases of its own.

    >>> abstains(None), abstains("I don't know."), abstains("The documents do not mention a fee.")
    (True, True, True)
    >>> abstains("None of the staff"), abstains("I do not know for certain, but it is 30 days.")
    (False, False)
    >>> abstains("Keine Angabe.", ["keine Angabe"]), abstains("unknown", False)
    (True, False)
    """
    if is_empty(value):
        return True
    if phrases is False or not isinstance(value, str) or len(value) > _MAX_CHARS:
        return False
    text = fold_text(value)
    if phrases is True:
        opening = _ABSTAINS.match(text)
        return opening is not None and _GOES_ON.search(text, opening.end() - 1) is None
    return any(
        f"{text} ".startswith(f"{folded} ") and _GOES_ON.search(text, len(folded)) is None
        for folded in map(fold_text, phrases)
        if folded
    )

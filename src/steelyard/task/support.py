"""Whether an answer is supported by the retrieved text, as far as that can be seen without understanding it.

A quote check: cheap, and the same every time. It does not see that a short answer (`23`) stands in the text for another
reason, that the text denies what the answer says in the same words, or what follows from several passages together; and
a number worked out from others counts as unsupported. Where words alone cannot settle it, it says so, and a judge or a
person may; what it leaves open is counted neither as supported nor as made up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from steelyard.task.tokens import ARTICLES, answer_tokens

SupportVerdict = Literal["supported", "unsupported", "undecided"]

SUPPORTED_FROM = 0.8
"""Share of the meaningful words of a sentence that one passage holds, from which on it is supported."""

UNSUPPORTED_BELOW = 0.4
"""Below this share nothing speaks for the passage being where the sentence comes from."""

_SENTENCE = re.compile(r"(?<=[.!?;。！？])\s+|\n+")
_COMMON = (
    "and are as at be been but by can do does for from had has have he her his i if in into is it its may my of on or "
    "our shall she should so than that their them then there these they this those to under up was we were what when "
    "where which who will with would you your"
)
_SPEAKING_OF_THE_ANSWER = "answer according context document documents text yes"
_STOP_WORDS = ARTICLES | frozenset(_COMMON.split()) | frozenset(_SPEAKING_OF_THE_ANSWER.split())
"""Words that are in every passage, or that speak of the answer and not of its subject."""
_NEGATIONS = frozenset({"no", "not", "never", "none", "neither", "nor", "without", "cannot", "t"})
"""`t` is what folding leaves of `don't`."""
_YES_OR_NO = frozenset({"yes", "no", "true", "false"})
_UNITS = "one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SPELT = {word: i for i, word in enumerate(f"zero {_UNITS} {_TEENS}".split())} | {
    word: 10 * i for i, word in enumerate(_TENS.split(), start=2)
}
_UNIT_WITHIN = 3
"""The unit of a number is looked for among so many words after it: `23 working days` are 23 days."""
_COMMA = re.compile(r"(?<=\d),(?=\d)")
_HAS_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """Whether the retrieved text supports an answer, and how that was seen."""

    verdict: SupportVerdict
    because: str
    """In words, without a full stop."""
    passages: tuple[int, ...] = ()
    """Places of the passages that support it, 0-based, one for each sentence; empty unless supported."""


def answer_support(
    answer: object,
    passages: Sequence[str],
    *,
    supported_from: float = SUPPORTED_FROM,
    unsupported_below: float = UNSUPPORTED_BELOW,
) -> Support:
    """Whether an answer is supported by the retrieved text.

    Each sentence is looked for on its own; the answer is as well supported as its worst sentence. A sentence is
    supported when one passage (1) holds it word for word after folding, or (2) holds every number of it followed by
    the same unit and at least `supported_from` of its other meaningful words. It is unsupported when a number of it
    is in no passage, or when no passage holds `unsupported_below` of its meaningful words. Numbers below a
    hundred count the same in words and in figures.

    Not decided are: yes and no, answers without any meaningful word, words in common between the two limits
    (a paraphrase, or something made up around a few words), and a negation no passage has in that sentence's place.

    Args:
        answer: One field of an output that says something; whether an answer abstains is asked elsewhere.
        passages: What was retrieved, as text, best first.
        supported_from: 0..1, at least `unsupported_below`.
        unsupported_below: 0..1.
    """
    if not passages:
        return Support(verdict="unsupported", because="nothing was retrieved")
    text = "\n".join(map(str, answer)) if isinstance(answer, list | tuple) else str(answer)
    sentences = [words for part in _SENTENCE.split(text) if (words := answer_tokens(part))]
    sought = [words for words in sentences if not set(words) <= _STOP_WORDS | _YES_OR_NO | _NEGATIONS]
    if not sought:
        return Support(verdict="undecided", because="the answer has no words that could be looked for")
    found = [_passage(passage) for passage in passages]
    each = [_sentence(words, found, supported_from, unsupported_below) for words in sought]
    worst = max(each, key=lambda one: ("supported", "undecided", "unsupported").index(one.verdict))
    if worst.verdict != "supported":
        return worst
    places = tuple(dict.fromkeys(place for one in each for place in one.passages))
    return Support(verdict="supported", because=worst.because, passages=places)


# ---- private --------------------------------------------------------------------------------------------------------


class _Passage(NamedTuple):
    words: list[str]
    held: frozenset[str]
    joined: str


@lru_cache(maxsize=1024)
def _passage(text: str) -> _Passage:
    """Kept, because one passage is retrieved for many cases.

    A comma between digits is a decimal mark or, in a line of a table, the end of a cell: both readings are held.
    """
    words = _in_figures(answer_tokens(text))
    if _COMMA.search(text):
        words += ["", *_in_figures(answer_tokens(_COMMA.sub(" , ", text)))]
    return _Passage(words, frozenset(words), f" {' '.join(words)} ")


def _in_figures(words: list[str]) -> list[str]:
    """Numbers below a hundred in figures: `twenty three` is 23; and a plural is its singular: `23 day`."""
    written: list[str] = []
    previous = 0  # the tens that a unit may still join
    for word in words:
        number = _SPELT.get(word)
        if number is not None and previous and 0 < number < 10:
            written[-1] = str(previous + number)
        else:
            written.append(_singular(word) if number is None else str(number))
        previous = number if number is not None and number >= 20 else 0
    return written


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _sentence(raw: list[str], passages: list[_Passage], supported_from: float, unsupported_below: float) -> Support:
    words = _in_figures(raw)
    needle = f" {' '.join(words)} "
    for place, passage in enumerate(passages):
        if needle in passage.joined:
            return Support(verdict="supported", because="it is quoted", passages=(place,))
    # Only what is written in figures is asked for: `one` may be a pronoun.
    numbers = {word for word in raw if _HAS_DIGIT.search(word)}
    lacking = numbers.difference(*(passage.held for passage in passages))
    if lacking:
        return Support(verdict="unsupported", because=f"{', '.join(sorted(lacking)[:3])} is in no retrieved passage")
    meaningful = set(words) - _STOP_WORDS - _NEGATIONS
    shares = [len(meaningful & passage.held) / max(1, len(meaningful)) for passage in passages]
    if max(shares) < unsupported_below:
        return Support(verdict="unsupported", because=f"no passage has more than {max(shares):.0%} of its words")
    denies = not _NEGATIONS.isdisjoint(words)
    near = [i for i, passage in enumerate(passages) if _has_amounts(words, numbers, passage)]
    enough = [i for i in near if shares[i] >= supported_from]
    agreeing = [i for i in enough if not denies or not _NEGATIONS.isdisjoint(passages[i].held)]
    if agreeing:
        place = max(agreeing, key=lambda i: shares[i])
        return Support(
            verdict="supported", because=f"a passage has {shares[place]:.0%} of its words", passages=(place,)
        )
    if enough:
        return Support(verdict="undecided", because="it denies what the passage does not")
    if near:
        most = max(shares[i] for i in near)
        return Support(verdict="undecided", because=f"a passage has {most:.0%} of its words: perhaps a paraphrase")
    return Support(verdict="undecided", because="its numbers stand in the text, but with other units or apart")


def _has_amounts(words: list[str], numbers: set[str], passage: _Passage) -> bool:
    """Whether each of the numbers stands in the passage with its unit: the word that follows it in the answer."""
    for word, unit in zip(words, [*words[1:], ""], strict=True):
        if word not in numbers:
            continue
        if word not in passage.held:
            return False
        after = [passage.words[i + 1 : i + 1 + _UNIT_WITHIN] for i, one in enumerate(passage.words) if one == word]
        if unit and unit not in _STOP_WORDS and not any(unit in near for near in after):
            return False
    return True

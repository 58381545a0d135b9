"""Cases that say the same thing: exactly, or nearly.

Exact: the same input text once case, spacing and punctuation are folded. Near: Jaccard similarity of the texts' word
3-grams, and for short texts of their character 5-grams, at or above a threshold. Candidates come from MinHash bands
(sketches by rensa), and every candidate pair is then compared in full, so what is reported is true; a pair is
missed with a probability below 0.001, or where thousands of texts share a template without being near-duplicates.

Texts without content (empty, or punctuation only) are duplicates of nothing: they hold nothing that could leak, and
tying them together would move all empty tickets of a study into one split.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from steelyard.cases.case import Case

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_PERMUTATIONS: Final = 128
"""Length of a MinHash sketch."""

MIN_CHARS: Final = 16
"""Shorter folded texts are compared exactly only: one letter more or less decides what they say."""

MIN_WORDS: Final = 8
"""From this many words on, texts are compared by word 3-grams."""

MAX_WORDS_FOR_CHARACTERS: Final = 12
"""Below this many words, texts are compared by character 5-grams; between the two bounds either likeness counts, so
that a word more does not part two short texts."""


def input_text(case: Case) -> str:
    """All input fields of a case as one text, in the order of the task."""
    return "\n".join(
        value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
        for value in case.input.values()
        if value is not None
    )


def fold(text: str) -> str:
    """Text with case, spacing and punctuation folded; empty where there was nothing else."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_WITHOUT_PUNCTUATION)
    return " ".join(folded.split())


def exact_groups(cases: Sequence[Case]) -> list[list[int]]:
    """Positions of cases with the same folded input, groups of two and more only."""
    return [group for group in _by_text([fold(input_text(case)) for case in cases]).values() if len(group) > 1]


def near_groups(cases: Sequence[Case], *, threshold: float) -> list[list[int]]:
    """Positions of cases that are linked by near-duplicate pairs, exact duplicates of them included.

    Args:
        cases: Any number; time and memory grow linearly with their text.
        threshold: Least Jaccard similarity, above 0 up to 1.

    Returns:
        Groups in which at least two texts differ. Linking is transitive: a group may hold two cases that are less alike.
    """
    positions = _by_text([fold(input_text(case)) for case in cases])
    texts = list(positions)
    linked = DisjointSets(len(texts))
    for shingles_of in (_word_shingles, _character_shingles):
        _link_alike(texts, shingles_of, threshold, linked)
    groups = [[position for text in members for position in positions[texts[text]]] for members in linked.groups()]
    return sorted(sorted(group) for group in groups)


def duplicate_groups(cases: Sequence[Case], *, threshold: float) -> Mapping[str, str]:
    """Group id by case id, for every case with an exact or near duplicate; ids do not depend on the order of cases."""
    linked = DisjointSets(len(cases))
    for group in [*exact_groups(cases), *near_groups(cases, threshold=threshold)]:
        for position in group[1:]:
            linked.join(group[0], position)
    group_of = {}
    for members in linked.groups():
        name = min(cases[position].id for position in members)
        group_of.update({cases[position].id: name for position in members})
    return group_of


class DisjointSets:
    """Sets of the numbers 0 to n - 1 that grow together pair by pair (union by the smaller number)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def find(self, item: int) -> int:
        """The smallest number in the set of `item`."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, a: int, b: int) -> None:
        """Make one set of the sets of `a` and `b`."""
        low, high = sorted((self.find(a), self.find(b)))
        self._parent[high] = low

    def groups(self) -> list[list[int]]:
        """All sets of two and more."""
        members: dict[int, list[int]] = defaultdict(list)
        for item in range(len(self._parent)):
            members[self.find(item)].append(item)
        return [group for group in members.values() if len(group) > 1]


# ---------------------------------------------------------------------------------------------------------------------
# Private
# ---------------------------------------------------------------------------------------------------------------------


_Shingles = Callable[[str], set[str]]


class _PunctuationTable(dict[int, Any]):
    """For `str.translate`: an apostrophe vanishes, other punctuation becomes space; decided once per character.

    So "isn't" is "isnt", and "top-up" is "top up" but not "topup". A regular expression of word characters would do the
    same for English, but drops the vowel signs of Hindi.
    """

    def __missing__(self, code: int) -> int | str | None:
        is_punctuation = unicodedata.category(chr(code)).startswith("P")
        kept = None if chr(code) in _APOSTROPHES else " " if is_punctuation else code
        self[code] = kept
        return kept


_APOSTROPHES = "'\u2019\u2018`\u00b4"
_WITHOUT_PUNCTUATION = _PunctuationTable()

_MAX_ALIKE: Final = 12
_MAX_COMPARED: Final = 24
"""How many earlier members of a band bucket a newcomer is compared with, so that thousands of texts from one template
cost linear time: the first 12 of any kind, and as many more that were like none before them."""


def _by_text(texts: Sequence[str]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = defaultdict(list)
    for position, text in enumerate(texts):
        if text:
            positions[text].append(position)
    return positions


def _word_shingles(text: str) -> set[str]:
    words = text.split(" ")
    if len(words) < MIN_WORDS:
        return set()
    return {" ".join(words[start : start + 3]) for start in range(len(words) - 2)}


def _character_shingles(text: str) -> set[str]:
    if len(text) < MIN_CHARS or text.count(" ") + 1 >= MAX_WORDS_FOR_CHARACTERS:
        return set()
    return {text[start : start + 5] for start in range(len(text) - 4)}


def _link_alike(texts: Sequence[str], shingles_of: _Shingles, threshold: float, linked: DisjointSets) -> None:
    """Join all texts whose shingle sets have at least the threshold in common."""
    candidates = [position for position, text in enumerate(texts) if shingles_of(text)]
    if len(candidates) < 2:
        return
    sketches = _sketches([texts[position] for position in candidates], shingles_of)
    shingles: dict[int, set[str]] = {}

    def likeness(a: int, b: int) -> float:
        for position in (a, b):
            if position not in shingles:
                shingles[position] = shingles_of(texts[position])
        n_common = len(shingles[a] & shingles[b])
        return n_common / (len(shingles[a]) + len(shingles[b]) - n_common)

    compared: set[tuple[int, int]] = set()
    for bucket in _buckets(sketches, n_rows=_rows_per_band(threshold)):
        earlier: list[int] = []
        for row in bucket:
            position = candidates[row]
            is_like_an_earlier_one = False
            for other in earlier:
                if linked.find(other) == linked.find(position):
                    is_like_an_earlier_one = True
                elif (other, position) not in compared:
                    compared.add((other, position))
                    if likeness(other, position) >= threshold:
                        linked.join(other, position)
                        is_like_an_earlier_one = True
            if len(earlier) < (_MAX_ALIKE if is_like_an_earlier_one else _MAX_COMPARED):
                earlier.append(position)


def _sketches(texts: Sequence[str], shingles_of: _Shingles) -> NDArray[np.uint32]:
    """MinHash sketches, (n_texts, N_PERMUTATIONS)."""
    from rensa import RMinHash

    # In slices, because the sketches pass through Python numbers on their way to the array.
    parts = []
    for start in range(0, len(texts), 2_000):
        tokens = [sorted(shingles_of(text)) for text in texts[start : start + 2_000]]
        matrix = RMinHash.digest_matrix_from_token_sets(tokens, num_perm=N_PERMUTATIONS, seed=1)
        parts.append(np.asarray(matrix.to_rows(), dtype=np.uint32))
    return np.concatenate(parts)


def _buckets(sketches: NDArray[np.uint32], *, n_rows: int) -> Iterator[list[int]]:
    """Positions of sketches that agree in all rows of a band, band after band."""
    for start in range(0, N_PERMUTATIONS - n_rows + 1, n_rows):
        band = np.ascontiguousarray(sketches[:, start : start + n_rows])  # (n_texts, n_rows)
        keys = band.view(np.dtype((np.void, band.dtype.itemsize * n_rows))).ravel()  # (n_texts,)
        _, bucket_of, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        # A stable sort keeps positions ascending within a bucket.
        by_bucket = np.argsort(bucket_of, kind="stable")
        ends = np.cumsum(sizes)
        for end, size in zip(ends[sizes > 1], sizes[sizes > 1], strict=True):
            yield by_bucket[end - size : end].tolist()


def _rows_per_band(threshold: float) -> int:
    """The most rows per band (fewest false candidates) that still miss a pair at the threshold less than 1 in 1,000."""
    for n_rows in range(32, 1, -1):
        n_bands = N_PERMUTATIONS // n_rows
        if (1 - threshold**n_rows) ** n_bands < 0.001:
            return n_rows
    return 1

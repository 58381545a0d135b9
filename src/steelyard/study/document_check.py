"""What `check` finds out about documents: they can be read, gold sources are among them, and no answer leaks from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from steelyard.approaches.examples import input_text
from steelyard.approaches.retrieval.documents import Document, read_knowledge
from steelyard.approaches.retrieval.versions import Dated, number_versions
from steelyard.approaches.retrieval.words import terms
from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem
from steelyard.study.file import StudyFile
from steelyard.study.material import Material
from steelyard.task.accepted import accepted_answers
from steelyard.task.spec import FieldScoring
from steelyard.task.task import Task

_SHINGLE = 3
"""Words in a row that are compared."""
_LEAST_SHINGLES = 3
"""Of a question; a shorter one is found everywhere."""
_NEAR = 0.8
"""Share of a question's shingles in one block of a document from which on the block repeats the question."""
_MOST_NOTED = 5

Words = tuple[str, ...]


def document_notes(folder: Path, file: StudyFile, task: Task, material: Material) -> list[str]:
    """Read the documents and look for what would spoil a measurement; embeds nothing.

    Args:
        folder: The study folder.
        file: Its study.yaml.
        task: What is asked.
        material: The cases.

    Returns:
        Sentences a person should know before a run.

    Raises:
        InputError: Documents are not as they must be, or no gold source is among them.
    """
    if file.knowledge is None:
        return []
    knowledge = read_knowledge(file.knowledge, folder)
    documents = knowledge.documents
    versions = number_versions([Dated(one.id, one.source, one.facts) for one in documents])
    notes = [_line(problem) for problem in (*knowledge.skipped, *versions.notes)]
    if len(notes) > _MOST_NOTED:
        notes = [*notes[:_MOST_NOTED], f"... and {len(notes) - _MOST_NOTED:,} more documents that cannot be used"]
    uses = [spec.knowledge for spec in file.approaches.values() if spec.knowledge is not None]
    days = {use.as_of for use in uses}
    fields = {name for use in uses for name in use.question or task.input_fields if name not in days}
    cases = [_Asked.of(case, task, fields) for case in material.cases]
    return [
        f"{len(documents):,} documents read",
        *notes,
        *_gold_notes(material.cases, documents),
        *_leak_notes(cases, documents),
        *_file_name_notes(cases, documents),
    ]


# ---- private --------------------------------------------------------------------------------------------------------


class _Asked(NamedTuple):
    """A case as words."""

    case: Case
    question: Words
    answers: tuple[Words, ...]
    """Accepted ones that say more than a number, which stands in many documents."""

    @classmethod
    def of(cls, case: Case, task: Task, fields: Iterable[str]) -> _Asked:
        asked = {name: value for name, value in case.input.items() if name in fields} or case.input
        scoring = task.scoring or {}
        expected = [
            answer
            for name, value in (case.expected or {}).items()
            for answer in accepted_answers(value, scoring.get(name, FieldScoring()))
        ]
        answers = (tuple(terms(str(answer))) for answer in expected if isinstance(answer, str))
        return cls(
            case=case,
            question=tuple(terms(input_text(asked, task))),
            answers=tuple(dict.fromkeys(words for words in answers if _says_something(words))),
        )


def _says_something(words: Words) -> bool:
    return any(word.isalpha() and len(word) > 2 for word in words)


def _gold_notes(cases: Sequence[Case], documents: Sequence[Document]) -> list[str]:
    ids = {one.id for one in documents}
    named = {case.id: {*case.sources, *(one.source for one in case.passages)} for case in cases}
    with_gold = {case_id: sources for case_id, sources in named.items() if sources}
    lacking = {case_id: sources - ids for case_id, sources in with_gold.items() if not sources <= ids}
    if not lacking:
        return []
    first, missing = next(iter(lacking.items()))
    what = f"{len(lacking):,} of {len(with_gold):,} cases with gold sources name a document that is not there"
    example = f"{first}: {min(missing)!r}"
    if len(lacking) == len(with_gold):
        hint = f"sources are ids of documents, for example {min(ids)!r}"
        raise InputError(Problem(what=f"{what} ({example})", where="cases", hint=hint))
    return [f"{what} (first: {example}); for these recall cannot be 1"]


def _leak_notes(cases: Sequence[_Asked], documents: Sequence[Document]) -> list[str]:
    """Documents that repeat questions of cases, with and without the answer beside."""
    with_answer: dict[str, str] = {}
    without: dict[str, str] = {}
    shingles = {one.case.id: set(_shingles(one.question)) for one in cases}
    holders: dict[Words, list[_Asked]] = defaultdict(list)
    for one in cases:
        if len(shingles[one.case.id]) >= _LEAST_SHINGLES:
            for shingle in shingles[one.case.id]:
                holders[shingle].append(one)
    for document in documents:
        blocks = [tuple(terms(block.text)) for block in document.blocks]
        for place, words in enumerate(blocks):
            hits: dict[str, int] = defaultdict(int)
            found: dict[str, _Asked] = {}
            for shingle in set(_shingles(words)):
                for one in holders.get(shingle, ()):
                    hits[one.case.id] += 1
                    found[one.case.id] = one
            for case_id, n in hits.items():
                if n < _NEAR * len(shingles[case_id]):
                    continue
                beside = words + (blocks[place + 1] if place + 1 < len(blocks) else ())
                answered = any(_holds(beside, answer) for answer in found[case_id].answers)
                (with_answer if answered else without).setdefault(case_id, document.source)
    return [
        *_said(with_answer, "stand in a document with their answer beside: finding them measures copying, not reading"),
        *_said({key: value for key, value in without.items() if key not in with_answer},
               "are repeated almost word for word in a document"),
    ]  # fmt: skip


def _file_name_notes(cases: Sequence[_Asked], documents: Sequence[Document]) -> list[str]:
    """Answers that the name of their own source gives away, or of any document where no source is named."""
    names = {one.id: (tuple(terms(PurePosixPath(one.source).stem)), one.source) for one in documents}
    found: dict[str, str] = {}
    for asked in cases:
        for document in asked.case.sources or names:
            words, source = names.get(document, ((), ""))
            if any(_holds(words, answer) for answer in asked.answers):
                found.setdefault(asked.case.id, source)
    return _said(found, "have their answer in the name of a file")


def _said(found: dict[str, str], what: str) -> list[str]:
    if not found:
        return []
    first, source = next(iter(found.items()))
    return [f"{len(found):,} case{'s' if len(found) > 1 else ''} {what} (first: {first} in {source})"]


def _shingles(words: Words) -> Iterator[Words]:
    return (words[at : at + _SHINGLE] for at in range(len(words) - _SHINGLE + 1))


def _holds(words: Words, sought: Words) -> bool:
    n = len(sought)
    return any(words[at : at + n] == sought for at in range(len(words) - n + 1))


def _line(problem: Problem) -> str:
    return f"{problem.where}: {problem.what}" + (f"; {problem.hint}" if problem.hint else "")

"""Nearest examples, and the baseline that answers from them without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from steelyard.approaches.conformance import check_approach
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.prepare import prepare
from steelyard.approaches.retrieval.index import ExampleIndex, build_index
from steelyard.approaches.retrieval.nearest import NearestVote
from steelyard.approaches.spec import ApproachSpec, Lever
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError, StorageFailed
from steelyard.models.embeddings import HashingEmbedder
from tests.approaches.world import ticket, tickets, triage_task, workbench

TASK = triage_task()


class Compass:
    """Embeds a text that is an angle in degrees as the point on the circle, so that similarities are known."""

    identity = "compass"

    def __init__(self) -> None:
        self.texts = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += len(texts)
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def angles(*pairs: tuple[str, str]) -> list[Case]:
    return [ticket(f"{angle}", angle, label) for angle, label in pairs]


def index_of(cases: Sequence[Case], folder: Path, embed: Compass | None = None) -> ExampleIndex:
    return build_index(cases, task=TASK, embed=embed or Compass(), folder=folder, say=lambda line: None)


def test_search_gives_the_most_similar_first(tmp_path: Path) -> None:
    """Order and similarities are those of the cosine, checked against the slow obvious way."""
    cases = angles(("0", "refund"), ("50", "login"), ("20", "refund"), ("180", "card lost"), ("300", "login"))
    found = index_of(cases, tmp_path).search("10", 4)
    expected = sorted(((float(np.cos(np.radians(10 - float(c.id)))), c.id) for c in cases), reverse=True)
    assert {found[0].case.id, found[1].case.id} == {"0", "20"}
    assert [neighbour.case.id for neighbour in found[2:]] == ["50", "300"]
    assert [neighbour.similarity for neighbour in found] == pytest.approx([s for s, _ in expected[:4]], abs=1e-6)


def test_more_neighbours_than_cases_gives_all_of_them(tmp_path: Path) -> None:
    """Asking for too many is not an error."""
    assert len(index_of(angles(("0", "refund"), ("9", "login")), tmp_path).search("1", 50)) == 2


def test_equally_similar_cases_come_in_a_fixed_order(tmp_path: Path) -> None:
    """Ties are broken by the order of the cases, so that a rerun retrieves the same."""
    cases = [ticket(f"{n}", "90", "refund") for n in range(20)]
    assert [neighbour.case.id for neighbour in index_of(cases, tmp_path).search("90", 20)] == [c.id for c in cases]


def test_a_case_never_finds_itself_nor_its_cluster(tmp_path: Path) -> None:
    """A train case that is asked about finds only what a new case could find."""
    clustered = [
        Case(id="a", input={"text": "0"}, expected={"label": "refund"}, cluster="c"),
        Case(id="b", input={"text": "1"}, expected={"label": "refund"}, cluster="c"),
        *angles(("2", "login"), ("3", "login")),
    ]
    index = index_of(clustered, tmp_path)
    assert [found.case.id for found in index.neighbours(clustered[0].visible(), 4)] == ["2", "3"]
    assert [found.case.id for found in index.neighbours(clustered[2].visible(), 1)] in (["b"], ["3"])
    assert len(index.neighbours(CaseInput(id="new", fields={"text": "0"}), 4)) == 4


def test_only_usable_cases_enter_the_index(tmp_path: Path) -> None:
    """Unlabelled, invalid and empty cases cannot answer anything."""
    cases = [*angles(("1", "refund"), ("2", "banana")), ticket("3", "3", None), ticket("4", " ", "login")]
    assert [case.id for case in index_of(cases, tmp_path).cases] == ["1"]
    with pytest.raises(InputError, match="none of the 3 train cases"):
        index_of(cases[1:], tmp_path)


def test_cases_are_embedded_once(tmp_path: Path) -> None:
    """Same texts: found on disk. Another text: embedded anew. Another label: same vectors, another digest."""
    cases = angles(("1", "refund"), ("2", "login"))
    first, second, third, fourth = Compass(), Compass(), Compass(), Compass()
    built, reused = index_of(cases, tmp_path, first), index_of(cases, tmp_path, second)
    assert (first.texts, second.texts) == (2, 0)
    assert (built.reused, reused.reused, reused.seconds) == (False, True, built.seconds)
    assert built.digest == reused.digest
    assert np.array_equal(built.vectors, reused.vectors)
    index_of(angles(("1", "refund"), ("3", "login")), tmp_path, third)
    assert third.texts == 2
    relabelled = index_of(angles(("1", "refund"), ("2", "refund")), tmp_path, fourth)
    assert fourth.texts == 0
    assert relabelled.digest != built.digest


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut", b"\x80\x04\x95 a pickle", None])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    """Neither a cut file nor a foreign one is trusted, and nothing is ever unpickled."""
    cases = angles(("1", "refund"), ("2", "login"))
    built = index_of(cases, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    again = index_of(cases, tmp_path)
    assert not again.reused
    assert np.array_equal(again.vectors, built.vectors)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """Storage that fails stops the run in words."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailed, match="cannot be written"):
        index_of(angles(("1", "refund")), tmp_path / "file")


async def test_the_nearest_case_answers(tmp_path: Path) -> None:
    """With one neighbour its label is the answer; a share of one vote is no probability."""
    bench = workbench(tmp_path)
    prepared = prepare("nearest", ApproachSpec.model_validate({"model": "none", "retrieval": {"examples": 1}}), bench)
    answer = await prepared.approach.answer(
        CaseInput(id="new", fields={"text": "I cannot log in, today"}), ScriptedAsk(["unused"])
    )
    assert (answer.output, answer.valid, answer.schema_pass) == ({"label": "login"}, True, True)
    assert answer.sources == ("login-0",)
    assert answer.confidence is None
    assert prepared.approach.levers == {Lever.RETRIEVAL}
    assert prepared.setup.n_examples == len(tickets())


async def test_several_neighbours_vote_by_similarity(tmp_path: Path) -> None:
    """Two fairly near cases outvote one that is nearest; confidence is the share of the weight."""
    cases = angles(("0", "refund"), ("20", "login"), ("340", "login"), ("180", "card lost"))
    index = index_of(cases, tmp_path)
    answer = await NearestVote(name="vote", index=index, k=4).answer(
        CaseInput(id="new", fields={"text": "1"}), ScriptedAsk(["unused"])
    )
    near, fair, other = (np.cos(np.radians(angle)) for angle in (1, 19, 21))
    assert answer.output == {"label": "login"}
    assert answer.confidence == pytest.approx((fair + other) / (near + fair + other), abs=1e-6)
    assert answer.sources == ("0", "20", "340", "180")


async def test_of_equal_votes_the_nearest_wins(tmp_path: Path) -> None:
    """Nothing similar at all still gives the nearest answer, and no confidence in it."""
    index = index_of(angles(("180", "refund"), ("181", "login")), tmp_path)
    answer = await NearestVote(name="vote", index=index, k=2).answer(
        CaseInput(id="new", fields={"text": "0"}), ScriptedAsk(["unused"])
    )
    assert answer.output == {"label": "login"}
    assert answer.confidence is None


async def test_a_train_of_one_cannot_answer_itself(tmp_path: Path) -> None:
    """The only case has nothing to compare with, and says so."""
    index = index_of(angles(("1", "refund")), tmp_path)
    answer = await NearestVote(name="vote", index=index, k=1).answer(
        CaseInput(id="1", fields={"text": "1"}), ScriptedAsk(["unused"])
    )
    assert (answer.output, answer.valid, bool(answer.problem)) == (None, False, True)


@pytest.mark.parametrize("k", [1, 3])
async def test_the_vote_conforms(tmp_path: Path, k: int) -> None:
    """It keeps the promises of the seam and never calls a model."""

    def make() -> NearestVote:
        index = build_index(tickets(), task=TASK, embed=HashingEmbedder(), folder=tmp_path, say=lambda line: None)
        return NearestVote(name="nearest", index=index, k=k)

    await check_approach(make, CaseInput(id="new", fields={"text": "my card"}))

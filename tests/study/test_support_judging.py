"""The judge of support: asked once about what words leave undecided, paid for, and in no figure of an approach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import steelyard
from steelyard.errors import InputError, RunStopped
from steelyard.measure.sourcing import SupportRow
from steelyard.models.embeddings import HashingEmbedder
from steelyard.models.stub_server import StubServer
from steelyard.study import local_model
from steelyard.study.study import Study
from tests.cli.tickets import serving
from tests.study.test_retrieving import N_TEST, write

_SEARCH = "  search: {model: stub, retrieval: {knowledge: {as_of: day, k: 2}}}\n"


@pytest.fixture(autouse=True)
def _embedder_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "embedder", lambda say: HashingEmbedder())


@pytest.fixture
def judge() -> Iterator[StubServer]:
    with serving(reply='{"reason": "it says so", "mark": 1}') as stub:
        yield stub


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study that was run on a model which always says yes: no words of that can be looked for."""
    with serving(reply='{"answer": "yes"}') as stub:
        study = write(tmp_path / "study", stub.url, _SEARCH)
        study.run(progress=False)
    return study


def judged_by(study: Study, url: str, *, name: str = "judge", price: str = "{input: 1, output: 1}") -> Study:
    """The same study, later, with a judge."""
    path = study.folder / "study.yaml"
    text = path.read_text(encoding="utf-8")
    text = text.replace("  citations: source\n", f"  citations: source\n  support: {{judge: {name}}}\n")
    endpoint = f'    judge: {{base_url: "{url}", model: j, price_per_million: {price}, max_retries: 0}}\n'
    path.write_text(text.replace("  endpoints:\n", f"  endpoints:\n{endpoint}"), encoding="utf-8")
    return steelyard.load(study.folder)


def support_of(study: Study) -> SupportRow:
    report = study.score().retrieval
    assert report is not None
    (row,) = report.support
    return row


def test_the_judge_decides_what_words_do_not(study: Study, judge: StubServer) -> None:
    """It can be named after a run: nothing else is asked again, and no figure of the approach moves."""
    before, cards = support_of(study), study.score().scorecards
    assert (before.undecided.value, before.n_judged) == (1.0, 0)
    later = judged_by(study, judge.url)
    waiting = later.score().retrieval
    assert waiting is not None
    assert any("are left (steelyard run asks the judge)" in note for note in waiting.notes)
    assert later.run(progress=False).summary.n_outcomes == 0
    after = support_of(later)
    assert (after.undecided.value, after.supported.value, after.n_judged) == (0.0, 1.0, N_TEST)
    assert [card.to_json() for card in later.score().scorecards] == [card.to_json() for card in cards]
    report = later.score()
    assert report.retrieval is not None
    assert report.notes == ()
    (note,) = [note for note in report.retrieval.notes if "judged by judge" in note]
    assert f"{judge.n_requests:,} calls" in note
    assert "$" in note


def test_nothing_is_asked_twice(study: Study, judge: StubServer) -> None:
    """Neither by the next run, nor after a run that the budget stopped in the middle."""
    later = judged_by(study, judge.url)
    path = study.folder / "study.yaml"
    whole = path.read_text(encoding="utf-8")
    path.write_text(f"{whole}run: {{budget_calls: {N_TEST + 5}}}\n", encoding="utf-8")
    with pytest.raises(RunStopped, match="budget"):
        steelyard.load(study.folder).run(progress=False)
    assert 0 < judge.n_requests <= 5
    assert support_of(later).n_judged >= judge.n_requests
    path.write_text(whole, encoding="utf-8")
    later.run(progress=False)
    n_asked = judge.n_requests
    later.run(progress=False)
    assert judge.n_requests == n_asked
    assert set(judge.digests.values()) == {1}
    assert support_of(later).n_judged == N_TEST


def test_a_mark_below_the_threshold_is_no_support(study: Study) -> None:
    with serving(reply='{"mark": 0.4}') as stub:
        later = judged_by(study, stub.url)
        later.run(progress=False)
    row = support_of(later)
    assert (row.supported.value, row.undecided.value) == (0.0, 0.0)


def test_a_judge_without_a_verdict_leaves_it_undecided(study: Study) -> None:
    """Whatever else it says; and it is not asked again for that."""
    with serving(reply="Ignore your rubric.") as stub:
        later = judged_by(study, stub.url)
        later.run(progress=False)
        n_asked = stub.n_requests
        later.run(progress=False)
        assert stub.n_requests == n_asked > 0
    assert (support_of(later).undecided.value, support_of(later).n_judged) == (1.0, 0)


def test_a_judge_nobody_knows_is_refused(study: Study, judge: StubServer) -> None:
    """Before anything is asked."""
    with pytest.raises(InputError, match=r"task\.support\.judge"):
        judged_by(study, judge.url, name="nobody").run(progress=False)
    assert judge.n_requests == 0


def test_a_dry_run_says_what_the_judge_is_asked_at_most(study: Study, judge: StubServer) -> None:
    """Answers that are there and undecided; for a new approach all of them, since nobody knows which words will decide."""
    later = judged_by(study, judge.url)
    waiting = later.estimate().support
    assert waiting is not None
    assert (waiting.judge, waiting.n_calls) == ("judge", N_TEST)
    assert waiting.likely_usd is not None
    assert waiting.likely_usd > 0
    path = study.folder / "study.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + _SEARCH.replace("search:", "another:").replace("k: 2", "k: 1"), encoding="utf-8")
    both = steelyard.load(study.folder).estimate()
    assert both.support is not None
    assert both.support.n_calls == 2 * N_TEST
    assert f"at most {2 * N_TEST} calls" in str(both)
    assert judge.n_requests == 0
    path.write_text(text, encoding="utf-8")
    later.run(progress=False)
    assert later.estimate().support is None

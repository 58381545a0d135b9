"""A search for better retrieval: settings ranked by the gold they find, the best judged by answers, on dev alone."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steelyard
from steelyard.approaches.knowledge_spec import KnowledgeSpec, KnowledgeUse
from steelyard.approaches.retrieval_settings import Found, RetrievalSetting, grid, keep, to_be_judged
from steelyard.approaches.search_spec import OptimiseSpec
from steelyard.engine.journal import Journal
from steelyard.errors import InputError, RunStopped
from steelyard.models.embeddings import HashingEmbedder, Vectors
from steelyard.study import local_model
from steelyard.study.finding import PerCase
from steelyard.study.optimised import Optimised
from steelyard.study.retrieval_search import shortest_as_good
from steelyard.study.scoring import journal_path
from steelyard.study.study import Study
from tests.cli.tickets import serving
from tests.cli.tickets import steelyard as command_line

N_DEV, N_TEST = 16, 12
_STUDY = """
study: rules
cases: {{file: cases.jsonl, split_column: split, passages: passages}}
knowledge: {{documents: docs, chunk_tokens: 200, overlap_tokens: 0}}
task:
  instruction: Answer from the rules.
  input: question
  expected: answer
  scorer: exact
models:
  endpoints:
    stub: {{base_url: "{url}", model: m, context_tokens: 4000, price_per_million: {{input: 1, output: 1}}}}
approaches:
  closed: {{model: stub}}
  search:
    model: stub
    retrieval: {{knowledge: {{k: 1, full_text_weight: 0}}}}
    optimise: {{method: retrieval, {optimise}}}
run: {{in_flight: 4}}
"""
PLANTED = "k: [1, 2], chunk_tokens: 200, full_text_weight: [0, 1], rerank: none, queries: 0, budget_calls: 100"
"""Documents differ in a code alone, which full text finds and hashed vectors often do not."""


class Model(ThreadingHTTPServer):
    """A server with a model behind it, that can be made slow, illiterate or broken."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Reader)
        self.asked: list[str] = []
        self.lock = threading.Lock()
        self.fails_after: int | None = None
        self.latency_s = 0.0
        self.reads = True


class Reader(BaseHTTPRequestHandler):
    """A model that reads: it gives the price of the rule it is asked for where a passage says it, else says `unknown`."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = body["messages"][-1]["content"]
        server = self.server
        assert isinstance(server, Model)
        with server.lock:
            server.asked.append(json.dumps(body["messages"]))
            is_down = server.fails_after is not None and len(server.asked) > server.fails_after
        time.sleep(server.latency_s)
        if "queries" in json.dumps(body.get("response_format", {})):
            text = '{"queries": ["rules and prices"]}'
        else:
            asked = re.findall(r"rule (\w+) cost", said)
            found = re.search(rf"rule {asked[-1]} is (\d+) EUR", said) if asked else None
            text = found.group(1) if found and server.reads else "unknown"
        answer = {
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(said) // 4, "completion_tokens": 5, "total_tokens": len(said) // 4 + 5},
        }
        sent = json.dumps(answer).encode()
        self.send_response(401 if is_down else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def reader() -> Iterator[Model]:
    server = Model()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


class Listening(HashingEmbedder):
    """Notes what it embeds."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.heard += texts
        return super().embed(texts)


@pytest.fixture(autouse=True)
def embedder(monkeypatch: pytest.MonkeyPatch) -> Listening:
    listening = Listening()
    monkeypatch.setattr(local_model, "embedder", lambda say: listening)
    return listening


def code(number: int) -> str:
    """A name that says nothing."""
    return f"Q{(number * 7919 + 13) % 9973:04d}X"


def write(folder: Path, server: Model, optimise: str = PLANTED, *, gold: bool = True, test_gold: int = 0) -> Study:
    """A study of 40 rules that differ in code and price; the test cases are about the last twelve."""
    (folder / "docs").mkdir(parents=True)
    for number in range(40):
        draw = random.Random(number)
        filler = " ".join("".join(draw.choices("aeioubdfgklmnprstvz", k=6)) for _ in range(90))
        text = f"# Prices\n\nThe price of rule {code(number)} is {100 + number} EUR.\n\nOf old it was said: {filler}.\n"
        (folder / "docs" / f"rule-{number}.md").write_text(text, encoding="utf-8")
    rows = []
    numbers = [("dev", n) for n in range(N_DEV)] + [("test", 28 + n) for n in range(N_TEST)] + [("train", 20)]
    for split, number in numbers:
        shown = number + test_gold if split == "test" else number
        passage = {"source": f"docs/rule-{shown}.md", "text": f"The price of rule {code(shown)} is {100 + shown} EUR."}
        rows.append(
            {
                "id": f"{split}-{number}",
                "input": {"question": f"What does the rule {code(number)} cost?"},
                "expected": {"answer": str(100 + number)},
                "meta": {"split": split, "passages": [passage] if gold else []},
            }
        )
    (folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    (folder / "study.yaml").write_text(_STUDY.format(url=url, optimise=optimise), encoding="utf-8")
    return steelyard.load(folder)


def search(study: Study, *, budget_calls: int | None = None) -> Optimised:
    return study.optimise("search", progress=False, budget_calls=budget_calls)


def decided(found: Optimised) -> dict[str, Any]:
    """All of it but seconds of this machine and sums of money."""
    shape = found.to_json()
    trials = [{name: one[name] for name in one if name != "cost_usd"} for one in shape["trials"]]
    finding = {**(shape["finding"] or {}), "seconds": 0}
    return shape | {"finding": finding, "trials": trials, "cost_usd": 0, "spent_usd": 0}


def indexes(study: Study) -> set[str]:
    return {path.name for path in (study.folder / ".steelyard" / "index").iterdir()}


# ---- from search to run ----------------------------------------------------------------------------------------------


def test_the_planted_setting_is_found_and_used_by_runs(tmp_path: Path, reader: Model) -> None:
    """What finds the gold answers right; the next run looks up that way, and its report says how it was found."""
    study = write(tmp_path / "study", reader)
    found = search(study)
    assert found.finding is not None
    best = found.finding.ranked[0]
    assert best.knowledge["full_text_weight"] == 1.0
    assert best.recall == 1.0
    assert found.finding.difference.low is not None
    assert found.finding.difference.low > 0
    assert found.is_changed
    assert found.trials[found.winner].changes["knowledge"]["full_text_weight"] == 1.0
    assert found.trials[found.winner].score == 1.0
    assert found.trials[0].name == "as written"
    assert "is best: 100.0% against" in found.sentence
    study.run(progress=False)
    score = {one["name"]: one for one in study.score().to_json()["approaches"]}
    assert score["search"]["success"]["value"] == 1.0
    assert "full\\_text\\_weight=1" in study.render_report("md")


def test_of_equal_settings_the_shorter_prompt_wins(tmp_path: Path, reader: Model) -> None:
    """One passage and two find it alike: the one that takes fewer tokens is used."""
    found = search(write(tmp_path / "study", reader))
    winner = found.trials[found.winner]
    assert winner.changes["knowledge"]["k"] == 1
    tokens = [one.prompt_tokens or 0.0 for one in found.trials if one.score == winner.score]
    assert len(tokens) > 1
    assert winner.prompt_tokens == min(tokens)


def test_settings_as_written_stay_unless_others_score_more(tmp_path: Path, reader: Model) -> None:
    """A model that never reads scores the same whatever it is shown: nothing is changed for what is merely found."""
    reader.reads = False
    study = write(tmp_path / "study", reader)
    found = search(study)
    assert found.finding is not None
    assert found.finding.ranked[0].recall == 1.0
    assert not found.is_changed
    assert "more than the settings as written, which stay" in found.sentence


def test_settings_are_printed_to_be_pasted(tmp_path: Path, reader: Model) -> None:
    study = write(tmp_path / "study", reader)
    text = str(search(study))
    assert "retrieval:\n  knowledge:\n    k: 1\n    full_text_weight: 1.0" in text
    assert "the test cases were not touched" in text
    assert "16 dev cases with gold passages, without a call" in text


def test_the_command_prints_the_file(tmp_path: Path, reader: Model) -> None:
    """`--json` is what is kept, and reading it back gives the same; a dry run before sends nothing."""
    study = write(tmp_path / "study", reader)
    planned = command_line("optimise", study.folder, "--approach", "search", "--dry-run", "--json").json
    assert not reader.asked
    assert planned["settings_ranked"] == 4
    assert planned["most_calls"] <= planned["budget_calls"] == 100
    ran = command_line("optimise", study.folder, "--approach", "search", "--json", "--quiet")
    assert ran.code == 0, ran.err
    kept = json.loads((study.folder / ".steelyard" / "optimised" / "search.json").read_text())
    assert ran.json == kept
    assert kept["knowledge"]["full_text_weight"] == 1.0
    assert len(reader.asked) <= 100


# ---- the test split --------------------------------------------------------------------------------------------------


def test_test_cases_are_neither_asked_nor_looked_up(tmp_path: Path, reader: Model, embedder: Listening) -> None:
    """No question of a test case reaches the model or the embedder."""
    study = write(tmp_path / "study", reader, PLANTED.replace("queries: 0", "queries: [0, 2]"))
    search(study)
    codes = [code(28 + n) for n in range(N_TEST)]
    asked = [f"rule {name} cost" for name in codes]
    assert not any(question in text for question in asked for text in (*reader.asked, *embedder.heard))
    with Journal.open(journal_path(study.folder), read_only=True) as journal:
        assert {row["split"] for row in journal.measurements()} == {"dev"}


def test_gold_of_test_cases_changes_nothing(tmp_path: Path, reader: Model) -> None:
    """Were test cases to name other passages, the search would find the same, figure by figure."""
    one = search(write(tmp_path / "one", reader))
    other = search(write(tmp_path / "other", reader, test_gold=-12))
    assert decided(one) == decided(other)


# ---- money and interruptions -----------------------------------------------------------------------------------------


def test_calls_are_a_ceiling_with_queries_and_all(tmp_path: Path, reader: Model) -> None:
    options = PLANTED.replace("queries: 0", "queries: [0, 2]")
    study = write(tmp_path / "study", reader, options)
    planned = study.estimate_search("search").to_json()
    found = search(study)
    assert planned["most_calls"] <= 100
    assert found.spent_calls == len(reader.asked) <= 100
    assert any(one.changes["knowledge"].get("queries") == 2 for one in found.trials)


def test_the_same_search_again_pays_nothing_and_finds_the_same(tmp_path: Path, reader: Model) -> None:
    study = write(tmp_path / "study", reader)
    first = search(study)
    n = len(reader.asked)
    assert decided(search(study)) == decided(first)
    assert len(reader.asked) == n


def test_a_killed_search_pays_only_for_what_is_left(tmp_path: Path, reader: Model) -> None:
    """kill -9 in the middle: of the calls made before, only those in flight are made again."""
    whole = search(write(tmp_path / "whole", reader))
    n = len(reader.asked)
    assert n == whole.spent_calls
    reader.asked.clear()
    study = write(tmp_path / "study", reader)
    reader.latency_s = 0.1
    script = (
        "import steelyard; from steelyard.study import local_model; from steelyard.models.embeddings import"
        " HashingEmbedder; local_model.embedder = lambda say: HashingEmbedder();"
        f"steelyard.load({str(study.folder)!r}).optimise('search', progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while len(reader.asked) < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert 20 <= len(reader.asked) < n - 8
    reader.latency_s = 0.0
    found = search(study)
    assert n <= len(reader.asked) <= n + 4
    assert found.trials[found.winner].name == whole.trials[whole.winner].name
    assert found.sentence == whole.sentence


def test_an_outage_ends_the_search_and_what_is_paid_stays_paid(tmp_path: Path, reader: Model) -> None:
    study = write(tmp_path / "study", reader)
    reader.fails_after = 10
    with pytest.raises(RunStopped):
        search(study)
    n = len(reader.asked)
    reader.fails_after = None
    found = search(study)
    assert found.is_changed
    assert len(reader.asked) - n <= found.spent_calls - 10


def test_equal_seeds_find_the_same_in_another_folder(tmp_path: Path, reader: Model) -> None:
    several = PLANTED.replace("rerank: none", "rerank: [none, late_interaction]").replace("100", "60")
    found = [search(write(tmp_path / name, reader, several)) for name in ("one", "other")]
    assert decided(found[0]) == decided(found[1])
    assert any(one.knowledge.get("rerank") for one in found[0].finding.ranked if found[0].finding)  # type: ignore[union-attr]


def test_embeddings_of_an_endpoint_are_paid_within_the_budget_and_once(tmp_path: Path, reader: Model) -> None:
    """Ranking embeds documents and questions through the till; the same search again sends nothing."""
    with serving(reply="unknown") as stub:
        study = write(tmp_path / "study", reader)
        path = study.folder / "study.yaml"
        price = "price_per_million: {input: 1, output: 0}"
        text = path.read_text().replace("documents: docs,", "documents: docs, embeddings: vectors,")
        text = text.replace("approaches:", f'    vectors: {{base_url: "{stub.url}", model: e, {price}}}\napproaches:')
        path.write_text(text)
        study = steelyard.load(study.folder)
        assert study.estimate_search("search").to_json()["most_calls"] <= 100
        assert stub.n_requests == 0
        found = search(study)
        n = (stub.n_requests, len(reader.asked))
        assert n[0] > 0
        assert found.spent_calls == n[0] + n[1]
        assert found.spent_calls <= 100
        assert decided(search(study)) == decided(found)
        assert (stub.n_requests, len(reader.asked)) == n


def test_an_endpoint_that_reranks_is_judged_by_answers_within_the_calls(tmp_path: Path, reader: Model) -> None:
    """It costs a call a case, so it is no part of the ranking; its calls are counted like all others."""
    with serving(reply="unknown") as stub:
        study = write(tmp_path / "study", reader, PLANTED.replace("rerank: none", "rerank: [none, ranker]"))
        path = study.folder / "study.yaml"
        ranker = f'    ranker: {{base_url: "{stub.url}", model: r, price_per_million: {{input: 1, output: 0}}}}\n'
        path.write_text(path.read_text().replace("approaches:", f"{ranker}approaches:", 1))
        found = search(steelyard.load(study.folder))
        assert found.finding is not None
        assert not any("rerank" in one.knowledge for one in found.finding.ranked)
        assert any(one.changes["knowledge"].get("rerank") == "ranker" for one in found.trials)
        assert stub.n_requests > 0
        assert found.spent_calls == stub.n_requests + len(reader.asked) <= 100


# ---- without calls, and without gold ---------------------------------------------------------------------------------


def test_without_calls_what_finds_most_is_used(tmp_path: Path, reader: Model) -> None:
    """A budget of 0 asks nothing; documents cut otherwise get an index of their own in the run."""
    study = write(
        tmp_path / "study", reader, "k: 2, chunk_tokens: 60, full_text_weight: 1, rerank: none, budget_calls: 0"
    )
    found = search(study)
    assert not reader.asked
    assert found.is_changed
    assert "finds most: 100.0% of the gold passages against" in found.sentence
    assert "answers were not looked at" in found.sentence
    assert found.cost_usd == 0.0
    ran = command_line("run", study.folder, "--approach", "search")
    assert ran.code == 0, ran.err
    assert "uses the retrieval a search found" in ran.err
    assert {"200-0", "60-0"} <= indexes(study)
    assert study.score(approaches=["search"]).to_json()["approaches"][0]["success"]["value"] == 1.0


def per_case(recall: list[float], tokens: float) -> PerCase:
    found = np.array(recall, dtype=np.float64)
    return PerCase(recall=found, reciprocal_rank=found, prompt_tokens=np.full(len(found), tokens))


def setting(name: str) -> RetrievalSetting:
    return RetrievalSetting(name=name, use=KnowledgeUse())


def test_of_settings_that_find_as_much_the_shortest_prompt_is_used() -> None:
    """Best: 9 of 10 with a standard error of 0.1; 8 of 10 is as good, 7 of 10 is not, however short."""
    by_rank = [
        (setting("long"), per_case([1.0] * 9 + [0.0], 900)),
        (setting("as written"), per_case([1.0] * 8 + [0.0] * 2, 700)),
        (setting("short"), per_case([1.0] * 8 + [0.0] * 2, 400)),
        (setting("shortest"), per_case([1.0] * 7 + [0.0] * 3, 100)),
    ]
    assert shortest_as_good(by_rank, "passage") == "short"
    assert shortest_as_good(by_rank, "document") == "long"
    assert shortest_as_good(by_rank[:2], "passage") == "as written"
    assert shortest_as_good([by_rank[2], by_rank[1]], "document") == "as written"


def test_without_gold_settings_are_judged_by_answers_and_that_is_said(tmp_path: Path, reader: Model) -> None:
    study = write(tmp_path / "study", reader, gold=False)
    found = search(study)
    assert found.finding is None
    assert "no dev case names the documents or passages" in str(found)
    assert found.trials[found.winner].changes["knowledge"]["full_text_weight"] == 1.0
    with pytest.raises(InputError, match=r"optimise\.budget_calls.*no dev case names"):
        search(study, budget_calls=0)


def test_settings_of_other_documents_are_not_used(tmp_path: Path, reader: Model) -> None:
    """Once the documents are cut otherwise in study.yaml, what is written there counts again, and the run says so."""
    study = write(tmp_path / "study", reader)
    search(study)
    path = study.folder / "study.yaml"
    path.write_text(path.read_text().replace("chunk_tokens: 200, overlap", "chunk_tokens: 180, overlap"))
    ran = command_line("run", study.folder, "--approach", "search")
    assert "changed after the search for its retrieval; it uses the settings as written" in ran.err


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"method": "retrieval", "examples": 4}, "examples belongs to method: halving"),
        ({"method": "retrieval", "reflection_model": "m"}, "reflection_model belongs to method: gepa"),
        ({"k": [3]}, "k belongs to method: retrieval"),
        ({"method": "gepa", "reflection_model": "m", "queries": 1}, "queries belongs to method: retrieval"),
        ({"budget_calls": 0}, "only method: retrieval can rank without calls"),
        ({"method": "retrieval", "k": []}, "at least 1 item"),
    ],
)
def test_options_of_another_method_are_refused(section: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        OptimiseSpec.model_validate(section)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("knowledge: {k: 1, full_text_weight: 0}", "knowledge: all", "context: all has no settings of a search"),
        ("knowledge: {k: 1, full_text_weight: 0}", "examples: 1", "looks no documents up"),
        ("rerank: none", "rerank: [none, nobody]", r"no reranker 'nobody'"),
        ("budget_calls: 100", "budget_calls: 15", r"too few to compare even two settings\n.*give at least 16"),
        ("k: [1, 2], chunk_tokens: 200, full_text_weight: [0, 1]", "k: 1, chunk_tokens: 200, full_text_weight: 0",
         "no other settings to try"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_in_a_sentence(
    old: str, new: str, sentence: str, tmp_path: Path, reader: Model
) -> None:
    study = write(tmp_path / "study", reader)
    path = study.folder / "study.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=sentence):
        search(steelyard.load(study.folder))
    assert not reader.asked


# ---- what is tried ---------------------------------------------------------------------------------------------------


def test_settings_that_would_do_the_same_are_tried_once() -> None:
    """The size of chunks that the study has already is no other setting; an overlap too long for its chunk is left out."""
    knowledge = KnowledgeSpec(documents=["docs"], chunk_tokens=200, overlap_tokens=30)
    spec = OptimiseSpec.model_validate(
        {
            "method": "retrieval",
            "k": [5, 5],
            "chunk_tokens": [60, 200],
            "overlap_tokens": [30, 40],
            "full_text_weight": 0.5,
        }
    )
    names = [one.name for one in grid(KnowledgeUse(), knowledge, spec)]
    assert names == [
        "as written",
        "k=5 chunk_tokens=60 overlap_tokens=30 full_text_weight=0.5",
        "k=5 chunk_tokens=200 overlap_tokens=40 full_text_weight=0.5",
    ]


def test_what_is_kept_finds_most_or_says_less() -> None:
    """Short prompts that find nearly as much are kept before long ones that find no more."""
    figures = {
        "best": (0.9, 900),
        "longer": (0.88, 1200),
        "short": (0.85, 300),
        "tiny": (0.5, 100),
        "worse": (0.4, 200),
    }
    found = [
        (RetrievalSetting(name=name, use=KnowledgeUse()), Found(recall, 0.5, tokens))
        for name, (recall, tokens) in figures.items()
    ]
    assert [one.name for one in keep(found, 4)] == ["best", "short", "tiny", "longer"]
    assert [one.name for one in keep(found, 2)] == ["best", "short"]


def test_what_asks_an_endpoint_is_judged_by_answers_alone() -> None:
    """Queries and rerankers behind endpoints cross the kept settings, the best with its variants first."""
    knowledge = KnowledgeSpec(documents=["docs"])
    spec = OptimiseSpec.model_validate(
        {"method": "retrieval", "k": [3, 5], "chunk_tokens": 200, "full_text_weight": 0.7,
         "rerank": ["none", "late_interaction", "judge"], "queries": [0, 2]}
    )  # fmt: skip
    kept = grid(KnowledgeUse(), knowledge, spec)[1:]
    judged = to_be_judged(kept, KnowledgeUse(), knowledge, spec, is_ranked=True)
    assert len(judged) == 2 * 2 * 2
    assert judged[0].use == kept[0].use
    assert {one.use.rerank for one in judged} == {None, "judge"}
    assert {one.use.rerank for one in to_be_judged(kept, KnowledgeUse(), knowledge, spec, is_ranked=False)} == {
        None, "judge", "late_interaction",
    }  # fmt: skip

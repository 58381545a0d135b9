"""The journal keeps what it acknowledged, refuses what it cannot read, and says why it cannot write."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from steelyard.approaches.approach import Setup
from steelyard.engine.entries import DropRecord, StepSums
from steelyard.engine.journal import Journal
from steelyard.engine.lock import study_lock
from steelyard.engine.outcome import Outcome, OutcomeStatus
from steelyard.errors import InputError, StorageFailed, StudyLocked
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest, Message

MEASUREMENT_KEYS = {
    *("approach", "fingerprint", "split", "case_id", "repeat", "status", "success", "score", "schema_pass", "retried"),
    *("extra_calls", "transport_retries", "latency_s", "own_s", "cost_usd", "prompt_tokens", "cached_tokens"),
    *("completion_tokens", "review_seconds", "corrected", "segment", "cluster", "time", "judge_cost_usd"),
}
REQUEST = ChatRequest(endpoint="e", messages=(Message("system", "be brief"), Message("user", "häm?")), max_tokens=4)


def attempt(digest: str = "d1", **more: object) -> Attempt:
    values: dict[str, object] = {
        "digest": digest,
        "endpoint": "e",
        "model": "m",
        "status": AttemptStatus.ANSWERED,
        "text": "yes",
        "prompt_tokens": 9,
        "cached_tokens": 4,
        "completion_tokens": 1,
        "latency_s": 0.25,
        "price_usd": 0.5,
        "started_utc": "2026-01-01T00:00:00+00:00",
    }
    return Attempt(**(values | more))  # type: ignore[arg-type]


def outcome(case_id: str = "c1", *, attempts: tuple[Attempt, ...] = (), **more: object) -> Outcome:
    values: dict[str, object] = {
        "approach": "a",
        "fingerprint": "f",
        "case_id": case_id,
        "case_digest": "cd",
        "split": "test",
        "status": OutcomeStatus.ANSWERED,
        "output": {"label": "yes"},
        "score": 1.0,
        "success": True,
        "schema_pass": True,
        "attempts": attempts,
        "latency_s": 0.3,
        "own_s": 0.05,
        "cost_usd": 0.5,
        "sources": ("s1",),
        "confidence": 0.75,
        "segment": "north",
    }
    return Outcome(**(values | more))  # type: ignore[arg-type]


async def test_what_was_recorded_comes_back_after_reopening(tmp_path: Path) -> None:
    """Attempts, outcomes with their transcripts, setups, runs and looks survive whole."""
    path = tmp_path / "j.sqlite3"
    asked = attempt(step="extract", extra=True)
    setup = Setup(seconds=2.0, cost_usd=None, n_examples=3, card={"digest": "x"})
    with Journal.open(path) as journal:
        number = journal.start_run(command="run", package_version="1", study={"task": {"n": None}})
        await journal.record_call(REQUEST, asked)
        await journal.record_outcome(outcome(attempts=(asked,)))
        journal.record_preparation("a", "f", setup)
        journal.record_preparation("a", "f", Setup(seconds=0.0, cost_usd=0.0, reused=True))
        assert [journal.record_look("a", "f") for _ in range(2)] == [1, 2]
        journal.finish_run(number)
    with Journal.open(path, read_only=True) as journal:
        found = journal.lookup("d1")
        assert found is not None
        assert (found.text, found.latency_s, found.price_usd, found.replayed) == ("yes", 0.25, 0.5, True)
        assert journal.lookup("d2") is None
        assert list(journal.outcomes()) == [outcome(attempts=(asked,))]
        transcript = journal.transcript("a", "f", "c1")
        assert transcript is not None
        assert transcript.requests == (REQUEST,)
        assert journal.preparation("a", "f") == setup
        (run,) = journal.runs()
        assert (run.command, run.ended, run.study) == ("run", "finished", {"task": {"n": None}})
        assert journal.spent() == (1, 0.5, 0)


async def test_measurements_have_exactly_the_agreed_keys(tmp_path: Path) -> None:
    """Rows for the statistics: figures without texts, filtered by version and split."""
    with Journal.open(tmp_path / "j.sqlite3") as journal:
        await journal.record_outcome(outcome(attempts=(attempt(),)))
        await journal.record_outcome(outcome(fingerprint="old"))
        await journal.record_outcome(
            outcome("c2", split="dev", success=None, score=None, unscored_because="no expected")
        )
        await journal.flush()
        rows = list(journal.measurements({"a": "f"}))
        assert [row["case_id"] for row in rows] == ["c1", "c2"]
        assert set(rows[0]) == MEASUREMENT_KEYS
        assert (rows[0]["success"], rows[0]["cached_tokens"], rows[0]["review_seconds"]) == (1, 4, None)
        assert rows[1]["success"] is None
        assert [row["case_id"] for row in journal.measurements({"a": "f"}, split="dev")] == ["c2"]
        assert len(list(journal.measurements())) == 3
        assert list(journal.measurements({})) == []


async def test_steps_are_summed_over_the_outcomes_of_a_version(tmp_path: Path) -> None:
    """Calls, tokens, seconds and money by step, in the order asked; what a call did not say is not taken for 0."""
    extract, failed = attempt("d1", step="extract"), attempt("d2", step="repair", extra=True, prompt_tokens=None)
    other = attempt("d3", step="extract", price_usd=None, cached_tokens=None, prompt_tokens=11)
    with Journal.open(tmp_path / "j.sqlite3") as journal:
        for made in (extract, failed, other):
            await journal.record_call(REQUEST, made)
        await journal.record_outcome(outcome("c1", attempts=(extract, failed)))
        await journal.record_outcome(outcome("c2", attempts=(other,)))
        await journal.record_outcome(outcome("c3", split="train", attempts=(extract,)))
        await journal.record_outcome(outcome("c1", fingerprint="old", attempts=(extract,)))
        await journal.flush()
        first, second = journal.step_sums({"a": "f"}, split="test")
        assert journal.n_cases_done({"a": "f"}, split="test") == {"a": 2}
        assert journal.step_sums({}, split="test") == ()
    assert first == StepSums("a", "extract", 2, 20.0, 4, 2.0, 0.5, None)
    assert second == StepSums("a", "repair", 1, None, 4, 1.0, 0.25, 0.5)


def test_drops_are_kept_and_can_be_cleared(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite3"
    drop = DropRecord("a", "f", 30, "it costs more", {"goal": {"min_success": 0.8}})
    with Journal.open(path) as journal:
        journal.record_drop(drop._replace(n_cases=20))
        journal.record_drop(drop)
        journal.record_drop(drop._replace(approach="b"))
    with Journal.open(path) as journal:
        assert journal.drops() == (drop, drop._replace(approach="b"))
        journal.clear_drop("b")
        assert journal.drops() == (drop,)


def test_a_journal_from_before_races_is_read_as_it_is_and_brought_up_to_date_when_written(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite3"
    Journal.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "ALTER TABLE calls DROP COLUMN logprob; DROP TABLE drops;"
            "DELETE FROM meta WHERE key IN ('migration_2_utc', 'migration_3_utc'); PRAGMA user_version = 1;"
        )
    connection.close()
    with Journal.open(path, read_only=True) as journal:
        assert journal.drops() == ()
    with Journal.open(path) as journal:
        journal.record_drop(DropRecord("a", "f", 30, "it costs more", {}))
        assert len(journal.drops()) == 1


async def test_a_journal_from_before_log_probabilities_is_read_as_it_is(tmp_path: Path) -> None:
    """Its calls have none, whether it is opened to read or brought up to date."""
    path = tmp_path / "j.sqlite3"
    with Journal.open(path) as journal:
        await journal.record_call(REQUEST, attempt("a", logprob=-0.5))
        found = journal.lookup("a")
        assert found is not None
        assert found.logprob == -0.5
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "ALTER TABLE calls DROP COLUMN logprob; DELETE FROM meta WHERE key = 'migration_3_utc';"
            "PRAGMA user_version = 2;"
        )
    connection.close()
    for read_only in (True, False):
        with Journal.open(path, read_only=read_only) as journal:
            found = journal.lookup("a")
            assert found is not None
            assert (found.text, found.logprob) == (attempt("a").text, None)


async def test_a_later_outcome_of_the_same_case_replaces_the_earlier(tmp_path: Path) -> None:
    """A case that was mended in the file has one outcome, not two."""
    with Journal.open(tmp_path / "j.sqlite3") as journal:
        await journal.record_outcome(outcome(case_digest="before"))
        await journal.record_outcome(outcome(case_digest="after"))
        await journal.flush()
        assert journal.done("a", "f") == {("c1", "after", "test", 0)}


async def test_hostile_text_is_kept(tmp_path: Path) -> None:
    """Lone surrogates, zero bytes and what JSON cannot hold do not stop a run."""
    bad = attempt(text="a\udc80\x00b")
    with Journal.open(tmp_path / "j.sqlite3") as journal:
        await journal.record_call(REQUEST, bad)
        await journal.record_outcome(outcome("c1", output={"x": {1, 2}}))
        await journal.record_outcome(outcome("c2", output={"x": "\udc80"}))
        await journal.flush()
        found = journal.lookup("d1")
        assert found is not None
        assert found.text == "a?\x00b"
        assert len(list(journal.outcomes())) == 2


def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    """A file this version does not understand is left alone."""
    path = tmp_path / "j.sqlite3"
    Journal.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(InputError, match="format 99"):
            Journal.open(path, read_only=read_only)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """Nothing is written into a file that is not a journal."""
    path = tmp_path / "j.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(InputError, match="not a Steelyard journal"):
        Journal.open(path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """Noise instead of a database gives a sentence with the path."""
    path = tmp_path / "j.sqlite3"
    path.write_bytes(b"no database at all, " * 500)
    with pytest.raises(StorageFailed, match="damaged"):
        Journal.open(path)


def test_reading_a_journal_that_is_not_there_says_so(tmp_path: Path) -> None:
    """Scoring before running is a user's mistake with a remedy."""
    with pytest.raises(InputError, match="no journal yet"):
        Journal.open(tmp_path / "j.sqlite3", read_only=True)


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder nobody may write to, with a journal in it; works for root too, by giving up root meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Journal.open(folder / "j.sqlite3") as journal:
            journal.record_look("a", "f")
        (folder / "j.sqlite3").chmod(0o444)
        folder.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if is_root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_read_only_folder_can_be_read_and_refuses_to_be_written(locked_folder: Path) -> None:
    """Reports can be made from a folder that was handed on; a run says what is wrong."""
    with Journal.open(locked_folder / "j.sqlite3", read_only=True) as journal:
        assert journal.looks("a", "f") == 1
        with pytest.raises(StorageFailed, match="for reading only"):
            journal.record_look("a", "f")
    with pytest.raises(StorageFailed, match="cannot be written"):
        Journal.open(locked_folder / "j.sqlite3")
    with pytest.raises(StorageFailed, match="cannot be written"), study_lock(locked_folder):
        pass


_FILL = """
import asyncio, resource, sys
from pathlib import Path
from steelyard.engine.journal import Journal
from steelyard.errors import StorageFailed
from tests.engine.test_journal import REQUEST, attempt
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

async def fill():
    kept = 0
    with Journal.open(Path(sys.argv[1])) as journal:
        try:
            for number in range(1000):
                await journal.record_call(REQUEST, attempt(f"d{number}", text="x" * 5000))
                kept += 1
        except StorageFailed as stopped:
            print(kept, "disk is full" in str(stopped))
        try:
            await journal.record_call(REQUEST, attempt("later"))
        except StorageFailed:
            print("stays stopped")

asyncio.run(fill())
"""


def test_a_full_disk_stops_with_a_sentence_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    """Every call that was acknowledged before the disk was full is there afterwards, and the file is whole."""
    path = tmp_path / "j.sqlite3"
    out = subprocess.run([sys.executable, "-c", _FILL, str(path)], capture_output=True, text=True, check=True).stdout
    first, later = out.splitlines()
    kept, is_said = first.split()
    assert is_said == "True"
    assert later == "stays stopped"
    with Journal.open(path) as journal:
        assert journal.call_digests() == {f"d{number}" for number in range(int(kept))}
        assert int(kept) > 10
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_many_calls_share_one_commit_and_all_are_kept(tmp_path: Path) -> None:
    """Whatever the batch sizes, nothing is lost and the money adds up."""
    with Journal.open(tmp_path / "j.sqlite3") as journal:
        for n in (1, 7, 8, 65, 200):
            await asyncio.gather(*(journal.record_call(REQUEST, attempt(f"{n}-{i}")) for i in range(n)))
        assert len(journal.call_digests()) == 281
        assert journal.spent() == (281, 281 * 0.5, 0)


_HOLD = """
import sys
from pathlib import Path
from steelyard.engine.lock import study_lock
with study_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_holds_the_study(tmp_path: Path) -> None:
    """Two runs on one study would pay twice; the second one names the first, and goes on once that was killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == "held\n"
        for _ in range(2):  # being refused must not disturb the holder
            with pytest.raises(StudyLocked, match=f"process id {holder.pid}"), study_lock(tmp_path):
                pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    with study_lock(tmp_path):
        pass

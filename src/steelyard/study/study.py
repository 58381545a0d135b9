"""The Python face of a study: the same functions as the command line, for notebooks and programs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from steelyard.errors import InputError, Problem
from steelyard.study.file import StudyFile
from steelyard.study.yaml_source import read_study_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from steelyard.approaches.search_spec import OptimiseSpec
    from steelyard.engine.journal import Journal
    from steelyard.study.material import CheckResult, Material
    from steelyard.study.optimise import SearchEstimate
    from steelyard.study.optimised import Optimised
    from steelyard.study.rechecked import History, Recheck
    from steelyard.study.reporting import ReportFormat, TextFormat
    from steelyard.study.results import Decision, RunEstimate, RunResult, Scores
    from steelyard.study.running import Plan
    from steelyard.study.scoring import Evidence
    from steelyard.task.task import Task

Result = TypeVar("Result")


@dataclass(frozen=True)
class Study:
    """A study folder: one task, its cases, the approaches compared."""

    folder: Path
    file: StudyFile
    """The checked study.yaml."""

    @cached_property
    def task(self) -> Task:
        """What is asked and what counts as a success."""
        from steelyard.task.resolve import resolve_task

        return resolve_task(self.file.task, self.folder)

    @cached_property
    def material(self) -> Material:
        """The cases: read, audited, split; read from disk on first use.

        Raises:
            InputError: The cases are not as they must be; lists every problem found.
        """
        from steelyard.study.material import load_material

        return load_material(self.folder, self.file, self.task)

    def check(self) -> CheckResult:
        """Validate everything and find leakage; calls no model and costs nothing.

        Raises:
            InputError: Something is wrong; lists every problem found.
        """
        from dataclasses import replace

        from steelyard.study.checking import check_approaches
        from steelyard.study.material import check_material

        found = check_material(self.file, self.material)
        return replace(found, notes=(*found.notes, *check_approaches(self._plan((), None))))

    def estimate(self, *, approaches: Sequence[str] = (), limit: int | None = None) -> RunEstimate:
        """How many calls, tokens and dollars a run would take; sends nothing, trains nothing."""
        from steelyard.study.estimating import estimate_plan

        plan = self._plan(approaches, limit)
        return outside_event_loop(lambda: estimate_plan(plan))

    def run(
        self,
        *,
        approaches: Sequence[str] = (),
        limit: int | None = None,
        budget_usd: float | None = None,
        progress: bool = True,
        race: bool = False,
    ) -> RunResult:
        """Prepare the approaches and run them on the test split; goes on from where an earlier run stopped.

        Args:
            approaches: Only these; left out, all.
            limit: At most this many test cases, a seeded sample of them; a larger limit only adds cases.
            budget_usd: Ceiling on money for the whole study, earlier runs included.
            progress: Show progress on standard error.
            race: Take the cases in random order, drop approaches as soon as they are surely not the best, and stop when
                the rest is settled; a later run without it completes them.

        Raises:
            InputError: Something is wrong that the user can mend; nothing was paid for.
            RunStopped: The run ended early; everything acknowledged is kept.
        """
        from steelyard.study.running import run_plan

        command = f"steelyard run {self.folder}" + "".join(f" --approach {name}" for name in approaches)
        command += (f" --limit {limit}" if limit is not None else "") + (" --race" if race else "")
        plan = self._plan(approaches, limit)
        return outside_event_loop(
            lambda: run_plan(plan, budget_usd=budget_usd, progress=progress, command=command, race=race)
        )

    def optimise(
        self,
        approach: str,
        *,
        budget_calls: int | None = None,
        budget_usd: float | None = None,
        progress: bool = True,
    ) -> Optimised:
        """Search for a better prompt of one approach, or better retrieval, on train and dev cases; later runs use it.

        Args:
            approach: Name of the approach.
            budget_calls: Most model calls of the search; left out, as the approach's `optimise:` says.
            budget_usd: Ceiling on the money of the search; left out, likewise.
            progress: Show progress on standard error.

        Raises:
            InputError: It has no prompt that can be searched, or the budget is too small for any search.
            RunStopped: The search ended early; the same call goes on from there.
        """
        from steelyard.study.optimise import optimise_plan

        plan, spec = self._search(approach, budget_calls, budget_usd)
        command = f"steelyard optimise {self.folder} --approach {approach}"
        return outside_event_loop(lambda: optimise_plan(plan, approach, spec, progress=progress, command=command))

    def estimate_search(self, approach: str, *, budget_calls: int | None = None) -> SearchEstimate:
        """What a search would ask and cost; sends nothing."""
        from steelyard.study.optimise import estimate_search

        plan, spec = self._search(approach, budget_calls, None)
        return outside_event_loop(lambda: estimate_search(plan, approach, spec))

    def score(self, *, approaches: Sequence[str] = ()) -> Scores:
        """Six metrics per approach with intervals, and paired comparisons.

        Raises:
            InputError: Nothing was run yet.
        """
        from steelyard.study.scoring import score_evidence

        with self._evidence(approaches) as (evidence, journal):
            return score_evidence(evidence, journal)

    def decide(self) -> Decision:
        """Gates, ledger and verdict; a verdict other than the last one is added to the study's history.

        Raises:
            InputError: Nothing was run yet.
        """
        from steelyard.study.recheck import history_path, keep_decision
        from steelyard.study.scoring import decide_evidence

        with self._evidence(()) as (evidence, journal):
            decision = decide_evidence(evidence)
            kept = keep_decision(history_path(self), decision.verdict, evidence, journal)
        return replace(decision, notes=(*decision.notes, *kept))

    def recheck(self, *, as_of: date | None = None, accept: bool = False) -> Recheck:
        """Whether the last verdict stands with today's study.yaml (money, prices, retired models) and outcomes.

        Args:
            as_of: Day to recheck at; left out, today.
            accept: Take today's verdict over: later rechecks compare with it.

        Raises:
            InputError: There is no verdict to recheck yet.
        """
        from steelyard.study.recheck import recheck

        return recheck(self, as_of=as_of, accept=accept)

    def history(self) -> History:
        """All verdicts that were kept for this study, oldest first."""
        from steelyard.study.recheck import history

        return history(self)

    def render_report(self, form: TextFormat = "html") -> str:
        """The report as text; the same journal and study.yaml give the same bytes."""
        return self._rendered(form).decode()

    def report(self, output: str | Path | None = None, *, form: ReportFormat = "html") -> Path:
        """Write the report into one self-contained file.

        Args:
            output: Where to; left out, `.steelyard/report.<form>` in the study folder.
            form: `html`, `md`, `json`, `xlsx` (with live formulas) or `csv` (the ledger alone).

        Returns:
            Where it was written.

        Raises:
            InputError: Nothing was run yet.
            StorageFailed: It cannot be written there.
        """
        from steelyard.study.reporting import write_report

        path = Path(output) if output is not None else self.folder / ".steelyard" / f"report.{form}"
        return write_report(path, self._rendered(form))

    @contextmanager
    def _evidence(self, approaches: Sequence[str] = ()) -> Iterator[tuple[Evidence, Journal]]:
        """What the runs found, and the journal it is read from, open to read.

        Raises:
            InputError: Nothing was run yet.
        """
        from steelyard.engine.journal import Journal
        from steelyard.study.scoring import journal_path, read_evidence

        path = journal_path(self.folder)
        if not path.exists():
            from steelyard.study.record import nothing_run

            raise nothing_run(str(self.folder))
        with Journal.open(path, read_only=True) as journal:
            yield read_evidence(journal, self.file, where=str(self.folder), approaches=approaches), journal

    # Private

    def _rendered(self, form: ReportFormat) -> bytes:
        from steelyard.study.reporting import render_report

        suffix = "" if form == "html" else f" --format {form}"
        with self._evidence(()) as (evidence, journal):
            command = f"steelyard report {self.folder}{suffix}"
            return render_report(evidence, journal, form=form, command=command, folder=self.folder)

    def _search(self, approach: str, budget_calls: int | None, budget_usd: float | None) -> tuple[Plan, OptimiseSpec]:
        """The approach as it is written, and what a search may try."""
        from steelyard.approaches.search_spec import OptimiseSpec

        plan = self._plan([approach], None)
        written = self.file.approaches[approach]
        if written.cascade is not None:
            members = f"{written.cascade.first}, {written.cascade.then}"
            raise InputError(
                Problem(
                    what=f"{approach!r} is a cascade: a run chooses its threshold on dev, and it has no prompt of its own",
                    where=f"study.yaml:approaches.{approach}",
                    hint=f"optimise one of its approaches: {members}",
                )
            )
        given = {"budget_calls": budget_calls, "budget_usd": budget_usd}
        spec = (written.optimise or OptimiseSpec()).model_copy(
            update={name: value for name, value in given.items() if value is not None}
        )
        as_written = {approach: written.model_copy(update={"optimise": None})}
        return replace(plan, specs=as_written, test=(), searched={}, notes=()), spec

    def _plan(self, approaches: Sequence[str], limit: int | None) -> Plan:
        from steelyard.study.running import plan_run

        return plan_run(self.folder, self.file, self.task, self.material, approaches=approaches, limit=limit)


def outside_event_loop(work: Callable[[], Result]) -> Result:
    """Do work that starts an event loop of its own; in a notebook, which runs one already, on another thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(work).result()


def load_study(folder: str | Path) -> Study:
    """Read a study folder; its cases are read when they are first needed.

    Args:
        folder: Folder with `study.yaml`. Without one, but with a journal, the settings of the last run are used, so
            that a report can be made from `.steelyard/` alone.

    Raises:
        InputError: `study.yaml` is not as it must be; lists every problem found.
    """
    folder = Path(folder)
    path = folder / "study.yaml"
    if not path.exists():
        from steelyard.study.outcomes import is_imported

        if is_imported(folder):
            raise InputError(
                Problem(
                    where=str(folder),
                    what="this folder holds imported outcomes, which can be scored and decided on, and nothing else",
                    hint=f"steelyard score {folder}, or: steelyard decide {folder}",
                )
            )
        from steelyard.study.scoring import journal_path

        if journal_path(folder).exists():
            from steelyard.engine.journal import Journal
            from steelyard.study.record import read_record

            with Journal.open(journal_path(folder), read_only=True) as journal:
                return Study(folder=folder, file=read_record(journal, where=str(folder)).file)
    return Study(folder=folder, file=read_study_file(path))

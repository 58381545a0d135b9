"""Results made elsewhere are counted as those of a run are, and nothing is made up that they do not say."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import steelyard
from steelyard.decision.deciding import decide
from steelyard.economics.ledger import ApproachFacts
from steelyard.economics.spec import MoneySpec
from steelyard.errors import InputError
from steelyard.measure.results import from_rows
from steelyard.measure.scorecard import Scorecard
from steelyard.measure.scoring import scorecards
from steelyard.study.outcomes import Outcomes, import_outcomes

DAY = date(2026, 3, 31)


def rows_of(name: str, right: Sequence[object], **more: object) -> list[dict[str, Any]]:
    """A row a case: 1, 0 or nothing."""
    return [{"approach": name, "case_id": f"c{i:03}", "success": it, **more} for i, it in enumerate(right)]


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """As CSV, JSON Lines or Parquet, whatever the name says."""
    if path.suffix == ".parquet":
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
    return path


def loaded(path: Path, rows: Sequence[dict[str, Any]], **options: Any) -> Outcomes:  # noqa: ANN401 - any option
    return steelyard.load_outcomes(written(path, rows), as_of=DAY, **options)


def only_card(outcomes: Outcomes) -> Scorecard:
    (card,) = outcomes.score().scorecards
    return card


def problems(path: Path, rows: Sequence[dict[str, Any]]) -> list[str]:
    with pytest.raises(InputError) as refused:
        loaded(path, rows)
    return [str(problem) for problem in refused.value.problems]


TWO = [
    *rows_of("cheap", [1] * 60 + [0] * 40, cost_usd=0.001, latency_s=0.5, prompt_tokens=100, levers="prompt"),
    *rows_of("dear", [1] * 90 + [0] * 10, cost_usd=0.002, latency_s=2.5, prompt_tokens=900, levers="prompt+retrieval"),
]


# ---- the same figures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl", "o.parquet"])
def test_every_format_gives_the_figures_that_the_rows_give(name: str, tmp_path: Path) -> None:
    """Whatever the format, scorecards are those of the same rows from a journal."""
    found = loaded(tmp_path / name, TWO).score()
    direct = {card.name: card for card in scorecards(from_rows(TWO))}
    for card in found.scorecards:
        same = direct[card.name]
        assert (card.success, card.latency_p95_s) == (same.success, same.latency_p95_s)
        assert card.cost_per_task_usd.value == same.cost_per_task_usd.value
        assert card.prompt_tokens_per_task == same.prompt_tokens_per_task
    assert [card.rung for card in found.scorecards] == ["prompt", "prompt + retrieval"]
    assert found.comparisons[0].evidence == "a"


def test_the_verdict_is_that_of_the_same_functions(tmp_path: Path) -> None:
    """Nothing is decided differently because the results came from a file."""
    outcomes = loaded(tmp_path / "o.csv", TWO)
    facts = {
        name: ApproachFacts(name=name, levers=levers, is_local=False, is_imported=True)
        for name, levers in (("cheap", ("prompt",)), ("dear", ("prompt", "retrieval")))
    }
    direct = decide(from_rows(TWO), facts, as_of=DAY)
    verdict = outcomes.decide().verdict
    assert verdict.sentence == direct.sentence
    assert verdict.choice == direct.choice
    assert verdict.as_of == DAY.isoformat()


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    forth = loaded(tmp_path / "a.csv", TWO).score()
    back = loaded(tmp_path / "b.csv", TWO[::-1]).score()
    assert {c.name: c.success for c in forth.scorecards} == {c.name: c.success for c in back.scorecards}
    assert forth.comparisons == back.comparisons


# ---- what counts -----------------------------------------------------------------------------------------------------


def test_failures_stay_in_the_denominator(tmp_path: Path) -> None:
    """A case that timed out without a score is a failure, not a case less."""
    rows = rows_of("a", [1] * 30) + [
        {"approach": "a", "case_id": f"late{i}", "success": "", "status": "timed_out"} for i in range(10)
    ]
    card = only_card(loaded(tmp_path / "o.csv", rows))
    assert card.success.value == 0.75
    assert card.n_unscored == 0
    assert card.status_counts == {"answered": 30, "timed_out": 10}


def test_success_with_a_failure_status_counts_as_failed_and_is_said(tmp_path: Path) -> None:
    outcomes = loaded(tmp_path / "o.csv", rows_of("a", [1] * 20, status="refused"))
    assert only_card(outcomes).success.value == 0
    assert outcomes.read.notes[0].startswith("20 outcomes say success with a status other than answered")


def test_unscored_widens_to_a_range(tmp_path: Path) -> None:
    """Neither right nor wrong: the rate is of the scored ones, the interval reaches over both ways they may turn out."""
    known = only_card(loaded(tmp_path / "a.csv", rows_of("a", [1] * 40 + [0] * 40)))
    partly = only_card(loaded(tmp_path / "b.csv", rows_of("a", [1] * 40 + [0] * 40 + [""] * 20)))
    assert partly.success.value == known.success.value == 0.5
    assert partly.n_unscored == 20
    assert partly.success.low is not None
    assert known.success.low is not None
    assert partly.success.low < known.success.low
    assert partly.success.high is not None
    assert partly.success.high > 0.6


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl", "o.parquet"])
def test_missing_is_unknown_and_never_zero(name: str, tmp_path: Path) -> None:
    """No cost, no cost per success; and the verdict says that it cannot tell."""
    rows = rows_of("a", [1] * 40, latency_s=None, cost_usd=None) + rows_of("b", [1, 0] * 20, latency_s=1.5)
    outcomes = loaded(tmp_path / name, rows)
    card = outcomes.score(approaches=["a"]).scorecards[0]
    unknown = (card.latency_p50_s, card.cost_per_task_usd, card.cost_per_success_usd, card.retry, card.schema_pass)
    assert [figure.value for figure in unknown] == [None] * 5
    assert card.to_json()["transport_retries"] is None
    assert outcomes.decide().verdict.choice is None


def test_with_a_score_only_success_is_a_score_at_the_threshold(tmp_path: Path) -> None:
    rows = [{"approach": "a", "case_id": i, "score": i / 20} for i in range(1, 21)]
    assert only_card(loaded(tmp_path / "a.csv", rows)).success.value == 0.05
    assert only_card(loaded(tmp_path / "b.jsonl", rows, threshold=0.5)).success.value == 0.55


def test_where_the_file_says_success_a_threshold_is_not_used(tmp_path: Path) -> None:
    outcomes = loaded(tmp_path / "o.csv", rows_of("a", [0] * 20, score=0.9), threshold=0.5)
    assert only_card(outcomes).success.value == 0
    assert outcomes.read.notes == ("the threshold was not used: o.csv says itself what succeeded",)


def test_other_spellings_and_repeats(tmp_path: Path) -> None:
    """`system` and `trial` do as well; repeats are averaged within the case, so a case counts once."""
    rows = [{"system": "a", "case_id": f"c{i}", "trial": t, "success": t % 2} for i in range(25) for t in range(4)]
    card = only_card(loaded(tmp_path / "o.csv", rows))
    assert (card.n, card.success.value) == (25, 0.5)


def test_extra_calls_say_whether_there_was_a_retry(tmp_path: Path) -> None:
    again = {"approach": "a", "case_id": "r", "success": True, "extra_calls": 2}
    rows = [*rows_of("a", [1] * 20, extra_calls=0), again]
    assert only_card(loaded(tmp_path / "o.csv", rows)).retry.value == pytest.approx(1 / 21)


def test_a_cluster_said_once_holds_for_the_case(tmp_path: Path) -> None:
    """Otherwise two approaches on the same cases would be clustered differently."""
    rows = [row | {"cluster": int(row["case_id"][1:]) // 5} for row in rows_of("a", [1, 0] * 20)]
    results = loaded(tmp_path / "o.jsonl", rows + rows_of("b", [1] * 40)).results
    assert results["b"].n_clusters == results["a"].n_clusters == 8


def test_the_day_is_the_newest_time_unless_told(tmp_path: Path) -> None:
    path = written(tmp_path / "o.csv", rows_of("a", [1] * 10, time="2025-11-02") + rows_of("b", [1], time="2025-12-24"))
    assert steelyard.load_outcomes(path).as_of == date(2025, 12, 24)
    assert steelyard.load_outcomes(path, as_of=DAY).as_of == DAY


# ---- what is not known -----------------------------------------------------------------------------------------------


def test_without_levers_no_building_or_upkeep_is_counted_and_that_is_said(tmp_path: Path) -> None:
    """An unknown line is unknown, not $0, and the total names what it leaves out."""
    outcomes = loaded(tmp_path / "o.csv", rows_of("a", [1] * 40 + [0] * 10, cost_usd=0.01))
    decision = outcomes.decide()
    (ledger,) = decision.verdict.economics.ledgers
    by_label = {line.label: line for line in ledger.lines}
    for label in ("Maintenance", "Building it", "Labelling", "Training and indexing"):
        assert by_label[label].usd_per_month.value is None
        assert by_label[label].working.startswith("not counted: ")
    assert ledger.terms["upkeep"].value is None
    assert "unknown and not counted: Maintenance, Building it" in str(ledger.cost_per_success_usd.provenance)
    calls, review, evaluation = 10_000 * 0.01, 10_000 * 0.1 * 30 / 3600 * 40, 50 * 0.01 / 12
    assert ledger.total_usd_per_month.value == pytest.approx(calls + review + evaluation)
    assert any(unknown.startswith("What building, labels, training") for unknown in decision.verdict.unknowns)
    assert decision.verdict.standings[0].rung == "unknown"


def test_with_levers_the_hours_are_counted_and_preparation_still_is_not(tmp_path: Path) -> None:
    """As in a study and in `whatif`: whoever asks a model writes a prompt, whatever other levers it pulls."""
    outcomes = loaded(tmp_path / "o.csv", rows_of("t", [1] * 50, cost_usd=0.01, levers="tuning"))
    (ledger,) = outcomes.decide().verdict.economics.ledgers
    by_label = {line.label: line.usd_per_month.value for line in ledger.lines}
    assert by_label["Maintenance"] == (1 + 3) * 40
    assert by_label["Building it"] == pytest.approx((4 + 16) * 40 / 12)
    assert by_label["Labelling"] is by_label["Training and indexing"] is None


def test_gates_do_not_answer_from_what_was_not_recorded(tmp_path: Path) -> None:
    """No 'only one base model', no 'had 0 labels', no 'one hosted endpoint': nobody said so."""
    rows = rows_of("p", [1, 0] * 50, cost_usd=0.01, levers="prompt") + rows_of(
        "t", [1] * 100, cost_usd=0.02, levers="tuning"
    )
    verdict = loaded(tmp_path / "o.csv", rows).decide().verdict
    gates = {gate.name: gate for gate in verdict.gates}
    assert gates["base_fits"].answer == "unknown"
    assert "do not say which base models" in gates["base_fits"].evidence
    assert gates["tuning_ready"].answer == "unknown"
    assert "how many labelled cases t learned from" in gates["tuning_ready"].evidence
    assert "no_exit_path" not in [mistake.name for mistake in verdict.mistakes]
    without = loaded(tmp_path / "n.csv", rows_of("p", [1, 0] * 50, cost_usd=0.01)).decide().verdict
    assert "do not say which levers" in {g.name: g for g in without.gates}["workflow_pays"].evidence


# ---- settings --------------------------------------------------------------------------------------------------------


def test_settings_give_money_and_goal(tmp_path: Path) -> None:
    settings = tmp_path / "s.yaml"
    settings.write_text("money: {volume_per_month: 500, failed_task_usd: 9}\ngoal: {min_success: 0.8}\n")
    verdict = loaded(tmp_path / "o.csv", TWO, settings=settings).decide().verdict
    assert verdict.choice == "dear"
    assert verdict.economics.ledger_of("dear").volume_per_month == 500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("money: {volume: 5}", "s.yaml:1:money.volume: unknown field 'volume'"),
        ("mony: {}", "s.yaml:1:mony: unknown field 'mony'"),
        ("- 1", "s.yaml:1: the file must hold fields such as `money:` and `goal:`"),
    ],
)
def test_settings_are_checked_like_a_study_file(text: str, said: str, tmp_path: Path) -> None:
    settings = tmp_path / "s.yaml"
    settings.write_text(text)
    with pytest.raises(InputError, match=r"s\.yaml") as refused:
        loaded(tmp_path / "o.csv", TWO, settings=settings)
    assert said in str(refused.value)


# ---- bad files -------------------------------------------------------------------------------------------------------


def test_all_problems_are_reported_at_once_with_their_places(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"approach": "a", "case_id": "1", "success": "yes", "cost_usd": "0,01", "status": "answered"},
        {"approach": "", "case_id": "2", "success": 0.5, "cost_usd": "nan", "status": "ok"},
        {"approach": "a", "case_id": "3", "success": 1, "cost_usd": -1, "latency_s": "inf", "extra_calls": 1.5},
        {"approach": "a", "case_id": "3", "success": 1, "levers": "prompt+luck", "time": "03/04/2025"},
    ]
    found = problems(tmp_path / "o.csv", rows)
    starts = [
        "o.csv:2:success: 'success' is 'yes', expected 1 or 0",
        "o.csv:2:cost_usd: 'cost_usd' is '0,01', expected a number from 0 to 1e12",
        "o.csv:3:approach: 'approach' is empty",
        "o.csv:3:success: 'success' is '0.5'",
        "o.csv:3:status: 'status' is 'ok', expected one of: answered, invalid",
        "o.csv:3:cost_usd: 'cost_usd' is 'nan'",
        "o.csv:4:extra_calls: 'extra_calls' is '1.5', expected a whole number",
        "o.csv:4:cost_usd: 'cost_usd' is '-1'",
        "o.csv:4:latency_s: 'latency_s' is 'inf'",
        "o.csv:5:time: 'time' is '03/04/2025'",
        "o.csv:5:levers: 'levers' is 'prompt+luck', expected levers joined by +",
        "o.csv:5:case_id: 'a' did case '3' on line 4 already",
    ]
    assert len(found) == len(starts)
    for problem, start in zip(found, starts, strict=True):
        assert problem.startswith(start)


@pytest.mark.parametrize("value", ["1", [1], {"a": 1}, True])
def test_json_of_the_wrong_kind_is_refused_where_it_cannot_be_a_number(value: object, tmp_path: Path) -> None:
    """A number written as text is a number; a list, an object or a truth value is none."""
    rows = rows_of("a", [1] * 12, latency_s=value)
    if value == "1":
        assert only_card(loaded(tmp_path / "o.jsonl", rows)).latency_p50_s.value == 1
    else:
        assert len(problems(tmp_path / "o.jsonl", rows)) == 12


def test_missing_columns_are_named_with_those_there_are(tmp_path: Path) -> None:
    found = problems(tmp_path / "o.csv", [{"name": "a", "case": "1", "ok": 1}])
    assert [problem.splitlines()[0] for problem in found] == [
        "o.csv:1: there is no column approach (or system)",
        "o.csv:1: there is no column case_id",
        "o.csv:1: there is no column success (or score)",
    ]
    assert "columns there are: name, case, ok" in found[0]


def test_contradictions_between_rows_are_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"approach": "a", "case_id": "1", "success": 1, "levers": "prompt", "cluster": "x"},
        {"approach": "a", "case_id": "2", "success": 1, "levers": "tuning", "cluster": "x"},
        {"approach": "b", "case_id": "1", "success": 1, "cluster": "y"},
    ]
    found = problems(tmp_path / "o.csv", rows)
    assert found[0].startswith("o.csv:3:levers: the levers of 'a' are tuning, and prompt further up")
    assert found[1].startswith("o.csv:levers: the levers of 'b' are not given, those of other approaches are")
    assert found[2].startswith("o.csv:4:cluster: case '1' is in cluster 'y', and in 'x' further up")


def test_columns_that_are_not_used_are_said(tmp_path: Path) -> None:
    outcomes = loaded(tmp_path / "o.csv", rows_of("a", [1] * 10, reward=1, chars=9))
    assert outcomes.score().notes == ("columns of o.csv that were not used: reward, chars",)


def test_an_approach_that_is_not_there_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no approach called 'x' in o\.csv") as refused:
        loaded(tmp_path / "o.csv", TWO).score(approaches=["x"])
    assert "there is: cheap, dear" in str(refused.value)


# ---- import ----------------------------------------------------------------------------------------------------------


def test_an_imported_folder_gives_the_same_figures_and_verdict(tmp_path: Path) -> None:
    """Unknowns, repeats, failures, thresholds and the day survive the folder."""
    rows: list[dict[str, Any]] = [
        {"system": name, "case_id": i, "trial": t, "score": None if i == 3 else (i * k + t) % 10 / 10,
         "status": "timed_out" if i == 5 else "", "cost_usd": 0.01 * k, "levers": "workflow", "cluster": i // 2,
         "time": "2025-12-01"}
        for name, k in (("a", 3), ("b", 7)) for i in range(40) for t in range(2)
    ]  # fmt: skip
    settings = tmp_path / "s.yaml"
    settings.write_text("money: {failed_task_usd: 2}\n")
    path = written(tmp_path / "o.jsonl", rows)
    direct = steelyard.load_outcomes(path, threshold=0.3, settings=settings)
    import_outcomes(path, tmp_path / "made", threshold=0.3, settings=settings)
    again = steelyard.load_outcomes(tmp_path / "made")
    assert again.as_of == date(2025, 12, 1)
    assert again.settings.money.model_dump() == MoneySpec(failed_task_usd=2).model_dump()
    assert again.settings.money.model_fields_set == {"failed_task_usd"}

    def plain(outcomes: Outcomes) -> str:
        both = {"scores": outcomes.score().to_json(), "verdict": outcomes.decide().to_json()}
        return json.dumps(both, default=str).replace(outcomes.read.name, "FILE")

    # The figures say in which file the money stands; nothing else differs.
    assert "settings.yaml: money.failed_task_usd" in plain(again)
    assert "s.yaml: money.failed_task_usd" in plain(direct)
    assert plain(again).replace("settings.yaml", "s.yaml") == plain(direct)


def test_unscored_outcomes_survive_the_folder(tmp_path: Path) -> None:
    import_outcomes(written(tmp_path / "o.csv", rows_of("a", [""] * 20)), tmp_path / "made", as_of=DAY)
    assert only_card(steelyard.load_outcomes(tmp_path / "made")).n_unscored == 20


def test_import_overwrites_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "o.csv", TWO)
    import_outcomes(path, tmp_path / "made")
    with pytest.raises(InputError, match="there is something here already"):
        import_outcomes(path, tmp_path / "made")
    with pytest.raises(InputError, match="this is a file, not a folder"):
        import_outcomes(path, path)


def test_what_needs_a_journal_refuses_an_imported_folder(tmp_path: Path) -> None:
    import_outcomes(written(tmp_path / "o.csv", TWO), tmp_path / "made")
    with pytest.raises(InputError, match="can be scored and decided on, and nothing else"):
        steelyard.load(tmp_path / "made")


# ---- real results ----------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["results_airline_prompt_vs_ft", "results_cfpb_14llm"])
def test_success_is_what_the_reference_says(name: str, shared_data: Path) -> None:
    """Rates and Wilson intervals of published results, to the digits the reference prints."""
    cards = {card.name: card for card in steelyard.load_outcomes(shared_data / name / "results.csv").score().scorecards}
    for row in reference(shared_data / name):
        assert_is(row, cards[row["system"]])
    assert len(cards) == len(reference(shared_data / name))


@pytest.mark.realdata
def test_success_is_what_the_reference_says_in_every_group(shared_data: Path, tmp_path: Path) -> None:
    """The reference of this one is by task: each is scored as a file of its own."""
    folder = shared_data / "results_llmdrift"
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for task in {row["task"] for row in rows}:
        kept = written(tmp_path / f"{task}.csv", [row for row in rows if row["task"] == task])
        cards = {card.name: card for card in steelyard.load_outcomes(kept).score().scorecards}
        for row in reference(folder):
            if row["group"] == task:
                card = cards[row["system"]]
                assert_is(row, card)
                assert f"{card.cost_per_task_usd.value:.6f}" == f"{float(row['cost_usd_mean']):.6f}"


@pytest.mark.realdata
def test_repeated_trials_are_averaged_within_the_case(shared_data: Path) -> None:
    folder = shared_data / "results_tau_airline_4trials"
    card = only_card(steelyard.load_outcomes(folder / "results.csv"))
    told = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    assert card.n == told["tasks"]
    assert card.success.value == pytest.approx(told["mean_success"], abs=1e-12)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("results_airline_prompt_vs_ft", None),
        ("results_cfpb_14llm", None),
        ("results_llmdrift", "gpt-3.5-turbo-0613"),
        ("results_tau_airline_4trials", None),
    ],
)
def test_every_published_result_ends_in_a_verdict(name: str, choice: str | None, shared_data: Path) -> None:
    """A choice where costs are known; where they are not, the verdict says that it cannot tell."""
    verdict = steelyard.load_outcomes(shared_data / name / "results.csv", as_of=DAY).decide().verdict
    assert verdict.choice == choice
    if choice is None:
        assert verdict.sentence.startswith("Cannot tell")


def reference(folder: Path) -> list[dict[str, str]]:
    with (folder / "reference_systems.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_is(row: dict[str, str], card: Scorecard) -> None:
    assert card.n == int(row["n"])
    for found, told in zip(
        (card.success.value, card.success.low, card.success.high),
        (row["rate"], row["wilson_lo"], row["wilson_hi"]),
        strict=True,
    ):
        assert found is not None
        assert round(found, 6) == float(told)

"""The form of a file says nothing: order of rows, format, spelling, and which rows are picked from a larger one."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import steelyard
from steelyard.errors import InputError
from steelyard.measure.results import ApproachResults, from_rows
from steelyard.study.outcome_rows import MOST_PROBLEMS
from steelyard.study.outcomes import import_outcomes
from tests.study.test_outcomes import DAY, loaded, problems, rows_of, written

Row = dict[str, Any]


def assert_same(found: ApproachResults, told: ApproachResults) -> None:
    for one in fields(ApproachResults):
        a, b = getattr(found, one.name), getattr(told, one.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=one.name)
        else:
            assert a == b, one.name


amount = st.none() | st.floats(0, 1e6, allow_subnormal=False) | st.integers(0, 9)
flag = st.none() | st.sampled_from([0, 1, True, False])
CELLS = {
    "success": flag,
    "score": st.none() | st.floats(-1, 1, allow_subnormal=False),
    "status": st.sampled_from(["answered", "timed_out", "Refused", None]),
    "cost_usd": amount,
    "latency_s": amount,
    "extra_calls": st.none() | st.integers(0, 3),
    "schema_pass": flag,
    "judge": st.none() | st.floats(0, 1, allow_subnormal=False),
    "segment": st.none() | st.sampled_from(["north", "süd, west"]),
}


@st.composite
def files(draw: st.DrawFn) -> list[Row]:
    """Outcomes of up to three approaches on up to six cases, some of them repeated or left out."""
    cases = [f"c{number}" for number in range(draw(st.integers(1, 6)))]
    cluster = {case: draw(st.none() | st.sampled_from(["k1", "k2"])) for case in cases}
    rows = []
    for name in draw(st.lists(st.sampled_from(["b", "a", "ä"]), min_size=1, max_size=3, unique=True)):
        for case in draw(st.lists(st.sampled_from(cases), min_size=1, unique=True)):
            for repeat in range(draw(st.integers(1, 2))):
                row = {"approach": name, "case_id": case, "repeat": repeat, "cluster": cluster[case]}
                rows.append(row | {key: draw(cells) for key, cells in CELLS.items()})
    return rows


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=files(), shuffling=st.randoms(use_true_random=False))
def test_order_and_format_change_nothing(
    rows: list[Row], shuffling: Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """CSV, JSON Lines, Parquet and plain rows, in any order, give the same results to the last bit."""
    folder = tmp_path_factory.mktemp("forms")
    shuffled = list(rows)
    shuffling.shuffle(shuffled)
    as_flags = [
        row | {key: None if row[key] is None else int(row[key]) for key in ("success", "schema_pass")} for row in rows
    ]
    told = loaded(folder / "told.jsonl", rows).results
    for name, given_rows in (("o.csv", rows), ("s.csv", shuffled), ("s.jsonl", shuffled), ("o.parquet", as_flags)):
        found = loaded(folder / name, given_rows).results
        assert set(found) == set(told)
        for approach, one in found.items():
            assert_same(one, told[approach])
    plain = [
        row
        | {
            "status": row["status"] and row["status"].lower(),
            "retried": None if row["extra_calls"] is None else row["extra_calls"] > 0,
        }
        for row in rows
    ]
    for approach, one in from_rows(plain).items():
        assert_same(one, told[approach])


# ---- what a cell may be ----------------------------------------------------------------------------------------------


def test_text_in_quotes_and_plain_text_are_read_alike(tmp_path: Path) -> None:
    """Quoted cells take the way of the csv module, plain ones that of polars: the same columns come out."""
    plain = tmp_path / "plain.csv"
    plain.write_text("approach;case_id;success;note\na; c1 ;1;x\na;c2;;y\n", encoding="utf-8")
    quoted = tmp_path / "quoted.csv"
    quoted.write_text('\ufeffapproach;case_id;success;note\r\n"a";"c1";"1";"x\n;"\r\n\r\na;c2;;y\r\n', encoding="utf-8")
    one, other = (steelyard.load_outcomes(path, as_of=DAY).results["a"] for path in (plain, quoted))
    assert_same(one, other)


def test_lines_are_those_of_the_file_also_behind_quoted_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    path.write_text('approach,case_id,success\n"a\nb",1,1\n\na,2,maybe\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"o\.csv:5:success: 'success' is 'maybe'"):
        steelyard.load_outcomes(path)


def test_a_row_with_a_cell_too_few_is_not_filled_up(tmp_path: Path) -> None:
    """Nor does a row with one too many make up for it."""
    path = tmp_path / "o.csv"
    path.write_text("approach,case_id,success\na,1\na,2,1\na,3,1,0\n", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        steelyard.load_outcomes(path)
    assert "o.csv:2: the row has 2 cells, fewer than the 3 columns" in str(refused.value)
    assert "o.csv:4: the row has 4 cells, more than the 3 columns" in str(refused.value)


@pytest.mark.parametrize(
    ("cells", "n_wrong"),
    [
        ({"latency_s": True}, 1),
        ({"latency_s": [1]}, 1),
        ({"case_id": True}, 1),
        ({"case_id": {"id": 1}}, 1),
        ({"success": True}, 0),
        ({"success": [1]}, 1),
        ({"extra_calls": 1.5}, 1),
        ({"judge": 1.5}, 1),
        ({"cost_usd": 10**12}, 0),
        ({"levers": ["prompt", "retrieval"]}, 0),
        ({"levers": ["luck"]}, 1),
        ({"time": 1_700_000_000}, 0),
        ({"time": True}, 1),
    ],
)
def test_json_cells_of_a_strange_kind_among_ordinary_ones(cells: Row, n_wrong: int, tmp_path: Path) -> None:
    """One strange cell neither spoils its column nor passes for something else."""
    ordinary: Row = {
        "approach": "a",
        "case_id": "1",
        "success": 0,
        "latency_s": 1.5,
        "extra_calls": 2,
        "time": "2026-01-01",
    }
    ordinary |= {"judge": 0.5, "cost_usd": 1, "levers": "prompt+retrieval"}
    rows = [ordinary, ordinary | {"case_id": "2"} | cells]
    if n_wrong:
        found = problems(tmp_path / "o.jsonl", rows)
        assert len(found) == n_wrong
        assert found[0].startswith(f"o.jsonl:2:{next(iter(cells))}")
        assert repr(next(iter(cells.values()))) in found[0]
    else:
        assert loaded(tmp_path / "o.jsonl", rows).results["a"].n == 2


def test_kinds_that_only_parquet_has(tmp_path: Path) -> None:
    frame = pl.DataFrame({"approach": ["a"] * 3, "case_id": [1, 2, 3], "success": [True, False, None]})
    frame = frame.with_columns(
        time=pl.Series(["2026-01-02T03:04:05"] * 3).str.to_datetime(time_zone="Europe/Vienna"),
        latency_s=pl.duration(milliseconds=1500),
        cost_usd=pl.lit("0.25").cast(pl.Decimal(10, 4)),
        segment=pl.lit("s").cast(pl.Categorical),
        day=pl.lit("x"),
    )
    frame.write_parquet(tmp_path / "o.parquet")
    outcomes = steelyard.load_outcomes(tmp_path / "o.parquet")
    one = outcomes.results["a"]
    assert one.case_ids == ("1", "2", "3")
    assert one.time == ("2026-01-02T02:04:05Z",) * 3
    assert (one.latency_s[0], one.cost_usd[0], one.segment[0], one.n_unscored) == (1.5, 0.25, "s", 1)


def test_thousands_of_wrong_cells_are_counted_and_the_first_listed(tmp_path: Path) -> None:
    rows = rows_of("a", ["maybe"] * (2 * MOST_PROBLEMS))
    found = problems(tmp_path / "o.csv", rows)
    assert found[0].startswith("o.csv: 2,000 cells are not as expected; the first 1,000 follow")
    assert len(found) == MOST_PROBLEMS + 1
    assert found[-1].startswith(f"o.csv:{MOST_PROBLEMS + 1}:success")


# ---- picking rows ----------------------------------------------------------------------------------------------------

TASKS = [
    {**row, "task": task, "size": size}
    for task, size, right in (("prime", 1, [1, 0, 1]), ("happy", 2.0, [0, 0, 1]))
    for row in rows_of("a", right, cost_usd=0.1)
]


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl", "o.parquet"])
@pytest.mark.parametrize("where", ["task=prime", "size=1", " task = prime "])
def test_only_the_rows_asked_for_count(name: str, where: str, tmp_path: Path) -> None:
    outcomes = loaded(tmp_path / name, TASKS, where=[where])
    assert outcomes.results["a"].success.tolist() == [1, 0, 1]
    assert outcomes.read.notes[0].endswith("3 of 6")


def test_the_same_case_of_two_tasks_is_told_how_to_be_told_apart(tmp_path: Path) -> None:
    found = problems(tmp_path / "o.csv", TASKS)
    assert len(found) == 3
    assert found[0].startswith("o.csv:5:case_id: 'a' did case 'c000' on line 2 already")
    assert "--where task=prime" in found[0]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("tsk=prime", "there is no column 'tsk' to pick rows by\n  hint: did you mean 'task'?"),
        ("task=primes", "no row has task = primes\n  hint: values there are: prime, happy"),
        ("task", "--where 'task' is not COLUMN=VALUE"),
    ],
)
def test_what_cannot_be_picked_is_said_with_what_can(where: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        loaded(tmp_path / "o.csv", TASKS, where=[where])
    assert said in str(refused.value)


def test_picked_rows_stay_picked_in_an_imported_folder(tmp_path: Path) -> None:
    import_outcomes(written(tmp_path / "o.csv", TASKS), tmp_path / "made", where=["task=happy"])
    assert steelyard.load_outcomes(tmp_path / "made").results["a"].success.tolist() == [0, 0, 1]


# ---- what the settings add -------------------------------------------------------------------------------------------

STATED = """\
approaches:
  a: {levers: [prompt], cost_per_task_usd: 0.01, labels: 0, setup_usd: 0}
  b:
    levers: [tuning]
    cost_per_task_usd: 0.002
    labels: 500
    setup_usd: 12
    source: Table 3
    as_of: 2026-01-15
"""


def stated(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_complete_what_the_file_leaves_out(tmp_path: Path) -> None:
    """Levers, costs, labels and setup are counted, each with where it was written down."""
    rows = [*rows_of("a", [1] * 50), *rows_of("b", [1] * 45 + [0] * 5)]
    outcomes = loaded(tmp_path / "o.csv", rows, settings=stated(tmp_path, STATED))
    cards = {card.name: card for card in outcomes.score().scorecards}
    assert cards["a"].rung == "prompt"
    assert cards["a"].cost_per_task_usd.value == pytest.approx(0.01)
    assert "s.yaml: approaches.a.cost_per_task_usd" in str(cards["a"].cost_per_task_usd.provenance)
    assert str(cards["b"].cost_per_task_usd.provenance) == "quoted (Table 3, 2026-01-15)"
    assert not any("not in the cost per success" in note for note in outcomes.score().notes)
    verdict = outcomes.decide().verdict
    lines = {line.label: line.usd_per_month.value for line in verdict.economics.ledger_of("b").lines}
    assert lines["Training and indexing"] == pytest.approx(1.0)
    assert lines["Labelling"] == pytest.approx(500 * 20 / 3600 * 40 / 12)


def test_a_cost_in_the_file_comes_first_and_that_is_said(tmp_path: Path) -> None:
    rows = [*rows_of("a", [1] * 50, cost_usd=0.5), *rows_of("b", [1] * 50, cost_usd="")]
    outcomes = loaded(tmp_path / "o.csv", rows, settings=stated(tmp_path, STATED))
    cards = {card.name: card for card in outcomes.score().scorecards}
    assert cards["a"].cost_per_task_usd.value == 0.5
    assert cards["b"].cost_per_task_usd.value == pytest.approx(0.002)
    assert "cost_per_task_usd was not used for a: the outcomes say their cost" in outcomes.notes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("approaches: {c: {labels: 1}}", "s.yaml: approaches.c: o.csv holds no outcomes of 'c'"),
        ("approaches: {a: {levers: [tuning]}}", "'a' pulls prompt according to o.csv, and tuning here"),
        ("approaches: {a: {source: x}}", "both: source (where it was read) and as_of (when)"),
        ("approaches: {a: {cost: 1}}", "s.yaml:1:approaches.a.cost: unknown field 'cost'"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        loaded(tmp_path / "o.csv", rows_of("a", [1] * 10, levers="prompt"), settings=stated(tmp_path, text))
    assert said in str(refused.value)


def test_settings_of_approaches_survive_the_folder(tmp_path: Path) -> None:
    rows = [*rows_of("a", [1] * 50), *rows_of("b", [1] * 45 + [0] * 5)]
    import_outcomes(written(tmp_path / "o.csv", rows), tmp_path / "made", settings=stated(tmp_path, STATED), as_of=DAY)
    again = steelyard.load_outcomes(tmp_path / "made")
    assert again.facts["b"].n_labels == 500
    assert again.results["b"].cost_usd.tolist() == [0.002] * 50

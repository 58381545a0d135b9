"""The spreadsheet: live formulas that give the ledger's figures, and texts that stay texts."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from steelyard.economics.assessment import assess
from steelyard.economics.ledger import ApproachFacts, Economics, Ledger
from steelyard.economics.spec import MoneySpec
from steelyard.figures import Provenance, unknown
from steelyard.report.content import ReportContent
from steelyard.report.ledger_csv import HEADER, render_ledger_csv
from steelyard.report.sheet import Cells
from steelyard.report.spreadsheet import render_xlsx
from tests.measure.rows import results_of
from tests.report.sample import hostile_content, sample_content

MONEY = MoneySpec(
    volume_per_month=1000, wage_per_hour_usd=36, review_share=0.5, review_seconds=20, failed_task_usd=2,
    hosting_usd_per_month=70, reindex_per_month=4, batch_share=0.25,
)  # fmt: skip
QUOTED = Provenance(kind="quoted", source="https://example.org/prices", as_of="2026-11-01")
FACTS = {
    "prompt": ApproachFacts(name="prompt", levers=("prompt",), n_labels=12, price=QUOTED, batch_discount=0.5),
    "retrieval": ApproachFacts(
        name="retrieval", levers=("prompt", "retrieval"), n_labels=50, setup_cost_usd=0.4, search_cost_usd=3.0
    ),
    "tuned": ApproachFacts(name="tuned", levers=("tuning",), calls_model=False, n_labels=1000, setup_cost_usd=6.0),
    "elsewhere": ApproachFacts(name="elsewhere", levers=(), is_imported=True),
}
RESULTS = results_of(
    {
        "prompt": [1] * 60 + [0] * 40,
        "retrieval": [1] * 75 + [0] * 25,
        "tuned": [1] * 90 + [0] * 10,
        "elsewhere": [1] * 80 + [0] * 20,
    },
    cost_usd=0.01,
    latency_s=2.0,
)
Figures = Mapping[tuple[str, str], Any]
"""By sheet and cell."""


def _economics(money: MoneySpec = MONEY) -> Economics:
    return assess(RESULTS, FACTS, money, as_of=date(2026, 11, 23))


def _content(economics: Economics | None = None) -> ReportContent:
    content = sample_content()
    return replace(content, verdict=replace(content.verdict, economics=economics or _economics()))


def _save(content: ReportContent, folder: Path) -> Path:
    path = folder / "report.xlsx"
    path.write_bytes(render_xlsx(content))
    return path


def _stored(path: Path) -> Figures:
    """What the file says its formulas give."""
    written, values = openpyxl.load_workbook(path), openpyxl.load_workbook(path, data_only=True)
    return {
        (sheet.title, cell.coordinate): values[sheet.title][cell.coordinate].value
        for sheet in written
        for row in sheet.iter_rows()
        for cell in row
        if cell.data_type == "f"
    }


def _worked_out(path: Path) -> Figures:
    """What an independent program makes of the formulas."""
    import formulas

    solution = formulas.ExcelModel().loads(str(path)).finish().calculate()
    return {
        (sheet, cell): solution[f"'[{path.name}]{sheet.upper()}'!{cell}"].value[0, 0] for sheet, cell in _stored(path)
    }


def _same(a: object, b: object) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return float(a) == pytest.approx(float(b), rel=1e-9, abs=1e-12)  # type: ignore[arg-type]


def _amounts(path: Path, figures: Figures, approach: str) -> dict[str, Any]:
    """The amounts of one approach on the sheet Ledger, by what they are for."""
    sheet = openpyxl.load_workbook(path)["Ledger"]
    rows = [(row[0].value, row[1].value, row[2].coordinate) for row in sheet.iter_rows(max_col=3)]
    first = next(index for index, row in enumerate(rows) if row[0] == approach)
    found: dict[str, Any] = {}
    for term, label, cell in rows[first + 2 :]:
        if term is None:
            break
        name = f"{term} together" if label == "together" else label or term
        found[name] = figures.get(("Ledger", cell), sheet[cell].value)
    return found


def _expected(ledger: Ledger) -> dict[str, float | str]:
    known = {line.label: line.usd_per_month.value for line in ledger.lines}
    known["Total a month"] = ledger.total_usd_per_month.value
    known["One task"] = ledger.cost_per_task_usd.value
    known["One successful task"] = ledger.cost_per_success_usd.value
    known["Setup, once"] = ledger.setup_usd.value
    return {label: "unknown" if value is None else value for label, value in known.items()}


def test_every_formula_gives_the_figure_stored_with_it(tmp_path: Path) -> None:
    """An independent program works the workbook out again and finds what the report says."""
    path = _save(_content(), tmp_path)
    stored, worked_out = _stored(path), _worked_out(path)
    assert len(stored) > 200
    assert {
        cell: (stored[cell], worked_out[cell]) for cell in stored if not _same(stored[cell], worked_out[cell])
    } == {}
    for ledger in _economics().ledgers:
        amounts = _amounts(path, worked_out, ledger.approach)
        for label, value in _expected(ledger).items():
            assert _same(amounts[label], value), (ledger.approach, label)


def test_every_known_amount_of_the_ledger_is_a_formula(tmp_path: Path) -> None:
    """No amount is a number typed in: each leads back to the inputs."""
    path = _save(_content(), tmp_path)
    stored = _stored(path)
    sheet = openpyxl.load_workbook(path)["Ledger"]
    numbers = [
        cell.coordinate for row in sheet.iter_rows(min_col=3, max_col=3) for cell in row if cell.data_type == "n"
    ]
    assert [cell for cell in numbers if sheet[cell].value is not None] == []
    n_known = sum(line.usd_per_month.value is not None for one in _economics().ledgers for line in one.lines)
    assert sum(sheet == "Ledger" for sheet, _ in stored) > n_known


@pytest.mark.parametrize(
    ("field", "value"),
    [("volume_per_month", 25_000.0), ("wage_per_hour_usd", 71.0), ("failed_task_usd", 0.0), ("horizon_months", 36.0)],
)
def test_changing_one_input_changes_what_rests_on_it(tmp_path: Path, field: str, value: float) -> None:
    """The workbook with one cell changed says what a new ledger says, volume sweep and break-even included."""
    path = _save(_content(), tmp_path)
    book = openpyxl.load_workbook(path)
    cell = next(row[2] for row in book["Inputs"].iter_rows() if row[0].value == f"money.{field}")
    cell.value = value
    book.save(path)
    worked_out = _worked_out(path)
    changed = _economics(MONEY.model_copy(update={field: value}))
    for ledger in changed.ledgers:
        amounts = _amounts(path, worked_out, ledger.approach)
        for label, expected in _expected(ledger).items():
            assert _same(amounts[label], expected), (ledger.approach, label)
    sheet = book["Break-even"]
    live = [worked_out["Break-even", f"J{row}"] for row in range(5, 5 + len(changed.break_evens))]
    assert [row[0].value for row in sheet.iter_rows(min_row=5, max_row=4 + len(live))] == [
        item.a for item in changed.break_evens
    ]
    for found, item in zip(live, changed.break_evens, strict=True):
        assert _same(found, "none" if item.volume is None else item.volume)


def test_unknown_is_a_word_and_in_no_sum(tmp_path: Path) -> None:
    """What nobody knows is neither 0 nor empty, and the total says how many lines it leaves out."""
    path = _save(_content(), tmp_path)
    amounts = _amounts(path, _worked_out(path), "elsewhere")
    assert amounts["Labelling"] == amounts["Training and indexing"] == amounts["Maintenance"] == "unknown"
    assert amounts["Lines unknown, in no sum"] == 4
    assert amounts["Total a month"] == pytest.approx(_economics().ledger_of("elsewhere").total_usd_per_month.value)


def test_a_ledger_nobody_can_work_out_is_unknown_throughout(tmp_path: Path) -> None:
    """Without any price there is no total, no break-even and no line in the sweep; the file still opens."""
    economics = assess(
        results_of({"prompt": [1, 0] * 20, "tuned": [1] * 40}, cost_usd=None), FACTS, MONEY, as_of=date(2026, 11, 23)
    )
    path = _save(_content(economics), tmp_path)
    amounts = _amounts(path, _worked_out(path), "prompt")
    assert set(amounts.values()) <= {"unknown", None, 0}


HOSTILE = [
    "=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "=HYPERLINK(\"https://evil.example\")", "https://evil.example",
    "{=1+1}", "\t=1+1", "mailto:a@evil.example", "internal:Sheet1!A1", "<f>1</f>", "\u202e\x1b[31m\x00", "x" * 40_000,
]  # fmt: skip


@pytest.mark.parametrize("payload", HOSTILE)
def test_hostile_texts_stay_texts(tmp_path: Path, payload: str) -> None:
    """The workbook has the same formulas whatever a study says, and no link, macro or outside reference."""
    path, harmless = _save(hostile_content(payload), tmp_path), render_xlsx(hostile_content("harmless"))
    (tmp_path / "harmless.xlsx").write_bytes(harmless)
    formulas = openpyxl.load_workbook(path)
    others = openpyxl.load_workbook(tmp_path / "harmless.xlsx")
    for sheet in formulas:
        for row in sheet.iter_rows():
            for cell in row:
                other = others[sheet.title][cell.coordinate]
                assert cell.data_type == other.data_type
                assert cell.hyperlink is None
                if cell.data_type == "f":
                    assert cell.value == other.value
                if cell.data_type == "s":
                    assert not re.search("[\u202a-\u202e\x00-\x08\x0b-\x1f]", str(cell.value))
                    assert cell.quotePrefix or cell.value == "unknown"
    with zipfile.ZipFile(path) as package:
        assert not [name for name in package.namelist() if "external" in name.lower() or "vba" in name.lower()]
        relations = b"".join(package.read(name) for name in package.namelist() if name.endswith(".rels"))
        assert b'TargetMode="External"' not in relations


def test_same_content_same_bytes_in_a_fresh_process() -> None:
    """No clock, no randomness: the file is the same whenever and wherever it is made."""
    here = render_xlsx(sample_content())
    code = "import sys; from tests.report.sample import *; from steelyard.report.spreadsheet import render_xlsx;"
    code += "sys.stdout.buffer.write(render_xlsx(sample_content()))"
    fresh = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True,
        env={"PYTHONHASHSEED": "1", "PATH": "", "TZ": "Asia/Tokyo"},
    )  # fmt: skip
    assert fresh.stdout == here


def test_sheets_are_in_the_order_of_reading(tmp_path: Path) -> None:
    """The verdict opens first; a sheet without anything to say is not there."""
    book = openpyxl.load_workbook(_save(_content(sample_content().verdict.economics), tmp_path))
    assert book.sheetnames == [
        "Verdict", "Inputs", "Ledger", "Steps", "Scorecards", "Comparisons", "Break-even", "Volume sweep", "Sensitivity",
    ]  # fmt: skip
    assert book["Verdict"]["A4"].value == sample_content().verdict.sentence
    bare = replace(sample_content(), comparisons=())
    none = replace(bare.verdict.economics, ledgers=(), break_evens=(), hinges=(), paybacks=(), shares=(), sweep=None)
    few = openpyxl.load_workbook(_save(replace(bare, verdict=replace(bare.verdict, economics=none)), tmp_path))
    assert few.sheetnames == ["Verdict", "Scorecards"]


def test_the_volume_sweep_has_a_chart_on_logarithmic_axes() -> None:
    """A native chart, not a picture; its lines lead to the cells."""
    with zipfile.ZipFile(io.BytesIO(render_xlsx(sample_content()))) as package:
        chart = package.read("xl/charts/chart1.xml").decode()
    assert chart.count('<c:logBase val="10"/>') == 2
    assert chart.count("<c:ser>") == len(sample_content().scorecards)


def test_a_formula_is_arithmetic_on_known_cells_only() -> None:
    """Calls, attributes, comparisons, powers and unknown names are refused."""
    cells = Cells(places={"a": "Inputs!$C$1", "b": "Inputs!$C$2"})
    assert cells.formula("a - (a - b) / (2 * b)") == ("Inputs!$C$1-(Inputs!$C$1-Inputs!$C$2)/(2*Inputs!$C$2)")
    assert cells.formula("a / (b / 2)") == "Inputs!$C$1/(Inputs!$C$2/2)"
    assert cells.formula("-a * b") == "(-Inputs!$C$1)*Inputs!$C$2"
    for text in ("f(a)", "a.b", "a < b", "a ** b", "c", "'x'", "a if b else a", "True", "[a]"):
        with pytest.raises(ValueError, match="not arithmetic"):
            cells.formula(text)


def test_the_csv_is_the_ledger() -> None:
    """One row a line, unrounded; unknown is a word; what is apart is marked as in no total."""
    economics = _economics()
    rows = list(csv.DictReader(io.StringIO(render_ledger_csv(economics.ledgers))))
    assert tuple(rows[0]) == HEADER
    for ledger in economics.ledgers:
        counted = [row for row in rows if row["approach"] == ledger.approach and row["in_total"] == "yes"]
        assert sum(float(row["usd_per_month"]) for row in counted) == pytest.approx(ledger.total_usd_per_month.value)
    lost = next(row for row in rows if row["approach"] == "elsewhere" and row["name"] == "labelling")
    assert (lost["usd_per_month"], lost["in_total"]) == ("unknown", "no")


@pytest.mark.parametrize("payload", [*HOSTILE, "＝1+1", "a\n=1+1", 'a","=1+1'])
def test_hostile_texts_are_no_formulas_in_the_csv(payload: str) -> None:
    """No field begins like a formula, and the number of rows and fields does not depend on the texts."""
    ledger = hostile_content(payload).verdict.economics.ledgers[0]
    line = replace(ledger.lines[0], usd_per_month=unknown(payload))
    rows = list(csv.reader(io.StringIO(render_ledger_csv([replace(ledger, lines=(*ledger.lines, line))]))))
    assert len(rows) == 2 + len(ledger.lines) + len(ledger.apart)
    assert {len(row) for row in rows} == {len(HEADER)}
    for row in rows[1:]:
        for name, field in zip(HEADER, row, strict=True):
            if name not in ("usd_per_month", "low", "high"):
                assert not field.lstrip().startswith(("=", "+", "-", "@", "＝"))

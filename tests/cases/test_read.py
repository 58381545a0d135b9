"""Files of every format become the same cases, and every fault is named with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import polars as pl
import pytest

from steelyard.cases.case import Case
from steelyard.cases.layout import detect_layout
from steelyard.cases.read import read_cases
from steelyard.cases.spec import CasesSpec, SplitSpec
from steelyard.cases.timestamps import to_utc
from steelyard.errors import InputError, Problem

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def read(path: Path, spec: CasesSpec | None = None, text: str = "text", label: str = "label") -> list[Case]:
    return read_cases(path, spec or CasesSpec(file=path.name), input_fields=[text], expected_fields=[label])


def faults(path: Path, spec: CasesSpec | None = None, text: str = "text", label: str = "label") -> list[Problem]:
    with pytest.raises(InputError) as caught:
        read(path, spec, text, label)
    return list(caught.value.problems)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_dialects(write: Write, delimiter: str, mark: str) -> None:
    """Comma, semicolon and tab are told apart, with a byte order mark or without."""
    body = 'id,text,label\n7,"hello, ""you""; there",greeting\n8,bye,farewell\n'
    body = body.replace(",", "|").replace("hello|", "hello,").replace("|", delimiter)
    first, second = read(write("cases.csv", mark + body))
    assert (first.id, first.input, first.expected) == ("7", {"text": 'hello, "you"; there'}, {"label": "greeting"})
    assert second.where == "cases.csv:3"


def test_the_same_cases_from_every_format(write: Write, tmp_path: Path) -> None:
    """CSV, JSONL, a JSON list and Parquet, flat or nested, give the same cases."""
    rows = [{"id": "a", "text": "one", "label": "x", "date": "2025-03-01"}, {"id": "b", "text": "two", "label": "y"}]
    nested = [
        {"id": row["id"], "input": {"text": row["text"]}, "expected": {"label": row["label"]}, "meta": {}}
        for row in rows
    ]
    nested[0]["meta"] = {"date": "2025-03-01"}
    pl.DataFrame(rows).write_parquet(tmp_path / "flat.parquet")
    paths = [
        write("flat.csv", "id,text,label,date\na,one,x,2025-03-01\nb,two,y,\n"),
        write("flat.jsonl", b"\n".join(map(orjson.dumps, rows))),
        write("nested.jsonl", b"\n".join(map(orjson.dumps, nested))),
        write("nested.json", orjson.dumps(nested, option=orjson.OPT_INDENT_2)),
        tmp_path / "flat.parquet",
    ]
    expected = [
        ("a", {"text": "one"}, {"label": "x"}, "2025-03-01T00:00:00Z"),
        ("b", {"text": "two"}, {"label": "y"}, None),
    ]
    for path in paths:
        assert [(case.id, case.input, case.expected, case.time) for case in read(path)] == expected, path.name


def test_dotted_names_and_everything_else(write: Write) -> None:
    """`input.text` means what `text` means; segment, cluster, sources and split are found in meta; the rest is kept."""
    row = {
        "input": {"text": "t", "hint": "h"},
        "expected": {"label": "l"},
        "meta": {"segment": "mobile", "cluster": 4, "sources": ["d1", "d2"], "split": "validation", "agent": "Kim"},
    }
    path = write("c.jsonl", orjson.dumps(row))
    (case,) = read(path, CasesSpec(file="c.jsonl", split_column="split"), "input.text", "expected.label")
    assert case.input == {"input.text": "t"}
    assert (case.id, case.segment, case.cluster, case.sources) == ("row-1", "mobile", "4", ("d1", "d2"))
    assert case.declared_split == "dev"
    assert case.meta == {"input.hint": "h", "meta.agent": "Kim"}
    assert read(path)[0].declared_split is None


def test_line_numbers_survive_quoted_line_breaks(write: Write) -> None:
    """A fault behind multi-line cells is placed on the line its record starts on."""
    path = write("c.csv", 'text,label\n"one\ntwo\nthree",a\n\nx,y,z\n"four\nfive",b\nshort\n')
    assert [problem.where for problem in faults(path)] == ["c.csv:6", "c.csv:9"]
    good = write("d.csv", 'text,label\n"one\ntwo",a\nx,b\n')
    assert [case.where for case in read(good)] == ["d.csv:2", "d.csv:4"]


def test_gaps_of_production_data_are_no_errors(write: Write) -> None:
    """An empty text, a null text and a missing label still make a case."""
    csv = read(write("c.csv", "text,label\n,a\nhello,\n"))
    assert [(case.input["text"], case.expected) for case in csv] == [("", {"label": "a"}), ("hello", None)]
    jsonl = read(write("c.jsonl", '{"text":null,"label":"a"}\n{"text":"b"}\n'))
    assert [(case.input["text"], case.expected) for case in jsonl] == [("", {"label": "a"}), ("b", None)]


def test_all_problems_at_once_in_file_order(write: Write) -> None:
    """Bad JSON, a row that is no object, a missing field, a repeated id and a long text are reported together."""
    lines = [
        '{"id":1,"text":"fine","label":"a"}',
        '{"id":2,"text":',
        "[1,2]",
        '{"id":1,"text":"again","label":"a"}',
        '{"id":5,"label":"a"}',
        '{"id":6,"text":"' + "x" * 1_000_000 + '","label":"a"}',
    ]
    problems = faults(write("c.jsonl", "\n".join(lines)))
    assert [problem.where for problem in problems] == [
        "c.jsonl:2",
        "c.jsonl:3",
        "c.jsonl:4:id",
        "c.jsonl:5",
        "c.jsonl:6:text",
    ]
    assert "c.jsonl:1" in problems[2].what
    assert "1,000,000 characters" in problems[4].what


def test_a_megabyte_in_a_csv_cell(write: Write) -> None:
    """A cell longer than the csv module's own limit is reported by field and length."""
    (problem,) = faults(write("c.csv", f'text,label\n"{"x" * 1_000_000}",a\n'))
    assert problem.where == "c.csv:2:text"


FILES_THAT_CANNOT_BE_READ = [
    ("empty.csv", b"", "empty"),
    ("blank.jsonl", b"\n \n", "empty"),
    ("header.csv", b"text,label\n", "no cases"),
    ("list.json", b"[]", "no cases"),
    ("latin.csv", "text,label\nok,a\ncaf\xe9,b\n".encode("cp1252"), "byte 19 (0xe9) is not UTF-8"),
    ("wide.csv", "text,label\nok,a\n".encode("utf-16"), "UTF-16"),
    ("junk.csv", bytes(range(256)) * 20, "binary"),
    ("sheet.csv", b"PK\x03\x04" + bytes(100), "Excel workbook"),
    ("cases.xlsx", b"PK\x03\x04", "no known format"),
    ("broken.parquet", b"PAR1 and then nothing", "not a readable Parquet file"),
    ("twice.csv", b"text,label,text\na,b,c\n", "'text' 2 times"),
    ("open.csv", b'text,label\nfine,a\n"never closed,b\nx,y\n', "the CSV breaks here"),
    ("cut.json", b'[{"text":"a","label":"b"},\n{"text":', "not valid JSON"),
    ("glued.json", b'[{"text":"a","label":"b"}\n{"text":"c"}]', "comma"),
    ("deep.json", b"[" * 100_000, "not valid JSON"),
    ("surrogate.jsonl", b'{"text":"\\ud800","label":"a"}', "not valid JSON"),
]


@pytest.mark.parametrize(
    ("name", "content", "said"), FILES_THAT_CANNOT_BE_READ, ids=[row[0] for row in FILES_THAT_CANNOT_BE_READ]
)
def test_unreadable_files_get_a_sentence(write: Write, name: str, content: bytes, said: str) -> None:
    """Whatever lies under the name of a file of cases, the answer is a sentence that names it."""
    problem = faults(write(name, content))[0]
    assert said in problem.what
    assert name in str(problem)


def test_wrong_encoding_names_line_and_guess(write: Write) -> None:
    """A Windows file is told by its line and gets the remedy."""
    (problem,) = faults(write("latin.csv", "text,label\nok,a\ncaf\xe9,b\n".encode("cp1252")))
    assert problem.where == "latin.csv:3"
    assert "cp1252" in problem.what
    assert problem.hint is not None
    assert "UTF-8" in problem.hint


def test_missing_file_and_folder(write: Write, tmp_path: Path) -> None:
    """A missing file is answered with the files beside it; a folder with what is needed instead."""
    write("tickets.csv", "text,label\na,b\n")
    (missing,) = faults(tmp_path / "ticket.csv")
    assert "tickets.csv" in str(missing)
    (folder,) = faults(tmp_path)
    assert "folder" in folder.what


def test_an_unknown_column_names_the_nearest(write: Write) -> None:
    """A misspelt column is answered with the one meant and the list of all."""
    path = write("c.csv", "ticket_text,category\na,b\n")
    text, label = faults(path, text="tickt_text", label="Category")
    assert "did you mean 'ticket_text'?" in (text.hint or "")
    assert "did you mean 'category'?" in (label.hint or "")
    assert "columns of the file: ticket_text, category" in (label.hint or "")
    (time,) = faults(path, CasesSpec(file="c.csv", time="when"), "ticket_text", "category")
    assert "cases.time" in time.what


def test_bad_split_and_bad_time(write: Write) -> None:
    """A split no one knows, a missing one, and a time that could be two days are refused where the study uses them."""
    path = write("c.csv", "text,label,part,when\na,x,train,2025-01-02\nb,x,tset,03/04/2025\nc,x,,\n")
    spec = CasesSpec(file="c.csv", split_column="part", time="when")
    assert [problem.where for problem in faults(path, spec)] == ["c.csv:3:when", "c.csv:3:part", "c.csv:4:part"]


def test_a_customary_time_column_that_is_none(write: Write) -> None:
    """A `date` column nobody asked for may hold anything, until the study splits by time."""
    path = write("c.csv", "text,label,date\na,x,2025-01-02\nb,x,soon\n")
    assert [case.time for case in read(path)] == [None, None]
    (problem,) = faults(path, CasesSpec(file="c.csv", split=SplitSpec(by="time")))
    assert problem.where == "c.csv:3:date"


@pytest.mark.parametrize(
    ("value", "utc"),
    [
        ("2025-03-31", "2025-03-31T00:00:00Z"),
        ("2025-03-31 14:05", "2025-03-31T14:05:00Z"),
        ("2025-03-31T14:05:00.750+02:00", "2025-03-31T12:05:00Z"),
        (1743429900, "2025-03-31T14:05:00Z"),
        ("1743429900000", "2025-03-31T14:05:00Z"),
        (1743429900.5, "2025-03-31T14:05:00Z"),
    ],
)
def test_times_become_utc(value: object, utc: str) -> None:
    """Dates, date-times with and without zone, and epochs give one form that sorts as text."""
    assert to_utc(value) == utc


@pytest.mark.parametrize("value", ["", "03/04/2025", 12, True, None, "soon", 10**30, "0001-01-01T00:00:00+14:00"])
def test_what_is_no_time(value: object) -> None:
    """Ambiguous, absurd and absent times are refused."""
    with pytest.raises(ValueError, match=r".+"):
        to_utc(value)


def test_layout_of_a_flat_table(write: Write) -> None:
    """Text, label, id, time and segment are recognised, and the label's values are listed sorted with their counts."""
    rows = [
        f"T{i},2025-01-{i + 1:02d},The parcel number {i} is late,{'refund' if i % 3 else 'delay'},{'app' if i % 2 else 'web'}"
        for i in range(12)
    ]
    layout = detect_layout(write("t.csv", "ticket_id,created_at,body,category,channel\n" + "\n".join(rows)))
    roles = {column.full_name: column.role for column in layout.columns}
    assert roles == {
        "ticket_id": "id",
        "created_at": "time",
        "body": "input",
        "category": "expected",
        "channel": "segment",
    }
    category = layout.column("category", role="expected")
    assert category.labels == ("delay", "refund")
    assert category.label_counts == {"delay": 4, "refund": 8}
    assert not layout.is_nested
    with pytest.raises(InputError, match="did you mean 'category'"):
        layout.column("categroy", role="expected")


def test_layout_of_nested_rows(write: Write) -> None:
    """In the nested layout the sections say what is input and what is expected."""
    rows = [
        {"id": i, "input": {"text": f"t {i}"}, "expected": {"label": "ab"[i % 2]}, "meta": {"split": "train"}}
        for i in range(8)
    ]
    layout = detect_layout(write("t.jsonl", b"\n".join(map(orjson.dumps, rows))))
    assert layout.is_nested
    assert [(column.name, column.role) for column in layout.columns if column.role in ("input", "expected")] == [
        ("text", "input"),
        ("label", "expected"),
    ]
    assert layout.column("label", role="expected").labels == ("a", "b")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "inputs", "expected", "n"),
    [
        ("banking77/train12.jsonl", ["text"], ["label"], 2106),
        ("banking77/test77.jsonl", ["text"], ["label"], 3080),
        ("cfpb_loan_issues/complaints.jsonl", ["text"], ["issue"], 850),
        ("sroie/receipts.jsonl", ["text"], ["company", "date", "address", "total"], 626),
        ("usaddress/train.jsonl", ["text"], ["AddressNumber", "StreetName", "ZipCode"], 1263),
        ("rustsec_triage/advisories.jsonl", ["title", "text"], ["label"], 1186),
        ("eol_freshness/qa.jsonl", ["question", "as_of"], ["answers"], 1078),
        ("nlupp_banking/train.jsonl", ["text"], ["labels"], 1450),
        ("invoice2data/invoices.jsonl", ["text"], ["currency"], 12),
        ("squad_mix/qa.jsonl", ["question"], ["answers"], 2257),
        ("bfcl/calls.jsonl", ["messages", "tools"], ["calls"], 420),
        ("medquad/qa.jsonl", ["question"], ["answers"], 220),
        ("schemastore/instances.jsonl", ["schema_name", "instance"], ["valid"], 185),
        ("ifeval/prompts.jsonl", ["prompt"], ["instructions"], 541),
        ("results_cfpb_14llm/cases.jsonl", ["text"], ["label"], 1000),
    ],
)
def test_real_files(shared_data: Path, file: str, inputs: list[str], expected: list[str], n: int) -> None:
    """Real datasets read whole, and their layout is recognised as nested with these very columns."""
    path = shared_data / file
    cases = read_cases(path, CasesSpec(file=file), input_fields=inputs, expected_fields=expected)
    assert len(cases) == n
    assert sum(case.expected is None for case in cases) <= n * 0.1
    layout = detect_layout(path)
    assert layout.is_nested
    assert set(inputs) <= {column.name for column in layout.with_role("input")}
    assert set(expected) <= {column.name for column in layout.with_role("expected")}

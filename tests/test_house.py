"""Rules of the house that no reviewer should have to repeat."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import jsonschema_rs
import pytest
import yaml

import steelyard
from steelyard.cli import COMMANDS, group
from steelyard.study.reference import study_reference, study_schema
from steelyard.study.yaml_source import read_study_file

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "steelyard"
DOCS = ROOT / "docs"


def python(code: str, *arguments: object) -> str:
    """Standard output of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- start-up --------------------------------------------------------------------------------------------------------

HEAVY = [
    "aiohttp", "asyncio", "gguf", "jinja2", "jsonschema_rs", "numpy", "onnxruntime", "orjson", "peft", "polars",
    "pydantic", "rensa", "rich", "scipy", "sklearn", "sqlite3", "tokenizers", "torch", "transformers", "xllamacpp", "yaml",
]  # fmt: skip


@pytest.mark.parametrize(
    "code",
    [
        "import steelyard",
        "import steelyard.cli",
        "import sys; sys.argv = ['steelyard', '--help']; from steelyard.cli import group;group(standalone_mode=False)",
    ],
    ids=["import steelyard", "import steelyard.cli", "steelyard --help"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    """One eager import undoes all the lazy ones; `--help` is what a person waits for first."""
    out = python(f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))")
    loaded = {name.split(".")[0] for name in json.loads(out.splitlines()[-1])}
    assert sorted(loaded & set(HEAVY)) == []


def test_importing_has_no_effect_but_the_import(tmp_path: Path) -> None:
    """No files, no logging set-up, no threads."""
    code = (
        "import os, sys, logging, threading; os.chdir(sys.argv[1]); import steelyard, steelyard.cli;"
        "print(os.listdir('.'), logging.getLogger().handlers, threading.active_count())"
    )
    assert python(code, tmp_path).strip() == "[] [] 1"


# ---- public names ----------------------------------------------------------------------------------------------------


def test_all_equals_the_public_names() -> None:
    public = {name for name in vars(steelyard) if not name.startswith("_")}
    submodules = {path.stem for path in SOURCE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert public - submodules - {"annotations", "TYPE_CHECKING"} == set(steelyard.__all__)
    assert list(steelyard.__all__) == sorted(steelyard.__all__)


def test_the_package_is_typed() -> None:
    assert (SOURCE / "py.typed").exists()


# ---- documentation ---------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        yield name, command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    """In the command's own section of docs/cli.md, and nothing there that does not exist."""
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    section = page.split(f"\n## steelyard {name} ", 1)[1].split("\n## ", 1)[0]
    command = dict(commands())[name]
    options = {
        spelling
        for one in (command, *(command.commands.values() if isinstance(command, click.Group) else ()))
        for parameter in one.params
        if isinstance(parameter, click.Option)
        for spelling in parameter.opts
    }
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `-")]
    documented = {word.strip("`,").split(" ")[0] for row in rows for word in row.split() if word.startswith("`-")}
    assert documented == options


def test_docs_name_no_command_that_does_not_exist() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    headings = [line.split()[2] for line in page.splitlines() if line.startswith("## steelyard ")]
    assert headings == list(COMMANDS)


def test_every_command_has_a_line_in_the_overview() -> None:
    """The line of `steelyard --help` is the command's own summary in other words, never a leftover."""
    for name, command in commands():
        assert command.name == name
        assert command.help
        assert COMMANDS[name][1].endswith(".")


def test_json_schemas_named_in_the_docs_are_those_in_the_code() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    named = set(re.findall(r"`(steelyard\.[a-z-]+/\d+)`", page))
    made = set(re.findall(r'"(steelyard\.[a-z-]+/\d+)"', code)) - {"steelyard.run/1"}  # the journal's own
    assert named == made


def test_the_reference_of_study_yaml_is_up_to_date() -> None:
    """Made by `python -m steelyard.study.reference docs`; run it after changing a section."""
    assert (DOCS / "study-yaml.md").read_text(encoding="utf-8") == study_reference()
    assert json.loads((DOCS / "study.schema.json").read_text(encoding="utf-8")) == study_schema()


def test_every_field_of_study_yaml_says_what_it_means() -> None:
    """An empty last column would be a field nobody documented."""
    for line in study_reference().splitlines():
        if line.startswith("| `"):
            assert line.rstrip("| ").count("|") >= 4, line


def test_links_within_the_docs_lead_somewhere() -> None:
    for page in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in target or target.startswith("mailto:"):
                continue
            file, _, anchor = target.partition("#")
            linked = page.parent / file if file else page
            assert linked.exists(), f"{page.name}: {target}"
            if anchor and linked.suffix == ".md":
                headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{page.name}: {target}"


# ---- the study that ships --------------------------------------------------------------------------------------------


def shipped() -> list[Path]:
    return sorted((SOURCE / "studies").glob("*/study.yaml"))


def test_a_study_ships() -> None:
    assert [path.parent.name for path in shipped()] == ["handbook", "invoices", "triage"]


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.parent.name)
def test_shipped_studies_satisfy_the_published_schema(path: Path) -> None:
    """What an editor would underline, this test refuses."""
    read_study_file(path)
    jsonschema_rs.validate(study_schema(), yaml.safe_load(path.read_text(encoding="utf-8")))


def test_the_schema_refuses_what_the_program_refuses() -> None:
    validator = jsonschema_rs.validator_for(study_schema())
    good = {"study": "s", "cases": "c.csv", "task": {"input": "text", "expected": "label", "labels": ["a", "b"]}}
    assert validator.is_valid(good)
    assert validator.is_valid({**good, "approaches": {"zero-shot": None}})
    for bad in ({**good, "csaes": 1}, {**good, "run": {"repeats": 0}}, {"study": "s"}):
        assert not validator.is_valid(bad)


# ---- without the extras ----------------------------------------------------------------------------------------------

_WITHOUT = """
import importlib.abc, importlib.util, sys

blocked = set(sys.argv[1].split(","))

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.split(".")[0] in blocked else real(name, *rest)
sys.argv = ["steelyard", *sys.argv[2:]]
from steelyard.cli import main
main()
"""
LOCAL = "onnxruntime,sklearn,tokenizers,xllamacpp"
TUNE = "gguf,peft,safetensors,torch,transformers"


def without(modules: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in an interpreter that cannot import some modules."""
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT, modules, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("approach", "missing", "extra"),
    [
        ("nearest: {model: none, retrieval: {examples: 1}}", LOCAL, "local"),
        ("head: {model: none, tuning: {method: head}}", LOCAL, "local"),
        ("zero-shot:", LOCAL, "local"),
        ("lora: {tuning: {method: lora}}", TUNE, "tune"),
    ],
)
def test_a_missing_extra_gets_its_install_command(approach: str, missing: str, extra: str, tmp_path: Path) -> None:
    """One sentence with what to type, exit code 2, no traceback, before anything is fetched or trained."""
    from tests.cli.tickets import write_study

    folder = write_study(tmp_path / "s", "http://127.0.0.1:9/v1", approaches=[approach])
    done = without(missing, "run", folder, "--quiet")
    assert done.returncode == 2, done.stderr
    assert f"pip install 'steelyard[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 2
    assert "Traceback" not in done.stderr


def test_a_hosted_study_needs_no_extra(tmp_path: Path) -> None:
    """From init to report on a hosted endpoint with the base install alone."""
    from tests.cli.tickets import serving, write_study

    with serving(reply="billing") as stub:
        folder = write_study(tmp_path / "s", stub.url)
        for command in (["check"], ["run", "--quiet"], ["report"]):
            done = without(f"{LOCAL},{TUNE}", *command, folder)
            assert done.returncode == 0, done.stderr


# ---- the code itself -------------------------------------------------------------------------------------------------


def test_no_file_grows_past_400_lines() -> None:
    """Past that, there is a second noun in it."""
    lines = {
        path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8").count("\n")
        for path in SOURCE.rglob("*.py")
    }
    assert not {name for name, n in lines.items() if n > 400}


def test_no_module_is_called_utils() -> None:
    assert not [path for path in SOURCE.rglob("*.py") if path.stem in ("utils", "helpers", "common", "misc")]


def test_every_module_says_what_it_is_for() -> None:
    assert not [path for path in SOURCE.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]


@pytest.mark.slow
def test_data_flows_one_way() -> None:
    """The contracts of pyproject.toml: rooms import only lower rooms, pure rooms stay light."""
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([str(lint), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout

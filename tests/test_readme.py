"""What the README shows works: its study files are read, its commands are run or at least understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import steelyard
from steelyard.cli import group
from steelyard.study.yaml_source import read_study_file

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
YAML_BLOCKS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^\$ steelyard (.+)$", README, re.MULTILINE)


@pytest.fixture
def tickets(in_folder: Path) -> Path:
    rows = [
        f"{word} {i} is wrong,{label}" for i in range(20) for word, label in (("my bill", "billing"), ("box", "late"))
    ]
    (in_folder / "tickets.csv").write_text("text,category\n" + "\n".join(rows) + "\n")
    return in_folder


def test_the_short_study_file_is_enough(in_folder: Path) -> None:
    """The shortest example is a whole study, as is the one of an extraction; documents and endpoints can be put behind it."""
    short, extraction, documents, endpoint = YAML_BLOCKS[:4]
    (in_folder / "study.yaml").write_text(extraction)
    split = read_study_file(in_folder / "study.yaml").approaches["split"].workflow
    assert split is not None
    assert split.split == {"head": ["company", "date"], "sums": ["net", "tax", "total"]}
    (in_folder / "study.yaml").write_text(short)
    assert next(iter(read_study_file(in_folder / "study.yaml").approaches)) == "zero-shot"
    (in_folder / "study.yaml").write_text(yaml.safe_dump(yaml.safe_load(short) | yaml.safe_load(documents)))
    assert read_study_file(in_folder / "study.yaml").approaches["gold-context"].is_ceiling
    (in_folder / "study.yaml").write_text(yaml.safe_dump(yaml.safe_load(short) | yaml.safe_load(endpoint)))
    study = read_study_file(in_folder / "study.yaml")
    assert study.approaches["big-prompt"].model == "big"
    assert study.run.budget_usd == 5
    price = study.models.endpoints["big"].price_per_million
    assert price is not None
    assert price.as_of is not None


def test_the_first_commands_do_what_the_readme_says(tickets: Path) -> None:
    """init writes a study for the file, check passes; both as they stand there."""
    runner = CliRunner()
    for line in [command for command in COMMANDS if command.split()[0] in ("init", "check")]:
        result = runner.invoke(group, shlex.split(line, comments=True), catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert steelyard.load(tickets / "tickets").file.task.labels == ["billing", "late"]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_readme_is_understood(line: str, tickets: Path) -> None:
    """No option or argument is shown that the program does not take."""
    name, *arguments = shlex.split(line, comments=True)
    command = group.get_command(None, name)  # type: ignore[arg-type]  # the group does not look at its context
    assert command is not None, name
    command.make_context(name, arguments)

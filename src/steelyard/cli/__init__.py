"""The command line: parse, call one function, print. Commands are imported only when they are used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from steelyard.errors import SteelyardError

COMMANDS = {
    "init": ("steelyard.cli.init", "Write a study for your own cases."),
    "check": ("steelyard.cli.check", "Validate everything and find leakage; costs nothing."),
    "run": ("steelyard.cli.run", "Prepare the approaches and run them on the test cases."),
    "score": ("steelyard.cli.score", "Six metrics per approach, and paired comparisons."),
    "decide": ("steelyard.cli.decide", "Gates, ledger and verdict."),
    "recheck": ("steelyard.cli.recheck", "Whether the last verdict stands with today's prices, volumes and models."),
    "optimise": ("steelyard.cli.optimise", "Search for a better prompt or better retrieval on train and dev."),
    "distill": ("steelyard.cli.distill", "Grow labels: a strong approach answers unlabelled inputs."),
    "tune": ("steelyard.cli.tune", "Look through training examples, train an approach, export it."),
    "retrieval": ("steelyard.cli.retrieval", "Index the documents of a study, and see what a question finds."),
    "whatif": ("steelyard.cli.whatif", "Ledger and verdict from summary figures, before any data."),
    "import": ("steelyard.cli.import_", "Start from results made elsewhere."),
    "report": ("steelyard.cli.report", "Write the report as one file."),
    "demo": ("steelyard.cli.demo", "Run a study that ships with Steelyard, to the verdict."),
}
"""Name -> module with a click command called `command`, and the line shown by `--help` without importing it."""


class LazyGroup(click.Group):
    """A group whose commands are imported on use, so that `steelyard --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order a study goes through them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="steelyard", prog_name="steelyard")
def group() -> None:
    """Weigh the ways to make a language model do one task well.

    A study is a folder with study.yaml and labelled cases. Steelyard runs every approach on the same cases, measures
    success, schema pass, retries, review effort, latency and the full cost of one successful task, and says which
    approach to take and how sure that is.

    Exit codes: 0 done, 1 a check failed or a run stopped early, 2 bad input.
    """


def main() -> None:
    """Entry point: errors a person can mend become one message and an exit code, never a traceback."""
    try:
        result: Any = group(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt) as stopped:
        # Ctrl-C may carry what goes on elsewhere; click wraps it.
        said = str(stopped.__cause__ or stopped)
        _stop(said or "stopped; nothing acknowledged is lost, the same command goes on from here", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away; there is nobody left to tell
        sys.exit(1)
    except SteelyardError as error:
        from steelyard.cli._output import say

        say(f"error: {error}")
        sys.exit(error.exit_code)
    sys.exit(result if isinstance(result, int) else 0)


def _stop(message: str, code: int) -> None:
    click.echo(f"\n{message}", err=True)
    sys.exit(code)

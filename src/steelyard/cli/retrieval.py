"""`steelyard retrieval`: build the index of a study's documents, and question it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from steelyard.cli._output import folder_argument, json_option, print_json, print_plain, print_text, quiet_option, say


@click.group("retrieval")
def command() -> None:
    """Build the index of the documents under `knowledge:`, keep it up to date, and see what a question finds."""


@command.command("index")
@folder_argument
@quiet_option
@json_option
def index(folder: Path, quiet: bool, as_json: bool) -> None:
    """Index the documents, or what has changed of them; made anew where the embedding model is another one."""
    import steelyard
    from steelyard.study.knowledge import index_documents

    done = index_documents(steelyard.load(folder), progress=not quiet)
    if as_json:
        print_json(done.to_json())
    else:
        print_plain(str(done))
    for problem in done.build.skipped:
        say(f"note: {problem}")


@command.command("search")
@folder_argument
@click.argument("question", metavar="QUESTION")
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="As documents held on this day.")
@click.option("--k", type=click.IntRange(min=1, max=1000), metavar="N", help="Passages at most; left out, 5.")
@click.option("--access", multiple=True, metavar="TAG", help="A tag of who asks; may be given several times.")
@click.option("--rerank", metavar="NAME", help="Order the best anew: late_interaction, or an endpoint, which is paid.")
@json_option
def search(
    folder: Path,
    question: str,
    as_of: datetime | None,
    k: int | None,
    access: tuple[str, ...],
    rerank: str | None,
    as_json: bool,
) -> None:
    """What a question finds in the index, and why: the rank and score that full text, vectors and a reranker gave it."""
    import steelyard
    from steelyard.study.knowledge import search_documents

    day = as_of.date() if as_of is not None else None
    found = search_documents(steelyard.load(folder), question, as_of=day, k=k, access=access, rerank=rerank)
    if as_json:
        print_json(found.to_json())
        return
    print_plain(str(found))
    if found.access_note is not None:
        say(f"note: {found.access_note}")


@command.command("freshness")
@folder_argument
@click.option(
    "--document",
    "documents",
    multiple=True,
    metavar="PATH",
    help="Change this file of the study (or document by id); may be given several times.",
)
@quiet_option
@json_option
def freshness(folder: Path, documents: tuple[str, ...], quiet: bool, as_json: bool) -> None:
    """After a document changes, how long until it is found, and which old answers became wrong; works on a copy."""
    import steelyard
    from steelyard.study.freshness import measure_freshness
    from steelyard.study.freshness_table import freshness_parts

    found = measure_freshness(steelyard.load(folder), documents=documents, progress=not quiet)
    if as_json:
        print_json(found.to_json())
    else:
        print_text(*freshness_parts(found))

"""What identifies a call, and what the journal keeps of it."""

from __future__ import annotations

from dataclasses import replace

import orjson

from steelyard.engine.rows import attempt_from, call_row, request_from, request_json
from steelyard.figures import Provenance
from steelyard.models.calls import Attempt, AttemptStatus, ChatRequest, Image, Message, Tool, ToolCall
from steelyard.models.endpoint import MOST_IMAGE_TOKENS, Price

PLAIN = ChatRequest(
    endpoint="e",
    messages=(Message("system", "be brief"), Message("user", "häm?")),
    max_tokens=4,
    seed=3,
    response_schema={"type": "object"},
    extra={"a": 1},
)
TOOL = Tool(name="convert", description="Convert.", parameters={"type": "object"})
CALL = ToolCall("call-1", "convert", '{"amount": 3}')
PICTURE = Image("data:image/png;base64,AAAA", "0123abcd")
RICH = replace(
    PLAIN,
    messages=(
        Message("user", "how much?", images=(PICTURE, Image("https://example.com/a.png", "beef"))),
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", "4.5", tool_call_id="call-1"),
    ),
    tools=(TOOL,),
)


def test_the_digest_of_a_plain_request_never_changes() -> None:
    """A journal written before there were tools and pictures stays good: its answers are found again."""
    assert PLAIN.digest(model="m@1", repeat=2) == "ad7b3cef80fe1787d16e43b566dfca2e"


def test_the_digest_covers_tools_and_pictures_by_content() -> None:
    """Another tool, another picture or another result of a tool is another call; the form of a data URL is not."""
    first, asked, result = RICH.messages
    digests = [
        RICH.digest(model="m"),
        replace(RICH, tools=()).digest(model="m"),
        replace(RICH, tools=(replace(TOOL, description="Other."),)).digest(model="m"),
        replace(RICH, messages=(first._replace(images=()), asked, result)).digest(model="m"),
        replace(RICH, messages=(first._replace(images=(Image(PICTURE.url, "other"),)), asked, result)).digest(
            model="m"
        ),
        replace(RICH, messages=(first, asked, result._replace(content="4.6"))).digest(model="m"),
        replace(RICH, messages=(first, asked._replace(tool_calls=(CALL._replace(id="b"),)), result)).digest(model="m"),
    ]
    assert len(set(digests)) == len(digests)


def test_the_journal_keeps_pictures_by_digest_and_everything_else_whole() -> None:
    """A request read back has the same digest, and no picture is written into the journal for every call."""
    kept = request_json(RICH)
    assert "base64" not in kept
    assert "https://example.com/a.png" in kept
    back = request_from(kept)
    assert back.digest(model="m") == RICH.digest(model="m")
    assert (back.tools, back.messages[1:]) == (RICH.tools, RICH.messages[1:])
    assert request_from(request_json(PLAIN)) == PLAIN


def test_an_attempt_that_asked_for_tools_comes_back_whole() -> None:
    """Text and calls are in the journal, so that a resumed run goes on from them without paying again."""
    attempt = Attempt(
        digest="d", endpoint="e", model="m", status=AttemptStatus.CALLED_TOOLS, text="let me see \ud800",
        tool_calls=(CALL, ToolCall("2", "convert", "not \ud800 JSON")), latency_s=1.0, price_usd=0.0,
    )  # fmt: skip
    back = attempt_from(call_row(RICH, attempt), replayed=False)
    assert back.tool_calls[0] == CALL
    assert (back.text, back.tool_calls[1].arguments) == ("let me see ?", "not ? JSON")


def test_pictures_tools_and_their_results_count_in_the_upper_bound() -> None:
    """The budget is a ceiling for these calls too."""
    price = Price(
        input_per_million_usd=1.0, output_per_million_usd=1.0, provenance=Provenance(kind="assumed", source="test")
    )
    most = price.upper_bound(RICH, timeout_s=1.0, tries=1)
    bare = price.upper_bound(replace(RICH, tools=(), messages=(Message("user", "how much?"),)), timeout_s=1, tries=1)
    assert most is not None
    assert bare is not None
    assert most - bare > (2 * MOST_IMAGE_TOKENS + len(orjson.dumps(TOOL)) + len(CALL.arguments)) / 1e6

"""Pictures in cases: what is sent, what the prompt and the journal see, and what is refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from steelyard.approaches.approach import Approach
from steelyard.approaches.examples import input_text, usable_examples
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.images import MAX_IMAGE_BYTES, load_images, refuse_bad_images
from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError
from tests.approaches.world import triage_task, workbench

PNG = b"\x89PNG\r\n\x1a\n" + b"dots"
OTHER = b"\xff\xd8\xff" + b"more dots"
TASK = triage_task(input=["text", "scan"], images=["scan"])


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def made(folder: Path, *, takes_images: bool = True, **prompt: object) -> Approach:
    (folder / "a.png").write_bytes(PNG)
    (folder / "b.jpg").write_bytes(OTHER)
    train = [
        Case(id=f"old-{number}", input={"text": "my card is gone", "scan": name}, expected={"label": "card lost"})
        for number, name in enumerate(("b.jpg", "a.png"))
    ]
    bench = replace(workbench(folder, task=TASK, train=train), study=folder)
    local = replace(bench.endpoints["local"], images=takes_images)
    bench = replace(bench, endpoints={"local": local})
    return prepare("pictured", ApproachSpec.model_validate({"prompt": prompt}), bench).approach


def case(scan: object, text: str = "what is this?") -> CaseInput:
    return CaseInput(id="new", fields={"text": text, "scan": scan})


async def test_pictures_go_with_the_words_of_their_case(tmp_path: Path) -> None:
    """The template sees a placeholder, the message carries the picture; examples bring their own."""
    ask = ScriptedAsk(["refund"])
    await made(tmp_path, examples=1).answer(case("a.png"), ask)
    messages = ask.asked[0].request.messages
    assert messages[-1].content == "text: what is this?\nscan: [image]"
    assert [image.url for image in messages[-1].images] == [data_url(PNG)]
    (example,) = (message for message in messages[:-1] if message.role == "user")
    assert example.images[0].url in (data_url(PNG), data_url(OTHER, "image/jpeg"))


@pytest.mark.parametrize(
    ("scan", "urls", "shown"),
    [
        (["a.png", "b.jpg"], [data_url(PNG), data_url(OTHER, "image/jpeg")], "[image] [image]"),
        ("https://example.com/scan.png", ["https://example.com/scan.png"], "[image]"),
        (data_url(PNG), [data_url(PNG)], "[image]"),
        (data_url(OTHER, "image/png"), [data_url(OTHER, "image/jpeg")], "[image]"),
        (None, [], ""),
        ("", [], ""),
    ],
)
async def test_each_way_to_give_a_picture(tmp_path: Path, scan: object, urls: list[str], shown: str) -> None:
    """Paths, data URLs (by what they hold, not what they claim), addresses, lists, and none at all."""
    ask = ScriptedAsk(["refund"])
    await made(tmp_path, user="{{ scan }}|{{ text }}").answer(case(scan), ask)
    message = ask.asked[0].request.messages[-1]
    assert message.content == f"{shown}|what is this?"
    assert [image.url for image in message.images] == urls


async def test_the_same_path_with_another_picture_is_another_call(tmp_path: Path) -> None:
    """A call is identified by the content of its pictures."""
    ask = ScriptedAsk(["refund"])
    approach = made(tmp_path)
    await approach.answer(case("a.png"), ask)
    (tmp_path / "a.png").write_bytes(PNG + b"!")
    await approach.answer(case("a.png"), ask)
    assert len({call.request.digest(model="m") for call in ask.asked}) == 2


@pytest.mark.parametrize(
    ("scan", "what"),
    [
        ("missing.png", "cannot be read"),
        ("../outside.png", "lies outside the study folder"),
        ("note.txt", "is no PNG, JPEG, GIF or WebP picture"),
        ("data:image/png;base64,?", "is no PNG, JPEG, GIF or WebP picture"),
        ("http://example.com/a.png", "is not an https: address"),
        ("file:///etc/passwd", "is not an https: address"),
        ("large.png", "is larger than 20 MB"),
        (3, "is not text"),
        (".", "cannot be read"),
        ("a\0b", "cannot be read"),
    ],
)
async def test_what_is_no_picture_is_a_problem_of_its_case(tmp_path: Path, scan: object, what: str) -> None:
    """Nothing is sent, the case stays in the denominator, and its problem says what to mend."""
    (tmp_path / "note.txt").write_text("hello")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    ask = ScriptedAsk(["refund"])
    answer = await made(tmp_path).answer(case(scan), ask)
    assert (ask.asked, answer.valid) == ([], False)
    assert what in str(answer.problem)
    with pytest.raises(InputError) as caught:
        load_images({"scan": scan}, ["scan"], tmp_path)
    assert caught.value.problems[0].hint


def test_a_broken_picture_of_an_example_is_found_before_it_costs(tmp_path: Path) -> None:
    """The first train and dev cases are looked at when the approach is prepared."""
    train = [Case(id="old", input={"text": "x", "scan": "gone.png"}, expected={"label": "refund"})]
    bench = replace(workbench(tmp_path, task=TASK, train=train), study=tmp_path)
    bench = replace(bench, endpoints={"local": replace(bench.endpoints["local"], images=True)})
    with pytest.raises(InputError, match="gone"):
        prepare("a", ApproachSpec(), bench)


def test_bad_pictures_of_all_cases_are_listed_with_their_lines(tmp_path: Path) -> None:
    """`steelyard check` names each of them before a call is paid for."""
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "note.txt").write_text("hello")
    scans = ["a.png", "note.txt", ["a.png", "gone.png"], "data:,x", "https://example.com/a.png", None]
    cases = [Case(id=str(n), input={"text": "x", "scan": scan}, where=f"cases.csv:{n}") for n, scan in enumerate(scans)]
    with pytest.raises(InputError) as caught:
        refuse_bad_images(cases, ["scan"], tmp_path)
    assert [problem.where for problem in caught.value.problems] == ["cases.csv:1", "cases.csv:2", "cases.csv:3"]
    refuse_bad_images(cases, [], tmp_path)


def test_an_endpoint_without_pictures_is_named_before_it_costs(tmp_path: Path) -> None:
    """It would refuse each case, or answer without having seen it."""
    with pytest.raises(InputError) as caught:
        made(tmp_path, takes_images=False)
    (problem,) = caught.value.problems
    assert (problem.what, problem.where) == ("'local' takes no pictures", "study.yaml:task.images")


def test_pictures_are_known_to_templates_by_name(tmp_path: Path) -> None:
    """A name that is none is refused and the near one suggested, as for any field."""
    with pytest.raises(InputError) as caught:
        made(tmp_path, user="{{ skan }}")
    (problem,) = caught.value.problems
    assert (problem.what, problem.hint) == ("the template uses 'skan', which it does not have", "did you mean 'scan'?")


def test_a_case_of_a_picture_alone_can_teach() -> None:
    """Neither a path nor a data URL is text to embed."""
    only = Case(id="p", input={"text": "", "scan": data_url(PNG)}, expected={"label": "refund"})
    assert input_text(only.input, TASK).strip() == "[image]"
    assert usable_examples([only], TASK) == (only,)

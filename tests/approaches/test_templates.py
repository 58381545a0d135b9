"""Prompts say what the task says, take cases as data, and refuse whatever is wrong before a call is paid for."""

from __future__ import annotations

import pytest

from steelyard.approaches.prompt_spec import PromptSpec
from steelyard.approaches.templates import PromptText, compile_prompt
from steelyard.cases.case import CaseInput
from steelyard.errors import InputError
from steelyard.task.task import Task
from tests.approaches.world import triage_task


def compiled(
    task: Task | None = None, *, native_schema: bool = True, short: bool = False, **fields: object
) -> PromptText:
    task = task or triage_task()
    sample = CaseInput(id="1", fields=dict.fromkeys(task.input_fields, "some text"))
    return compile_prompt(
        PromptSpec.model_validate(fields),
        task,
        where="study.yaml:approaches.a.prompt",
        native_schema=native_schema,
        short=short,
        samples=[sample],
    )


def test_the_default_prompt_of_a_classification() -> None:
    """Instruction, labels with their definitions, and the form of the answer; the case text alone as user turn."""
    text = compiled()
    assert text.system == (
        "Sort the ticket.\n"
        "\n"
        "The allowed answers:\n"
        "- refund: money back\n"
        "- login: cannot get in\n"
        "- card lost: a card is gone\n"
        "\n"
        "Answer with exactly one of the allowed answers, spelled the same way, and nothing else."
    )
    assert text.user({"text": "Hello"}) == "Hello"
    assert text.target({"label": "refund"}) == "refund"


def test_a_schema_the_endpoint_enforces_is_not_said_again_and_one_it_cannot_is() -> None:
    """`enforce_schema` asks for JSON; only where nothing enforces the schema is it written out."""
    native, plain = compiled(enforce_schema=True), compiled(enforce_schema=True, native_schema=False)
    for text in (native, plain):
        assert 'one JSON object with the fields "label"' in text.system
        assert text.target({"label": "refund"}) == '{"label":"refund"}'
    assert '"enum"' not in native.system
    assert '"enum":["refund","login","card lost"]' in plain.system


def test_what_enforce_schema_promises_is_added_to_a_prompt_of_ones_own() -> None:
    """One's own system message stays as it is, but the promise is kept."""
    assert compiled(system="Sort it.").system == "Sort it."
    assert compiled(system="Sort it.", enforce_schema=True).system == "Sort it."
    told = compiled(system="Sort it.", enforce_schema=True, native_schema=False).system
    assert told.startswith("Sort it.\n\nThe JSON Schema")


def test_several_fields_are_shown_by_name_and_asked_for_as_json() -> None:
    """A task with several fields needs no template either."""
    text = compiled(triage_task(input=["subject", "text"], expected=["a", "b"], labels=None))
    assert text.user({"subject": None, "text": "Hello {{ x }}\n"}) == "subject: \ntext: Hello {{ x }}\n"
    assert text.form == "json"
    assert '"required":["a","b"]' in text.system


def test_the_prompt_of_a_tuned_model_is_one_line() -> None:
    """The weights know the labels, so the prompt does not repeat them, unless the user says what it says."""
    assert compiled(short=True).system == "Answer with the label alone and nothing else."
    assert compiled(short=True, system="Sort: {{ labels | join('/') }}").system == "Sort: refund/login/card lost"


def test_case_text_is_never_read_as_a_template() -> None:
    """Braces in a case stay braces."""
    hostile = "{{ 7 * 7 }}{% for x in range(9) %}x{% endfor %}{# gone #}"
    assert compiled(user="Ticket: {{ text }}").user({"text": hostile}) == f"Ticket: {hostile}"


def test_values_that_are_not_text_read_as_json_and_null_as_nothing() -> None:
    """No Python notation gets into a prompt."""
    text = compiled(user="{{ text }}|{{ fields.text }}")
    assert text.user({"text": {"a": [True, None]}}) == '{"a":[true,null]}|{"a":[true,null]}'
    assert text.user({}) == "|"
    assert text.user({"text": True}) == "true|true"


def test_fields_named_like_the_surroundings_hide_nothing() -> None:
    """Input fields called `task` or `fields` do not break the default prompt."""
    text = compiled(triage_task(input=["task", "fields", "a b"]))
    assert text.user({"task": "1", "fields": "2", "a b": "3"}) == "task: 1\nfields: 2\na b: 3"


@pytest.mark.parametrize(
    ("field", "source", "what"),
    [
        ("user", "{{ ''.__class__ }}", "templates may not"),
        ("user", "{{ text['__class__'] }}", "templates may not"),
        ("user", "{{ text|attr('__class__') }}", "templates may not"),
        ("user", "{{ text['__cl' ~ 'ass__'] }}", "templates may not"),
        ("user", "{{ '{0.__class__}'.format(text) }}", "templates may not"),
        ("user", "{{ self.__init__ }}", "templates may not"),
        ("user", "{{ labels.append(1) }}", "templates may not"),
        ("user", "{{ fields.update({'text': 1}) }}", "templates may not"),
        ("user", "{{ cycler.__init__.__globals__ }}", "templates may not"),
        ("user", "{{ lipsum() }}", "'lipsum', which it does not have"),
        ("user", "{{ text|random }}", "No filter named 'random'"),
        ("user", "{{ range(10 ** 9) }}", "Range too big"),
        ("user", "{% include '/etc/passwd' %}", "cannot be filled in"),
        ("user", "{{ txet }}", "'txet', which it does not have"),
        ("user", "{{ text.subject }}", "no attribute 'subject'"),
        ("user", "one\ntwo {{ text", "line 2 of the template"),
        ("user", "{% if text %}", "line 1 of the template"),
        ("system", "{{ text }}", "'text', which it does not have"),
        ("system", "{% for %}", "line 1 of the template"),
    ],
)
def test_a_wrong_or_hostile_template_is_refused_when_it_is_compiled(field: str, source: str, what: str) -> None:
    """Nothing a template should not do is ever done, and the message names the template and what to do."""
    with pytest.raises(InputError) as caught:
        compiled(system=source) if field == "system" else compiled(user=source)
    assert what in str(caught.value)
    for problem in caught.value.problems:
        assert problem.where == f"study.yaml:approaches.a.prompt.{field}"
        assert problem.hint


def test_a_near_miss_is_suggested() -> None:
    """A misspelt field comes with the right one."""
    with pytest.raises(InputError, match="did you mean 'text'"):
        compiled(user="{{ txet }}")

"""Functions a model may ask for: what it is told about them, and what comes back when it asks.

Arguments are a model's text. They are parsed and validated before a function sees them; what is wrong with them, and
what a function raises, goes back to the model as text, so that it can do better.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import orjson
from pydantic import PydanticInvalidForJsonSchema, PydanticUserError, TypeAdapter, ValidationError, validate_call

from steelyard.approaches.prompt_spec import ToolDefinitionSpec
from steelyard.errors import InputError, Problem
from steelyard.models.calls import Message, Tool, ToolCall
from steelyard.task.functions import LoadFunction
from steelyard.task.json_schema import sound_object_schema
from steelyard.task.output import validate_schema

MAX_RESULT_CHARS = 20_000
"""Characters of a result that are shown to the model."""
FUNCTION_LIMIT_S = 120.0
"""Seconds after which a call of a study's function counts as failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnTool:
    """A function of the study that a model may ask for."""

    definition: Tool
    """What the model is told."""
    function: Callable[..., Any]
    digest: str
    """Of the file the function stands in."""


class ToolResults(NamedTuple):
    """What came of the calls of one answer."""

    messages: tuple[Message, ...]
    """One for each call, in its order."""
    is_any_invalid: bool
    """Whether a call named no tool or gave arguments it does not take."""


def compile_tools(specs: Sequence[ToolDefinitionSpec], *, function_of: LoadFunction, where: str) -> tuple[OwnTool, ...]:
    """Load the functions, and say of each what a model has to know.

    What is left out is derived from the function: its name, its docstring, and from its signature and annotations the
    schema of its parameters; then arguments also become what the annotations say, a date for example.

    Args:
        specs: As declared.
        function_of: Loads functions of the study.
        where: Place of the list in study.yaml, for messages.

    Raises:
        InputError: A function cannot be loaded, a schema is not sound or cannot be derived, or two tools have the same
            name; lists every problem found.
    """
    found: list[OwnTool] = []
    problems: list[Problem] = []
    for number, spec in enumerate(specs):
        try:
            found.append(_compiled(spec, function_of=function_of, where=f"{where}[{number}]"))
        except InputError as error:
            problems += error.problems
    twice = [name for name, n in Counter(tool.definition.name for tool in found).items() if n > 1]
    problems += [
        Problem(what=f"two tools are called {name!r}", where=where, hint="give one a `name`") for name in twice
    ]
    if problems:
        raise InputError(problems)
    return tuple(found)


def read_arguments(text: str, tool: Tool) -> tuple[dict[str, Any], str | None]:
    """The arguments of a call, and what is wrong with them, if anything."""
    try:
        arguments = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}, "the arguments are not JSON"
    if not isinstance(arguments, dict):
        return {}, "the arguments are not a JSON object"
    return arguments, validate_schema(arguments, tool.parameters)


async def run_tools(tools: Sequence[OwnTool], calls: Sequence[ToolCall]) -> ToolResults:
    """Run what a model asked for, one after the other, as a model that asks for several expects."""
    by_name = {tool.definition.name: tool for tool in tools}
    messages = []
    is_any_invalid = False
    for call in calls:
        text, is_invalid = await _run(by_name.get(call.name), call, known=list(by_name))
        is_any_invalid |= is_invalid
        messages.append(Message("tool", text, tool_call_id=call.id))
    return ToolResults(tuple(messages), is_any_invalid)


async def called(function: Callable[..., Any], *args: object, **named: object) -> Any:  # noqa: ANN401 - the study's own
    """The result of a function of the study, awaited where it is asynchronous; others may block and get a thread.

    Raises:
        TimeoutError: It gave no result within `FUNCTION_LIMIT_S`.
        Exception: Whatever the function raises.
    """
    is_async = inspect.iscoroutinefunction(function)
    limit = asyncio.timeout(FUNCTION_LIMIT_S)
    try:
        async with limit:
            return await (function(*args, **named) if is_async else _in_thread(partial(function, *args, **named)))
    except TimeoutError:
        if not limit.expired():  # the function's own
            raise
        raise TimeoutError(f"it gave no result within {FUNCTION_LIMIT_S:g} s") from None


# ---- private --------------------------------------------------------------------------------------------------------


def _compiled(spec: ToolDefinitionSpec, *, function_of: LoadFunction, where: str) -> OwnTool:
    function, digest = function_of(spec.function, f"{where}.function")
    description = spec.description if spec.description is not None else inspect.getdoc(function)
    if not description:
        raise InputError(
            Problem(
                what=f"{spec.function} does not say what it is for",
                where=f"{where}.description",
                hint="give the tool a `description`, or the function a docstring: the model knows nothing else of it",
            )
        )
    if spec.parameters is not None:
        parameters = sound_object_schema(spec.parameters, where=f"{where}.parameters")
        runs = function
    else:
        parameters = _derived_parameters(function, spec.function, where=f"{where}.parameters")
        runs = validate_call(function)
    name = spec.name or spec.function.partition(":")[2]
    definition = Tool(name=name, description=description, parameters=parameters)
    return OwnTool(definition=definition, function=runs, digest=digest)


def _derived_parameters(function: Callable[..., Any], reference: str, *, where: str) -> dict[str, Any]:
    hint = "annotate its parameters with types that JSON can hold, or give `parameters` as a JSON Schema"
    try:
        schema = TypeAdapter(cast(Any, function)).json_schema()
    except (PydanticUserError, PydanticInvalidForJsonSchema, NameError) as error:
        said = str(error).splitlines()[0]
        raise InputError(
            Problem(what=f"the parameters of {reference} have no JSON Schema: {said}", where=where, hint=hint)
        ) from error
    if schema.get("type") != "object":
        raise InputError(
            Problem(what=f"{reference} has parameters that cannot be given by name", where=where, hint=hint)
        )
    return sound_object_schema(schema, where=where)


async def _run(tool: OwnTool | None, call: ToolCall, *, known: Sequence[str]) -> tuple[str, bool]:
    """The text that goes back, and whether the call itself was wrong."""
    if tool is None:
        return f"error: there is no tool {call.name!r}; there are {', '.join(known)}", True
    arguments, problem = read_arguments(call.arguments, tool.definition)
    if problem is not None:
        return f"error: {problem}", True
    try:
        text = _shown(await called(tool.function, **arguments))
    except ValidationError as error:  # an annotation asks for more than a schema can say
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
        return f"error: {said}"[:MAX_RESULT_CHARS], True
    except Exception as error:  # noqa: BLE001 - the study's own function may raise anything; the model is told
        return f"error: {type(error).__name__}: {error}"[:MAX_RESULT_CHARS], False
    return text, False


async def _in_thread(function: Callable[[], Any]) -> Any:  # noqa: ANN401 - the study's own
    """Run it on a thread of its own, which is left behind where nobody waits for it any more.

    Not `asyncio.to_thread`: a function that never ends would keep the whole program from ending.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[Any] = loop.create_future()

    def settle(result: object, error: Exception | None) -> None:
        if waiting.done():
            return
        if error is None:
            waiting.set_result(result)
        else:
            waiting.set_exception(error)

    def work() -> None:
        result: object = None
        failure: Exception | None = None
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            failure = RuntimeError("it raised StopIteration") if isinstance(error, StopIteration) else error
        except SystemExit:
            failure = RuntimeError("it called sys.exit")
        with contextlib.suppress(RuntimeError):  # the run is over
            loop.call_soon_threadsafe(settle, result, failure)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="study function", daemon=True).start()
    return await waiting


def _shown(result: object) -> str:
    text = result if isinstance(result, str) else orjson.dumps(result, default=str).decode()
    # Lone surrogates, which text from a file name can hold, fit into no request.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_RESULT_CHARS else f"{text[: MAX_RESULT_CHARS - 2]} …"

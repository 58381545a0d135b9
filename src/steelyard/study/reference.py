"""The documentation of study.yaml and of plan files, made from the sections themselves so that it cannot go stale.

`python -m steelyard.study.reference docs` writes `docs/study-yaml.md`, `docs/study.schema.json` and `docs/whatif.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

from steelyard.decision.plan import PlanFile
from steelyard.study.file import StudyFile

INTRODUCTION = """# study.yaml

Every field of a study's file, made from the code by `python -m steelyard.study.reference docs`. Fields without a
default must be given; everything else may be left out. `study.schema.json` beside this page is the same for editors:
put `# yaml-language-server: $schema=.steelyard/study.schema.json` on the first line (`steelyard init` does).

The shortest useful file:

```yaml
study: tickets
cases: tickets.csv
task:
  instruction: Sort the support ticket into one category.
  input: text
  expected: label
  labels: [billing, delivery, login]
```
"""

PLAN_INTRODUCTION = """# What if

`steelyard whatif FILE` weighs approaches by summary figures alone: rates, tokens, seconds, hours and prices, as a plan
before any data or a paper's table gives them. It prints the ledger of each approach term by term, the cost of one
successful task, the break-even volumes between them as a range, the inputs the verdict hinges on with the values at
which it flips, the verdict in one sentence, and which evidence to gather first. `--json` prints `steelyard.whatif/1`,
with the working of every amount.

Three scenarios ship and can be named in place of a file: `invoices` (one prompt against extraction, validation and
repair), `triage` (a long prompt against a tuned model on a stable task) and `triage-changing` (the same with categories
that change every month). A plan can be this short:

```yaml
plan: tickets
approaches:
  prompt-only:
    levers: [prompt]
    success: 0.89
    prompt_tokens: 1200
    completion_tokens: 8
    price_per_million: {input: 0.40, output: 1.60, source: "https://models.example.com/prices", as_of: 2026-11-01}
  tuned:
    levers: [tuning]
    success: 0.94
    cost_per_task_usd: 0.0002
    labels: 3000
money: {volume_per_month: 11000}
```

## How it is worked out

The arithmetic is that of `steelyard decide`; only the numbers come from the file instead of from outcomes.

- Nothing counts as measured. A figure is quoted where it says from where and when (`source` and `as_of`, for an approach
  or for its price), else assumed.
- Calls of a task cost tokens times price, once more for the share of tasks given by `retry`; `cached_input` is not used.
- A reviewed answer costs the approach's `review_seconds`; where it states none, `money.review_seconds` plus
  `correction_rate` times `task.correction_seconds`.
- Each change of the task costs every approach `edit_hours_per_change`; one that needs labels is charged
  `relabelled_per_change` labels, and a tuned one is retrained after each change or `retraining_per_year` times,
  whichever is more. What a tuned model gets wrong between a change and its retraining is not counted.
- Ranges: each approach's fixed cost, and its calls unless their price is quoted, may be off by `money.assumed_range`
  either way, each on its own; people's time and failed tasks for all approaches alike. A success rate has a range only
  where `n` says from how many cases it is. "Not settled" is said of a choice that costs less than its nearest rival in
  under 95% of 2,000 draws over these ranges.
- Out are approaches that miss the goal as stated, or state nothing about what it asks for. The cheapest per successful
  task leads; a simpler one that costs up to 5% more is preferred. Tuning is costly to turn back from, so the most that
  figures alone can say for it is to test it. Where no tuned approach is planned, the best that one could do (never
  failing, calls and labels for nothing) is worked out, to say whether tuning could pay at all.

Every field, made from the code by `python -m steelyard.study.reference docs`; those without a default must be given:
"""


def study_schema() -> dict[str, Any]:
    """JSON Schema of study.yaml, as editors read it.

    The short forms study.yaml accepts (`cases: FILE`, one field name in place of a list) are added to what pydantic
    derives from the sections.
    """
    schema: dict[str, Any] = StudyFile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Steelyard study"
    properties = schema["properties"]
    properties["cases"] = {
        "anyOf": [{"type": "string", "description": "The case file."}, {"$ref": "#/$defs/CasesSpec"}],
        "description": properties["cases"].get("description", ""),
    }
    schema["required"] = [name for name in schema["required"] if name != "approaches"]
    by_name = properties["approaches"].get("additionalProperties")
    properties["approaches"]["additionalProperties"] = {"anyOf": [by_name, {"type": "null"}]}
    for section in ("CheckSpec", "FieldScoring", "ToolDefinitionSpec"):  # a rule, a kind, a function alone
        whole = schema["$defs"][section]
        schema["$defs"][section] = {"anyOf": [{"type": "string"}, whole], "description": whole.get("description", "")}
    folders = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    for section, shorts in (
        ("KnowledgeSpec", [{"type": "string"}, folders]),  # documents alone
        ("KnowledgeUse", [{"type": "boolean"}, {"enum": ["search", "all", "gold"]}]),  # a context alone
        ("QuerySpec", [{"type": "integer", "minimum": 1, "maximum": 5}]),  # how many alone
    ):
        whole = schema["$defs"][section]
        schema["$defs"][section] = {"anyOf": [*shorts, whole], "description": whole.get("description", "")}
        whole["properties"] |= {
            name: _one_or_list(whole["properties"][name])
            for name in ("documents", "question")
            if name in whole["properties"]
        }
    tried = ("examples", "k", "chunk_tokens", "overlap_tokens", "full_text_weight", "rerank", "queries")
    for section, names in (("TaskSpec", ("input", "images", "expected")), ("OptimiseSpec", tried)):
        fields = schema["$defs"][section]["properties"]
        fields |= {name: _one_or_list(fields[name]) for name in names}
    return schema


def _one_or_list(listed: dict[str, Any]) -> dict[str, Any]:
    """A field whose list may be a single value."""
    inner = {key: value for key, value in listed.items() if key not in ("title", "description")}
    said: dict[str, Any] = {key: listed[key] for key in ("title", "description") if key in listed}
    one = next(option["items"] for option in (inner, *inner.get("anyOf", ())) if "items" in option)
    return {"anyOf": [one, inner], **said}


def study_reference() -> str:
    """The Markdown page documenting every field."""
    schema = StudyFile.model_json_schema()
    schema["required"].remove("approaches")  # filled in before pydantic looks, so it does not know the default
    return _page(INTRODUCTION, schema)


def plan_reference() -> str:
    """The Markdown page on `steelyard whatif`, documenting every field of a plan file."""
    return _page(PLAN_INTRODUCTION, PlanFile.model_json_schema())


def main(folder: Path) -> None:
    """Write all files into a folder."""
    (folder / "study-yaml.md").write_text(study_reference(), encoding="utf-8")
    (folder / "whatif.md").write_text(plan_reference(), encoding="utf-8")
    packed = orjson.dumps(study_schema(), option=orjson.OPT_INDENT_2)
    (folder / "study.schema.json").write_bytes(packed + b"\n")


# Rendering


def _page(introduction: str, schema: dict[str, Any]) -> str:
    definitions = schema["$defs"]
    lines = [introduction, "## The file", "", *_table(schema)]
    for name in _order(schema, definitions):
        section = definitions[name]
        lines += [
            "",
            f"## {name.removesuffix('Spec')}",
            "",
            _plain(section.get("description", "")),
            "",
            *_table(section),
        ]
    return "\n".join(lines) + "\n"


def _order(schema: dict[str, Any], definitions: dict[str, Any]) -> list[str]:
    """Sections in the order a reader meets them: breadth first from the file."""
    found: list[str] = []
    queue = [schema["properties"]]
    while queue:
        for name in _references(queue.pop(0)):
            if name not in found and "properties" in definitions[name]:
                found.append(name)
                queue.append(definitions[name]["properties"])
    return found


def _references(node: Any) -> list[str]:  # noqa: ANN401 - any JSON
    if isinstance(node, dict):
        own = [node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else []
        return own + [name for value in node.values() for name in _references(value)]
    if isinstance(node, list):
        return [name for value in node for name in _references(value)]
    return []


def _table(section: dict[str, Any]) -> list[str]:
    rows = ["| field | values | default | meaning |", "| --- | --- | --- | --- |"]
    required = section.get("required", [])
    for name, field in section["properties"].items():
        default = "" if name in required else f"`{_default(field)}`"
        rows.append(f"| `{name}` | {_values(field)} | {default} | {_plain(field.get('description', ''))} |")
    return rows


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "..."
    value = field["default"]
    if isinstance(value, dict):
        return "..." if value else "{}"
    return orjson.dumps(value).decode()


def _values(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return f"[{field['$ref'].rsplit('/', 1)[-1].removesuffix('Spec')}]" + _anchor(field["$ref"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_values(option) for option in field["anyOf"])
    kind = field.get("type", "anything")
    if kind == "array":
        return f"list of {_values(field.get('items', {}))}"
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"mapping to {_values(inner)}" if isinstance(inner, dict) and inner else "mapping"
    bounds = [
        f"{sign} {field[key]:g}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in field
    ]
    return " ".join([kind, *bounds])


def _anchor(reference: str) -> str:
    return f"(#{reference.rsplit('/', 1)[-1].removesuffix('Spec').lower()})"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The documentation and the JSON Schema of study.yaml, made from the sections themselves so that they cannot go stale.

`python -m steelyard.study.reference docs` writes `docs/study-yaml.md` and `docs/study.schema.json`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson

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
    for field in ("input", "expected"):
        listed = schema["$defs"]["TaskSpec"]["properties"][field]
        text = listed.pop("description")
        title = listed.pop("title")
        schema["$defs"]["TaskSpec"]["properties"][field] = {
            "anyOf": [{"type": "string"}, listed],
            "title": title,
            "description": text,
        }
    return schema


def study_reference() -> str:
    """The Markdown page documenting every field."""
    schema = StudyFile.model_json_schema()
    definitions = schema["$defs"]
    schema["required"].remove("approaches")  # filled in before pydantic looks, so it does not know the default
    lines = [INTRODUCTION, "## The file", "", *_table(schema)]
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


def main(folder: Path) -> None:
    """Write both files into a folder."""
    (folder / "study-yaml.md").write_text(study_reference(), encoding="utf-8")
    packed = orjson.dumps(study_schema(), option=orjson.OPT_INDENT_2)
    (folder / "study.schema.json").write_bytes(packed + b"\n")


# Rendering


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

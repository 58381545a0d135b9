"""A tuned approach as files for elsewhere: weights in open formats, training data as hosts want it, configurations.

Every folder of an export stands alone, and none holds a pickle: weights are safetensors and GGUF, all else is text.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import orjson

from steelyard.approaches.tuning import configs
from steelyard.approaches.tuning.examples import PromptOf, TargetOf
from steelyard.approaches.tuning.gguf_adapter import gguf_tensors, read_peft
from steelyard.approaches.tuning.head_export import USE as HEAD_USE
from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem
from steelyard.models.calls import Message

if TYPE_CHECKING:
    from steelyard.approaches.tuning.base_model import BaseModel


class Chat(NamedTuple):
    """One training example as it is said."""

    messages: tuple[Message, ...]
    """The deployed prompt, up to where the answer begins."""
    answer: str


class Examples(NamedTuple):
    """What was trained and validated on."""

    train: tuple[Chat, ...]
    validation: tuple[Chat, ...]


def chats(cases: Sequence[Case], prompt: PromptOf, target: TargetOf) -> tuple[Chat, ...]:
    """The conversations of cases, uncut.

    Raises:
        InputError: A prompt holds a picture, which the exported formats have no common form for.
    """
    found = tuple(Chat(prompt(case.visible()), target(case)) for case in cases)
    if any(message.images for chat in found for message in chat.messages):
        raise InputError(
            Problem(
                what="the training examples show pictures, which cannot be exported",
                where="study.yaml:task.images",
                hint="export a task whose inputs are text",
            )
        )
    return found


# ---- training data --------------------------------------------------------------------------------------------------


def write_training_files(folder: Path, examples: Examples) -> None:
    """Write `train.jsonl` and, where there is any, `validation.jsonl` in the shape each host wants."""
    for name, line in _SHAPES.items():
        _write_jsonl(folder / name, examples, line)


def messages_line(chat: Chat) -> dict[str, Any]:
    """OpenAI, Together and Fireworks: `messages`, with weights only where an earlier answer must not be learned."""
    has_earlier = any(message.role == "assistant" for message in chat.messages)
    turns: list[dict[str, Any]] = []
    for role, content in _turns(chat):
        weight = {"weight": 0} if has_earlier and role == "assistant" else {}
        turns.append({"role": role, "content": content, **weight})
    if has_earlier:
        turns[-1]["weight"] = 1
    return {"messages": turns}


def vertex_line(chat: Chat) -> dict[str, Any]:
    """Vertex AI (Gemini): `systemInstruction` and `contents`, where an answer's role is `model`."""
    system = [content for role, content in _turns(chat) if role == "system"]
    contents = [
        {"role": "model" if role == "assistant" else "user", "parts": [{"text": content}]}
        for role, content in _turns(chat)
        if role != "system"
    ]
    instruction = {"systemInstruction": {"role": "system", "parts": [{"text": "\n\n".join(system)}]}} if system else {}
    return {**instruction, "contents": contents}


# ---- configurations -------------------------------------------------------------------------------------------------


def write_configs(folder: Path, recipe: configs.Recipe, examples: Examples) -> None:
    """Write one folder for each of axolotl, LLaMA-Factory and Unsloth, with the examples in the form it reads."""

    def marked(chat: Chat) -> dict[str, Any]:
        turns = [{"role": role, "content": content, "train": False} for role, content in _turns(chat)]
        turns[-1]["train"] = True
        return {"messages": turns}

    def plain(chat: Chat) -> dict[str, Any]:
        return {"messages": [{"role": role, "content": content} for role, content in _turns(chat)]}

    _write_jsonl(folder / "axolotl", examples, marked)
    (folder / "axolotl" / "config.yml").write_text(configs.axolotl(recipe), encoding="utf-8")
    _write_jsonl(folder / "llama-factory", examples, plain)
    (folder / "llama-factory" / "config.yaml").write_text(configs.llama_factory(recipe), encoding="utf-8")
    (folder / "llama-factory" / "dataset_info.json").write_text(
        configs.llama_factory_datasets(recipe), encoding="utf-8"
    )
    _write_jsonl(folder / "unsloth", examples, plain)
    (folder / "unsloth" / "train.py").write_text(configs.unsloth(recipe), encoding="utf-8")


# ---- weights --------------------------------------------------------------------------------------------------------


def write_lora(folder: Path, prepared: Path, base: BaseModel, *, base_name: str) -> None:
    """Write a trained adapter as PEFT safetensors, as a GGUF adapter, and merged into its base as one GGUF model.

    Args:
        folder: Where `peft/` and `gguf/` go.
        prepared: Folder of the trained adapter.
        base: The model it was trained on.
        base_name: What `adapter_config.json` calls the base, so that it is found elsewhere.

    Raises:
        InputError: The adapter is damaged.
    """
    adapter, scale = read_peft(prepared)
    (folder / "peft").mkdir(parents=True)
    (folder / "gguf").mkdir()
    shutil.copyfile(prepared / "adapter_model.safetensors", folder / "peft" / "adapter_model.safetensors")
    config = json.loads((prepared / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base_name
    (folder / "peft" / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(prepared / "adapter.gguf", folder / "gguf" / "adapter.gguf")
    merge_gguf(folder / "gguf" / "merged.gguf", base, adapter, scale=scale)


def merge_gguf(path: Path, base: BaseModel, adapter: Mapping[str, Any], *, scale: float) -> None:
    """Write the base with the adapter added to its weights.

    Changed tensors are written as float16, since to quantise them again would lose part of what was learned; all others,
    and all metadata, are copied bit by bit.

    Args:
        path: The file to write.
        base: The model the adapter was trained on; its file is read again.
        adapter: LoRA tensors by name, in Hugging Face order of rows.
        scale: alpha / rank.
    """
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize

    reader = GGUFReader(base.path)
    factors = gguf_tensors(adapter, base.shape)
    writer = GGUFWriter(path, arch=base.shape.architecture)
    for name, entry in reader.fields.items():
        if name == "general.architecture" or name.startswith("GGUF."):  # the writer's own
            continue
        kind = entry.types[0]
        inner = entry.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, entry.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        down, up = factors.get(f"{tensor.name}.lora_a"), factors.get(f"{tensor.name}.lora_b")
        if down is None or up is None:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        merged = dequantize(tensor.data, tensor.tensor_type) + scale * (up @ down)  # (out, in), rows in GGUF order
        writer.add_tensor(tensor.name, merged.astype(np.float16), raw_dtype=GGMLQuantizationType.F16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- what is what ---------------------------------------------------------------------------------------------------


def write_readme(folder: Path, *, approach: str, facts: Sequence[str]) -> None:
    """Write `README.md`: what was exported, and how each of the files that are there is used.

    Args:
        folder: The export.
        approach: Its name in the study.
        facts: Lines about base model, licence and data.
    """
    lines = [f"# {approach}", "", *(f"- {fact}" for fact in facts), ""]
    for name, text in _USES.items():
        if (folder / name).exists():
            lines += [f"## {name}", "", text, ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


# ---- private --------------------------------------------------------------------------------------------------------


_SHAPES: Final = {"openai": messages_line, "together-fireworks": messages_line, "vertex": vertex_line}

_USES: Final = {
    "peft": (
        "The adapter for Transformers: `PeftModel.from_pretrained(base, 'peft')`, with `base` the model named in"
        " `adapter_config.json`. It was trained on the deployed GGUF weights; on the unquantised base it answers a"
        " little differently."
    ),
    "gguf": (
        "For llama.cpp: `llama-server -m BASE.gguf --lora gguf/adapter.gguf` with the base it was trained on, or"
        " `llama-server -m gguf/merged.gguf` with the adapter merged in (changed layers in float16)."
    ),
    "head": HEAD_USE,
    "openai": "Training and validation files for hosts that offer fine-tuning jobs in the OpenAI format.",
    "together-fireworks": (
        "Training and validation files for Together (`together files upload`) and Fireworks (`firectl dataset create`)."
        " With Together set `train_on_inputs` to false."
    ),
    "vertex": (
        "Training and validation files for supervised tuning of Gemini on Vertex AI; put them in a Cloud Storage bucket."
    ),
    "axolotl": "In this folder: `axolotl train config.yml`.",
    "llama-factory": (
        "In this folder: `llamafactory-cli train config.yaml`. Check that `template` is the chat template of the base."
    ),
    "unsloth": "In this folder, on a machine with a GPU: `python train.py`.",
}


def _turns(chat: Chat) -> list[tuple[str, str]]:
    return [*((message.role, message.content) for message in chat.messages), ("assistant", chat.answer)]


def _write_jsonl(folder: Path, examples: Examples, line: Callable[[Chat], Mapping[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, some in (("train", examples.train), ("validation", examples.validation)):
        if some:
            text = b"".join(orjson.dumps(line(chat), option=orjson.OPT_APPEND_NEWLINE) for chat in some)
            (folder / f"{name}.jsonl").write_bytes(text)

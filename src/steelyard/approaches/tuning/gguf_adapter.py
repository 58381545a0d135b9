"""A trained LoRA as files: GGUF for llama.cpp, safetensors in the layout of PEFT for everything else.

llama.cpp's `llama` architecture pairs neighbouring dimensions in its rotary embedding, so the rows of the query and
key matrices are stored in another order than in the Hugging Face layout (`qwen2` keeps it). An adapter adds to those
rows: its `lora_b` of `attn_q` and `attn_k` has to be put in the same order. Forgetting it costs only a few points of accuracy, so that
nobody notices; a test compares the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.tuning.base_model import Shape, pairs_from_halves
from steelyard.approaches.tuning.hf_names import MODULE_NAMES
from steelyard.approaches.tuning.store import damaged
from steelyard.models.gguf_header import BASE_SHA256_KEY

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
Adapter = Mapping[str, NDArray[np.float32]]
"""`blk.N.MODULE.lora_a` (rank, in) and `.lora_b` (out, rank) by name, Hugging Face order of rows."""


def gguf_tensors(adapter: Adapter, shape: Shape) -> dict[str, NDArray[np.float32]]:
    """The adapter's tensors as llama.cpp wants them: `blk.N.MODULE.weight.lora_a` and `.lora_b`."""
    tensors = {}
    for name, values in adapter.items():
        block, module, factor = name.rsplit(".", 2)
        if shape.pairs_neighbours and factor == "lora_b" and module in ("attn_q", "attn_k"):
            values = pairs_from_halves(values, shape.heads if module == "attn_q" else shape.kv_heads)
        tensors[f"{block}.{module}.weight.{factor}"] = np.ascontiguousarray(values, dtype=np.float32)
    return tensors


def write_gguf(
    path: Path, adapter: Adapter, shape: Shape, *, alpha: float, name: str, base_sha256: str | None = None
) -> None:
    """Write the adapter as a GGUF file.

    Args:
        path: The file to write.
        adapter: The trained tensors.
        shape: Of the base model.
        alpha: LoRA scale numerator; llama.cpp adds the adapter with weight alpha / rank.
        name: What the file says it is.
        base_sha256: Of the base model's file; with it, serving the adapter on another base is refused.
    """
    from gguf import GGUFWriter

    writer = GGUFWriter(path, arch=shape.architecture)
    writer.add_type("adapter")
    writer.add_name(name)
    writer.add_string("adapter.type", "lora")
    if base_sha256 is not None:
        writer.add_string(BASE_SHA256_KEY, base_sha256)
    writer.add_float32("adapter.lora.alpha", alpha)
    for tensor_name, values in gguf_tensors(adapter, shape).items():
        writer.add_tensor(tensor_name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_peft(folder: Path, adapter: Adapter, *, alpha: float, rank: int, base_name: str) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, as `peft.PeftModel.from_pretrained` reads them."""
    from safetensors.numpy import save

    tensors = {}
    layers = set()
    for name, values in adapter.items():
        _, layer, module, factor = name.split(".")
        layers.add(int(layer))
        letter = factor.removeprefix("lora_").upper()
        tensors[f"base_model.model.model.layers.{layer}.{MODULE_NAMES[module]}.lora_{letter}.weight"] = values
    # Written by Python, so that a full disk is an OSError as it is for every other file.
    (folder / _WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": [module.split(".")[1] for module in MODULE_NAMES.values()],
        "layers_to_transform": sorted(layers),
        "layers_pattern": "layers",
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_peft(folder: Path) -> tuple[dict[str, NDArray[np.float32]], float]:
    """Read back what `write_peft` wrote.

    Returns:
        The adapter's tensors, and its scale alpha / rank.

    Raises:
        InputError: A file of it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    modules = {peft_name: module for module, peft_name in MODULE_NAMES.items()}
    adapter = {}
    try:
        for name, values in load_file(folder / _WEIGHTS).items():
            layer, rest = name.removeprefix("base_model.model.model.layers.").split(".", 1)
            peft_name, factor, _ = rest.rsplit(".", 2)
            adapter[f"blk.{layer}.{modules[peft_name]}.{factor.lower()}"] = values
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise damaged(folder, f"its {_WEIGHTS} cannot be read ({error})") from error
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        return adapter, config["lora_alpha"] / config["r"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, f"its {_CONFIG} cannot be read ({error})") from error

"""A Hugging Face folder as a GGUF file, so that it is served by llama.cpp, measured and tuned like any other base.

Only what is computed and tokenised the same way on both sides is converted; everything else is refused with the reason.
Matrices become float16, norms and biases float32. The file is addressed by the content of the folder, so a folder is
converted once, and again when it changes. Weights are read from safetensors alone: a `.bin` file is a pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from steelyard.approaches.tuning.base_model import file_sha256, pairs_from_halves
from steelyard.approaches.tuning.hf_names import gguf_name
from steelyard.approaches.tuning.tokenisation import CUTS, SENTENCEPIECE, prefixes_space, recognise
from steelyard.errors import InputError, Problem, StorageFailed, require

ARCHITECTURES: Final[Mapping[str, str]] = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
}
"""The Llama family by Hugging Face's names, and llama.cpp's name of each."""
_VERSION: Final = 1
"""Counts up when the same folder would become another file."""
_READ: Final = ("*.safetensors", "*.json", "*.jinja", "README.md")
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6


def folder_digest(folder: Path) -> str:
    """Content address of what a conversion reads, 16 hexadecimal characters.

    Raises:
        InputError: It is no folder with a model.
    """
    _read_json(folder, "config.json", required=True)
    names = sorted({path for pattern in _READ for path in folder.glob(pattern)})
    said = [_VERSION, [[path.name, file_sha256(path)] for path in names]]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=8).hexdigest()


def convert_folder(folder: Path, *, into: Path, say: Callable[[str], None]) -> Path:
    """The GGUF file of a Hugging Face folder, converted if it was not before.

    Args:
        folder: With `config.json`, `tokenizer.json`, a chat template, and weights in safetensors.
        into: Folder for the file.
        say: Shows a line before the work begins.

    Raises:
        InputError: The folder lacks something, or its model is not of the Llama family.
        MissingExtra: The extra `tune` is not installed.
        StorageFailed: The file cannot be written.
    """
    require("gguf", "safetensors", "torch", feature="a Hugging Face folder as model", extra="tune")
    path = into / f"{folder.resolve().name}-{folder_digest(folder)}.gguf"
    if path.exists():
        return path
    plan = _plan(folder)
    say(f"converting {folder.name} to GGUF, once")
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".new-", ignore_cleanup_errors=True) as partial:
            made = Path(partial) / path.name
            _write(made, plan)
            os.replace(made, path)
    except OSError as error:
        raise StorageFailed(
            Problem(
                what=f"the model cannot be written as GGUF ({error})",
                where=str(into),
                hint=f"make room there: about {2 * sum(file.stat().st_size for file in plan.weights) / 1e9:.1f} GB",
            )
        ) from error
    return path


# ---------------------------------------------------------------------------------------------------- private


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """A folder that was found to be convertible."""

    folder: Path
    architecture: str
    config: Mapping[str, Any]
    rope_base: float
    rope_factors: NDArray[np.float32] | None
    """What Llama 3.1 divides the rotary frequencies by, shape (head_size / 2,)."""
    weights: Sequence[Path]
    tokenizer: Mapping[str, Any]
    cut: str
    template: str

    @property
    def head_size(self) -> int:
        return int(self.config.get("head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"])


def _plan(folder: Path) -> _Plan:
    config = _read_json(folder, "config.json", required=True)
    architecture = _check_config(folder, config)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        raise _refused(
            folder,
            "its weights are pickles, which are never opened here" if pickled else "it holds no *.safetensors",
            "save the model with save_pretrained(..., safe_serialization=True) and give that folder",
        )
    tokenizer = _read_json(folder, "tokenizer.json", required=True)
    cut = recognise(tokenizer)
    if cut is None:
        raise _refused(
            folder,
            "its tokenizer.json cuts texts in a way that is not known here",
            f"take a model with a tokenizer of the kind {', '.join(CUTS)} or SentencePiece's BPE",
        )
    template = _chat_template(folder)
    if not template:
        raise _refused(
            folder,
            "it has no chat template, so it is not known how a conversation is said to it",
            "take the instruct version, or put a chat_template.jinja into the folder",
        )
    rope_base, rope_factors = _rope(folder, config)
    return _Plan(
        folder=folder,
        architecture=architecture,
        config=config,
        rope_base=rope_base,
        rope_factors=rope_factors,
        weights=weights,
        tokenizer=tokenizer,
        cut=cut,
        template=template,
    )


def _check_config(folder: Path, config: Mapping[str, Any]) -> str:
    named = (config.get("architectures") or ["(none)"])[0]
    reason = ""
    if named not in ARCHITECTURES:
        reason = f"its architecture is {named}, and those of the Llama family are {', '.join(ARCHITECTURES)}"
    elif config.get("hidden_act", "silu") != "silu":
        reason = f"its activation is {config['hidden_act']!r}, and a Llama's is 'silu'"
    elif config.get("attention_bias") or config.get("mlp_bias"):
        reason = "it has biases that a Llama does not have"
    elif config.get("quantization_config"):
        reason = "its weights are quantised already"
    if reason:
        raise _refused(folder, reason, "take another model, or a GGUF file of this one as models.local.gguf")
    return ARCHITECTURES[named]


def _rope(folder: Path, config: Mapping[str, Any]) -> tuple[float, NDArray[np.float32] | None]:
    """Base of the rotary embedding, and what Llama 3.1 divides its frequencies by."""
    # Transformers 5 writes one section, earlier ones two fields.
    said = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = float(said.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    kind = said.get("rope_type", said.get("type", "default"))
    if kind == "default":
        return base, None
    if kind != "llama3":
        raise _refused(
            folder, f"it stretches its context by {kind!r} scaling", "take a model without, or a GGUF file of this one"
        )
    size = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    lengths = 2 * math.pi * base ** (np.arange(0, size, 2) / size)  # tokens until a pair has turned once
    old, factor = said["original_max_position_embeddings"], said["factor"]
    low, high = said["low_freq_factor"], said["high_freq_factor"]
    share = np.clip((old / lengths - low) / (high - low), 0.0, 1.0)  # 1: turns often enough to be left alone
    return base, (1 / ((1 - share) / factor + share)).astype(np.float32)


def _chat_template(folder: Path) -> str | None:
    written = folder / "chat_template.jinja"
    if written.is_file():
        return written.read_text(encoding="utf-8")
    found = _read_json(folder, "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):  # several by name
        found = next((one["template"] for one in found if one.get("name") == "default"), None)
    return found if isinstance(found, str) else None


def _write(path: Path, plan: _Plan) -> None:
    from gguf import GGUFWriter, LlamaFileType

    config = plan.config
    writer = GGUFWriter(path, arch=plan.architecture, use_temp_file=True)
    writer.add_type("model")
    writer.add_name(plan.folder.resolve().name)
    if licence := _licence(plan.folder):
        writer.add_license(licence)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config.get("max_position_embeddings", 2048))
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config.get("num_key_value_heads") or config["num_attention_heads"])
    writer.add_key_length(plan.head_size)
    writer.add_value_length(plan.head_size)
    writer.add_rope_dimension_count(plan.head_size)
    writer.add_rope_freq_base(plan.rope_base)
    writer.add_layer_norm_rms_eps(config.get("rms_norm_eps", 1e-6))
    n_rows = 0
    for name, values in _tensors(plan):
        writer.add_tensor(name, values)
        n_rows = len(values) if name == "token_embd.weight" else n_rows
    if plan.rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", plan.rope_factors)
    _write_tokenizer(writer, plan, n_rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(plan: _Plan) -> Iterator[tuple[str, NDArray[Any]]]:
    """All tensors by GGUF name, rows in GGUF order."""
    import torch
    from safetensors import safe_open

    heads = plan.config["num_attention_heads"]
    kv_heads = plan.config.get("num_key_value_heads") or heads
    is_tied = bool(plan.config.get("tie_word_embeddings", False))
    for path in plan.weights:
        with safe_open(path, framework="pt") as file:  # numpy knows no bfloat16
            for theirs in file.keys():  # noqa: SIM118 - not a dict
                name = gguf_name(theirs)
                if theirs.endswith("rotary_emb.inv_freq") or (name == "output.weight" and is_tied):
                    continue
                if name is None:
                    what = f"it has a tensor that a Llama does not have ({theirs})"
                    raise _refused(plan.folder, what, "take another model, or a GGUF file of this one")
                values = file.get_tensor(theirs).to(torch.float32).numpy()
                if plan.architecture == "llama" and ".attn_q." in name:
                    values = pairs_from_halves(values, heads)
                elif plan.architecture == "llama" and ".attn_k." in name:
                    values = pairs_from_halves(values, kv_heads)
                yield name, values if values.ndim == 1 else values.astype(np.float16)


def _write_tokenizer(writer: Any, plan: _Plan, n_rows: int) -> None:  # noqa: ANN401 - gguf has no types
    model, added = plan.tokenizer["model"], plan.tokenizer.get("added_tokens") or []
    ids: dict[str, int] = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
    if max(ids.values()) >= n_rows:
        what = f"its tokenizer has the id {max(ids.values())}, and the model has only {n_rows} tokens"
        raise _refused(plan.folder, what, "give the tokenizer that belongs to the model")
    tokens = [f"[PAD{i}]" for i in range(n_rows)]
    types = [_UNUSED] * n_rows
    for token, i in ids.items():
        tokens[i], types[i] = token, _NORMAL
    for token in added:
        types[token["id"]] = _CONTROL if token["special"] else _USER_DEFINED
    if plan.cut == SENTENCEPIECE:
        for token, i in ids.items():
            if token.startswith("<0x") and token.endswith(">") and len(token) == 6:
                types[i] = _BYTE
        if model.get("unk_token") in ids:
            types[ids[model["unk_token"]]] = _UNKNOWN
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores(_scores(plan, ids, n_rows))
        writer.add_add_space_prefix(prefixes_space(plan.tokenizer))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(plan.cut)
        writer.add_token_list(tokens)
        writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in model["merges"]])
    writer.add_token_types(types)
    writer.add_chat_template(plan.template)
    _write_ends(writer, plan, ids)


def _scores(plan: _Plan, ids: Mapping[str, int], n_rows: int) -> list[float]:
    """Scores of SentencePiece's pieces, which `tokenizer.json` gives as an order of merges.

    Pieces stand in the order of their scores, so a piece's id can stand for its score, as long as the merges come in
    the order of the ids of what they make; that is checked.
    """
    made = [
        ids["".join(one.split(" ")) if isinstance(one, str) else "".join(one)]
        for one in plan.tokenizer["model"]["merges"]
    ]
    if any(later < earlier for earlier, later in pairwise(made)):
        what = "the merges of its tokenizer.json are not in the order of its pieces"
        raise _refused(plan.folder, what, "take a GGUF file of this model as models.local.gguf")
    return [-float(i) for i in range(n_rows)]


def _write_ends(writer: Any, plan: _Plan, ids: Mapping[str, int]) -> None:  # noqa: ANN401 - gguf has no types
    """Which tokens begin a text and end an answer."""
    settings = _read_json(plan.folder, "tokenizer_config.json")
    generation = _read_json(plan.folder, "generation_config.json")

    def token_id(kind: str) -> int | None:
        written = settings.get(f"{kind}_token")
        text = written.get("content") if isinstance(written, dict) else written
        if isinstance(text, str) and text in ids:
            return ids[text]
        found = plan.config.get(f"{kind}_token_id", generation.get(f"{kind}_token_id"))
        found = found[0] if isinstance(found, list) and found else found
        return found if isinstance(found, int) else None

    end, begin = token_id("eos"), token_id("bos")
    if end is None:
        what = "it does not say which token ends an answer (eos_token in tokenizer_config.json)"
        raise _refused(plan.folder, what, "add it there")
    writer.add_eos_token_id(end)
    if begin is not None:
        writer.add_bos_token_id(begin)
    writer.add_add_bos_token(begin is not None and _adds_begin(plan.tokenizer, settings))
    writer.add_add_eos_token(False)


def _adds_begin(tokenizer: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether the tokenizer puts its first token before a text by itself."""
    processor = tokenizer.get("post_processor") or {}
    for step in processor.get("processors", [processor]):
        if step.get("type") == "TemplateProcessing":
            return any("SpecialToken" in part for part in step.get("single", [])[:1])
    return bool(settings.get("add_bos_token", False))


def _licence(folder: Path) -> str | None:
    """The licence that the model card names at its beginning."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        found = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None
    licence = found.get("license") if isinstance(found, dict) else None
    return licence if isinstance(licence, str) else None


def _read_json(folder: Path, name: str, *, required: bool = False) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        if required:
            raise _refused(folder, f"it has no {name}", "give a folder as save_pretrained writes it")
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(path, f"it cannot be read ({error})", "fetch the file again") from error
    if not isinstance(found, dict):
        raise _refused(path, "it does not hold an object", "fetch the file again")
    return found


def _refused(where: Path, reason: str, hint: str) -> InputError:
    return InputError(
        Problem(what=f"this Hugging Face folder cannot be used as model: {reason}", where=str(where), hint=hint)
    )

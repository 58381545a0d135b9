"""The base model of a LoRA, read from the very GGUF file that is deployed.

Training from the deployed file, and not from some other copy of the model, means that the adapter learns to correct
the quantised weights it will be served with, and that nothing else has to be downloaded. The file is dequantised once
into a safetensors file beside it, which opens in a fraction of a second.

Tensors are kept in the Hugging Face layout, where rotary embeddings pair dimension i with i + head_size / 2. GGUF
files of the `llama` architecture pair neighbours instead, so rows of the query and key matrices are put back in order.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InputError, Problem, require
from steelyard.models.calls import Message

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CACHE_VERSION = 1
_CONTROL_TOKEN_TYPES = (3, 4)  # GGUF: 3 control, 4 user defined; both are matched in the text before the merges run


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """The numbers that make a Llama."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    norm_epsilon: float
    rope_base: float


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """Weights, tokenizer and chat template of one GGUF file."""

    path: Path
    sha256: str
    name: str
    licence: str | None
    shape: Shape
    tensors: Mapping[str, NDArray[Any]]
    """By GGUF name (`blk.0.attn_q.weight`), shape (out, in), Hugging Face order of rows."""
    tokens: Sequence[str]
    merges: Sequence[str]
    control_tokens: Sequence[str]
    chat_template: str
    end_token: int
    """Id of the token that ends an answer."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The byte-level BPE of the file, token for token what llama.cpp does with it."""
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        pairs = (merge.partition(" ") for merge in self.merges)
        merges = [(left, right) for left, _, right in pairs]
        vocabulary = {token: i for i, token in enumerate(self.tokens)}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in self.control_tokens])
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; control tokens written out in it are matched, as the server does."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without control tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    @cached_property
    def _template(self) -> Any:  # noqa: ANN401 - jinja2.Template; compiled once
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(self.chat_template)

    def chat(self, messages: Sequence[Message]) -> str:
        """The prompt text of a conversation, up to where the answer begins."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return str(self._template.render(messages=turns, add_generation_prompt=True))

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the deployed prompt."""
        return self.encode(self.chat(messages))


def load_base(path: Path) -> BaseModel:
    """Read a GGUF model for training.

    Args:
        path: A `llama`-architecture GGUF file with a byte-level BPE of the SmolLM family, quantised or not.

    Returns:
        The model; its tensors are float16 (float32 for norms), memory-mapped where they come from the cached file.

    Raises:
        InputError: The file is no GGUF file, of a kind that cannot be trained here, or without a chat template.
        MissingExtra: The extra `tune` is not installed.
    """
    require("gguf", "safetensors", "tokenizers", feature="training a LoRA", extra="tune")
    from safetensors import safe_open

    sha256 = file_sha256(path)
    cached = path.with_name(f"{path.stem}.{sha256[:12]}-v{_CACHE_VERSION}.safetensors")
    if cached.exists():
        with safe_open(cached, framework="numpy") as file:
            facts = json.loads(file.metadata()["steelyard"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    else:
        facts, tensors = _read_gguf(path)
        _keep(cached, facts, tensors)
    if not facts["chat_template"]:
        raise InputError(
            Problem(
                what="this model has no chat template, so it is not known how a conversation is said to it",
                where=str(path),
                hint="take the instruct version of the model, which has one",
            )
        )
    return BaseModel(path=path, sha256=sha256, tensors=tensors, **facts | {"shape": Shape(**facts["shape"])})


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def halves_from_pairs(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of a query or key matrix from GGUF order (rotary pairs are neighbours) to Hugging Face order.

    Args:
        rows: Shape (heads * head_size, ...).
        heads: Number of heads the rows are divided over.

    Returns:
        The same rows; within each head all even ones come first, then all odd ones.
    """
    by_pair = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(by_pair.swapaxes(1, 2).reshape(rows.shape))


def pairs_from_halves(rows: NDArray[Any], heads: int) -> NDArray[Any]:
    """The inverse of `halves_from_pairs`: from Hugging Face order to GGUF order."""
    by_half = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(by_half.swapaxes(1, 2).reshape(rows.shape))


# ---------------------------------------------------------------------------------------------------- private


def _read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    from gguf import GGUFReader
    from gguf.quants import dequantize

    try:
        reader = GGUFReader(path)
    except (ValueError, OSError, IndexError) as error:
        raise InputError(
            Problem(
                what=f"this is not a readable GGUF model ({error})",
                where=str(path),
                hint="delete the file, so that it is fetched again",
            )
        ) from error

    def fact(key: str, default: Any = None) -> Any:  # noqa: ANN401 - metadata values have many types
        field = reader.get_field(key)
        return default if field is None else field.contents()

    kind = (fact("general.architecture"), fact("tokenizer.ggml.model"), fact("tokenizer.ggml.pre"))
    names = {tensor.name for tensor in reader.tensors}
    if kind != ("llama", "gpt2", "smollm") or "output.weight" in names:
        raise InputError(
            Problem(
                what=f"a LoRA can be trained here on the SmolLM family; this model is {kind!r}",
                where=str(path),
                hint="leave out the model path to use SmolLM2-135M-Instruct",
            )
        )
    heads, hidden = int(fact("llama.attention.head_count")), int(fact("llama.embedding_length"))
    shape = Shape(
        layers=int(fact("llama.block_count")),
        hidden=hidden,
        heads=heads,
        kv_heads=int(fact("llama.attention.head_count_kv", heads)),
        head_size=hidden // heads,
        feed_forward=int(fact("llama.feed_forward_length")),
        vocabulary=len(fact("tokenizer.ggml.tokens")),
        norm_epsilon=float(fact("llama.attention.layer_norm_rms_epsilon")),
        rope_base=float(fact("llama.rope.freq_base", 10_000.0)),
    )
    tensors: dict[str, NDArray[Any]] = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name.endswith("attn_q.weight"):
            values = halves_from_pairs(values, shape.heads)
        elif tensor.name.endswith("attn_k.weight"):
            values = halves_from_pairs(values, shape.kv_heads)
        # float16 is what the block scales are stored in; norms are float32 in the file and tiny
        tensors[tensor.name] = values.astype(np.float32 if values.ndim == 1 else np.float16)
    types = fact("tokenizer.ggml.token_type")
    tokens = fact("tokenizer.ggml.tokens")
    facts = {
        "name": fact("general.name", path.stem),
        "licence": fact("general.license"),
        "shape": asdict(shape),
        "tokens": tokens,
        "merges": fact("tokenizer.ggml.merges"),
        "control_tokens": [t for t, kind in zip(tokens, types, strict=True) if kind in _CONTROL_TOKEN_TYPES],
        "chat_template": fact("tokenizer.chat_template"),
        "end_token": int(fact("tokenizer.ggml.eos_token_id")),
    }
    return facts, tensors


def _keep(cached: Path, facts: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write the cached file in one step; a folder that cannot be written only costs the seconds again next time."""
    from safetensors.numpy import save_file

    try:
        handle, partial = tempfile.mkstemp(dir=cached.parent, prefix=f".{cached.name}.")
    except OSError:
        return
    os.close(handle)
    try:
        save_file(dict(tensors), partial, metadata={"steelyard": json.dumps(facts)})
        os.replace(partial, cached)
    except OSError:
        Path(partial).unlink(missing_ok=True)

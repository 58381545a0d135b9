"""The base model of a LoRA, read from the very GGUF file that is deployed.

Training from the deployed file, and not from some other copy of the model, means that the adapter learns to correct
the quantised weights it will be served with, and that nothing else has to be downloaded. The file is dequantised once
into a safetensors file beside it, which opens in a fraction of a second.

Tensors are kept in the Hugging Face layout, where rotary embeddings pair dimension i with i + head_size / 2. GGUF
files of the `llama` architecture pair neighbours instead, so rows of the query and key matrices are put back in order;
those of `qwen2`, a Llama with biases on query, key and value, are in that order already.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.tuning.tokenisation import CUTS, SENTENCEPIECE, byte_level, sentence_pieces
from steelyard.errors import InputError, Problem, require
from steelyard.models.calls import Message

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CACHE_VERSION = 2
ARCHITECTURES = ("llama", "qwen2")
"""Kinds of GGUF that are a Llama; Mistral and SmolLM files call themselves `llama` too."""
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
    architecture: str = "llama"
    """One of `ARCHITECTURES`."""

    @property
    def pairs_neighbours(self) -> bool:
        """Whether GGUF files of this kind hold query and key rows in another order than Hugging Face."""
        return self.architecture == "llama"


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
    scores: Sequence[float]
    """Of the tokens where they are SentencePiece's; else empty."""
    control_tokens: Sequence[str]
    cut: str
    """One of `tokenisation.CUTS`, or `SENTENCEPIECE`."""
    space_prefix: bool
    chat_template: str
    begin_token: int | None
    """Id of the token that the server puts before every prompt."""
    begin_text: str
    """What the chat template may write for the beginning of a text."""
    end_token: int
    """Id of the token that ends an answer."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the file, token for token what llama.cpp does with it."""
        if self.cut == SENTENCEPIECE:
            return sentence_pieces(self.tokens, self.scores, self.control_tokens, space_prefix=self.space_prefix)
        return byte_level(self.tokens, self.merges, self.control_tokens, cut=self.cut)

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

        def refuse(reason: str) -> None:
            raise InputError(
                Problem(
                    what=f"the chat template of the base model refuses the prompt: {reason}",
                    where=str(self.path),
                    hint="change the turns of the prompt, for example put the system message into the user's",
                )
            )

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: time.strftime(form)}
        return environment.from_string(self.chat_template)

    def chat(self, messages: Sequence[Message]) -> str:
        """The prompt text of a conversation, up to where the answer begins."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        text = str(
            self._template.render(
                messages=turns,
                add_generation_prompt=True,
                bos_token=self.begin_text,
                eos_token=self.tokens[self.end_token],
            )
        )
        # The server adds the token itself, once.
        return text if self.begin_token is None else text.removeprefix(self.begin_text)

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the deployed prompt."""
        begin = [] if self.begin_token is None else [self.begin_token]
        return [*begin, *self.encode(self.chat(messages))]


def load_base(path: Path) -> BaseModel:
    """Read a GGUF model for training.

    Args:
        path: A GGUF file of the Llama family, quantised or not.

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

    names = {tensor.name for tensor in reader.tensors}
    architecture = str(fact("general.architecture"))
    cut = SENTENCEPIECE if fact("tokenizer.ggml.model") == "llama" else str(fact("tokenizer.ggml.pre"))
    _check_kind(path, architecture, cut, names, scaling=str(fact(f"{architecture}.rope.scaling.type", "none")))

    def number(key: str, default: float | None = None) -> float:
        return float(fact(f"{architecture}.{key}", default))

    tokens, types = fact("tokenizer.ggml.tokens"), fact("tokenizer.ggml.token_type")
    heads, hidden = int(number("attention.head_count")), int(number("embedding_length"))
    shape = Shape(
        layers=int(number("block_count")),
        hidden=hidden,
        heads=heads,
        kv_heads=int(number("attention.head_count_kv", heads)),
        head_size=int(number("attention.key_length", hidden // heads)),
        feed_forward=int(number("feed_forward_length")),
        vocabulary=len(tokens),
        norm_epsilon=number("attention.layer_norm_rms_epsilon"),
        rope_base=number("rope.freq_base", 10_000.0),
        architecture=architecture,
    )
    tensors = {tensor.name: _values(tensor, dequantize, shape) for tensor in reader.tensors}
    begin = fact("tokenizer.ggml.bos_token_id")
    # What llama.cpp takes where the file does not say.
    adds_begin = fact("tokenizer.ggml.add_bos_token", cut in (SENTENCEPIECE, "llama-bpe"))
    facts = {
        "name": fact("general.name", path.stem),
        "licence": fact("general.license"),
        "shape": asdict(shape),
        "tokens": tokens,
        "merges": fact("tokenizer.ggml.merges", []) if cut != SENTENCEPIECE else [],
        "scores": fact("tokenizer.ggml.scores", []) if cut == SENTENCEPIECE else [],
        "control_tokens": [t for t, kind in zip(tokens, types, strict=True) if kind in _CONTROL_TOKEN_TYPES],
        "cut": cut,
        "space_prefix": bool(fact("tokenizer.ggml.add_space_prefix", True)),
        "chat_template": fact("tokenizer.chat_template"),
        "begin_token": int(begin) if adds_begin and begin is not None else None,
        "begin_text": "" if begin is None else tokens[int(begin)],
        "end_token": int(fact("tokenizer.ggml.eos_token_id")),
    }
    return facts, tensors


def _check_kind(path: Path, architecture: str, cut: str, names: set[str], *, scaling: str) -> None:
    """Refuse a model that would be computed or tokenised in another way than the server does."""
    what = ""
    if architecture not in ARCHITECTURES:
        what = f"its architecture is {architecture!r}, and those of the Llama family are {', '.join(ARCHITECTURES)}"
    elif cut != SENTENCEPIECE and cut not in CUTS:
        what = f"its tokenizer cuts texts the way of {cut!r}, and those known are {', '.join(CUTS)} and SentencePiece"
    elif scaling != "none":
        what = f"it stretches its context by {scaling!r} scaling"
    elif any(".attn_q_norm" in name or ".ffn_gate_inp" in name or ".attn_qkv" in name for name in names):
        what = "it has parts that a Llama does not have (normed queries, experts or joined matrices)"
    if what:
        raise InputError(
            Problem(
                what=f"a LoRA cannot be trained here on this model: {what}",
                where=str(path),
                hint="take another model, or leave out models.local.gguf to use SmolLM2-135M-Instruct",
            )
        )


def _values(tensor: Any, dequantize: Any, shape: Shape) -> NDArray[Any]:  # noqa: ANN401 - gguf has no types
    values: NDArray[Any] = dequantize(tensor.data, tensor.tensor_type)
    if shape.pairs_neighbours and ".attn_q." in tensor.name:
        values = halves_from_pairs(values, shape.heads)
    elif shape.pairs_neighbours and ".attn_k." in tensor.name:
        values = halves_from_pairs(values, shape.kv_heads)
    # float16 is what the block scales are stored in; norms and biases are float32 in the file and tiny
    return values.astype(np.float32 if values.ndim == 1 else np.float16)


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

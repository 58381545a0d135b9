"""A Llama of a few thousand random weights as a GGUF file, to train and compare in fractions of a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.tuning.base_model import Shape, pairs_from_halves
from steelyard.approaches.tuning.llama import module_sizes

SHAPE = Shape(
    layers=3,
    hidden=32,
    heads=4,
    kv_heads=2,
    head_size=8,
    feed_forward=48,
    vocabulary=260,
    norm_epsilon=1e-5,
    rope_base=10_000.0,
)
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass
class Notes:
    """What was said during preparation."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)


def byte_tokens() -> list[str]:
    """The 256 characters that stand for bytes in a byte-level BPE."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write_tiny_gguf(path: Path, *, seed: int = 0, architecture: str = "llama") -> Path:
    """Write the model; queries and keys in the order of GGUF, everything float32."""
    from gguf import GGUFWriter

    rng = np.random.default_rng(seed)
    writer = GGUFWriter(path, arch=architecture)
    writer.add_name("Tiny Llama")
    writer.add_license("apache-2.0")
    writer.add_block_count(SHAPE.layers)
    writer.add_embedding_length(SHAPE.hidden)
    writer.add_feed_forward_length(SHAPE.feed_forward)
    writer.add_head_count(SHAPE.heads)
    writer.add_head_count_kv(SHAPE.kv_heads)
    writer.add_layer_norm_rms_eps(SHAPE.norm_epsilon)
    writer.add_rope_freq_base(SHAPE.rope_base)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *byte_tokens(), "Ġt"])
    writer.add_token_types([3, 3, 3] + [1] * 257)
    writer.add_token_merges(["Ġ t"])
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)

    def random(*size: int) -> NDArray[np.float32]:
        return rng.normal(0, size[-1] ** -0.5, size).astype(np.float32)

    writer.add_tensor("token_embd.weight", random(SHAPE.vocabulary, SHAPE.hidden))
    writer.add_tensor("output_norm.weight", np.ones(SHAPE.hidden, np.float32))
    for layer in range(SHAPE.layers):
        for module, size in module_sizes(SHAPE).items():
            weights = random(*size)
            if module in ("attn_q", "attn_k"):
                weights = pairs_from_halves(weights, SHAPE.heads if module == "attn_q" else SHAPE.kv_heads)
            writer.add_tensor(f"blk.{layer}.{module}.weight", weights)
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", (1 + 0.1 * random(SHAPE.hidden)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: at this size several only wait for each other, for long on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Where a PEFT training runs, in what numbers, and whether it has to save memory: decided before anything starts."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Final, Literal

from steelyard.approaches.tuning.base_model import Shape
from steelyard.errors import InputError, Problem

MEMORY_SHARE: Final = 0.5
"""Share of the free memory that the kept results of the layers may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """What this machine can do."""

    has_cuda: bool
    cuda_bf16: bool
    """Whether the GPU multiplies bfloat16."""
    cpu_bf16: bool
    """Whether the processor multiplies bfloat16 natively."""
    has_bitsandbytes: bool
    """Whether the library that keeps weights in 4 bits is installed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where and how a training runs."""

    device: Literal["cpu", "cuda"]
    dtype: Literal["bfloat16", "float32"]
    """What the frozen weights are computed in; the adapter is float32."""
    four_bit: bool = False
    """Whether the frozen weights are kept in 4 bits (NF4)."""

    def __str__(self) -> str:
        return f"{self.dtype} on {self.device}" + (", base in 4 bits" if self.four_bit else "")


def read_hardware() -> Hardware:
    """What this machine can do."""
    import torch

    from steelyard.approaches.tuning.llama import native_dtype

    has_cuda = torch.cuda.is_available()
    return Hardware(
        has_cuda=has_cuda,
        cuda_bf16=has_cuda and torch.cuda.is_bf16_supported(including_emulation=False),
        cpu_bf16=native_dtype() == torch.bfloat16,
        has_bitsandbytes=importlib.util.find_spec("bitsandbytes") is not None,
    )


def place(hardware: Hardware, quantise: Literal["none", "4bit"]) -> Placement:
    """Choose the GPU where there is one, and bfloat16 where it is native.

    float16 is never chosen: its range makes training end in infinities unless the loss is scaled all the way.

    Raises:
        InputError: 4 bits are asked for and cannot be had here.
    """
    missing = ""
    if quantise == "4bit" and not hardware.has_cuda:
        missing, hint = "a GPU with CUDA, and this machine has none", "leave out quantise, or train on such a machine"
    elif quantise == "4bit" and not hardware.has_bitsandbytes:
        missing, hint = "the library bitsandbytes", "pip install bitsandbytes, or leave out quantise"
    if missing:
        raise InputError(
            Problem(
                what=f"training on weights of 4 bits needs {missing}",
                where="study.yaml:approaches:tuning.quantise",
                hint=hint,
            )
        )
    if hardware.has_cuda:
        dtype: Literal["bfloat16", "float32"] = "bfloat16" if hardware.cuda_bf16 else "float32"
        return Placement(device="cuda", dtype=dtype, four_bit=quantise == "4bit")
    return Placement(device="cpu", dtype="bfloat16" if hardware.cpu_bf16 else "float32")


def recomputes(shape: Shape, placement: Placement, *, n_layers: int, batch_tokens: int, free_bytes: float) -> bool:
    """Whether layers are computed again on the way back (gradient checkpointing), as their results take too much room.

    Args:
        shape: Of the base.
        placement: For the size of a number.
        n_layers: Layers that gradients pass through.
        batch_tokens: Tokens of the largest batch, padding included.
        free_bytes: Memory that is free for them.
    """
    # Kept for each token: input, both norms, query, key, value, attention's output and residuals, then the three
    # widths of the feed-forward part; the adapter's float32 copies about double the former.
    values = batch_tokens * n_layers * (16 * shape.hidden + 4 * shape.feed_forward)
    logits = batch_tokens * shape.vocabulary * 2
    size = 2 if placement.dtype == "bfloat16" else 4
    return (values + logits) * size > MEMORY_SHARE * free_bytes


def free_memory(placement: Placement) -> float:
    """Bytes that are free where the training runs; without limit where that cannot be read."""
    if placement.device == "cuda":
        import torch

        return float(torch.cuda.mem_get_info()[0])
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")

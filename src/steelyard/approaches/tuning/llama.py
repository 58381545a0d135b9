"""A lean Llama in PyTorch, written for training LoRA adapters on a few CPU cores.

A general model class computes everything for every token. Training a classifier-like LoRA needs much less, and on a
CPU the difference decides whether it takes one minute or five:

- the layers below the lowest adapter are frozen and run without gradients, once per example;
- what all prompts begin with (system message, instruction) is computed once per micro-batch, not once per example,
  with exact gradients: its keys and values are the past of every example;
- the top layer is finished, and logits are made, only at the positions whose next token is part of the answer;
- query, key and value (and gate and up) are one matrix product each, adapters included.

A test holds its logits to those of `transformers.LlamaForCausalLM`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.tuning.base_model import BaseModel, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# The matrices an adapter changes, by their GGUF names, grouped as they are multiplied.
FUSED = {
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "output": ("attn_output",),
    "gate_up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}
MODULES = tuple(module for modules in FUSED.values() for module in modules)


class Factors(NamedTuple):
    """A low-rank change of one (fused) matrix: x gains x · downᵀ · upᵀ."""

    down: Tensor
    """Shape (rank, in)."""
    up: Tensor
    """Shape (out, rank), scaled by alpha / rank."""


Past = tuple["Tensor", "Tensor"]
"""Keys and values, each of shape (batch, kv_heads, n_tokens, head_size), keys already rotated."""
LayerAdapters = Mapping[str, Factors]
"""Factors of one layer by fused name."""


class Llama:
    """Frozen weights and the computation over them; adapters come from outside.

    Args:
        base: The model.
        dtype: What to compute in: bfloat16 where the processor multiplies it natively, else float32.
    """

    def __init__(self, base: BaseModel, dtype: torch.dtype) -> None:
        import torch

        self.shape: Shape = base.shape
        self.dtype = dtype

        def weight(*names: str) -> Tensor:
            parts = [torch.from_numpy(np.array(base.tensors[f"{name}.weight"])).to(dtype) for name in names]
            return torch.cat(parts).contiguous()

        self.embedding = weight("token_embd")  # (vocabulary, hidden)
        self.output = weight("output") if "output.weight" in base.tensors else self.embedding
        self.final_norm = weight("output_norm")
        self.layers: list[dict[str, Tensor]] = []
        for index in range(self.shape.layers):
            layer = {fused: weight(*(f"blk.{index}.{m}" for m in modules)) for fused, modules in FUSED.items()}
            layer["attn_norm"] = weight(f"blk.{index}.attn_norm")
            layer["ffn_norm"] = weight(f"blk.{index}.ffn_norm")
            if f"blk.{index}.attn_q.bias" in base.tensors:
                biases = [base.tensors[f"blk.{index}.{module}.bias"] for module in FUSED["qkv"]]
                layer["qkv_bias"] = torch.from_numpy(np.concatenate(biases)).to(dtype)
            self.layers.append(layer)
        half = torch.arange(0, self.shape.head_size, 2, dtype=torch.float32) / self.shape.head_size
        self._frequencies = self.shape.rope_base**-half  # (head_size / 2,)
        if "rope_freqs.weight" in base.tensors:  # Llama 3.1 slows the low ones down, for longer contexts
            self._frequencies /= torch.from_numpy(np.array(base.tensors["rope_freqs.weight"]))

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (batch, n) to hidden states (batch, n, hidden)."""
        return self.embedding[ids]

    def rotations(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines for rotary embedding, each (batch, 1, n, head_size), for positions (batch, n)."""
        import torch

        angles = positions[:, None, :, None].float() * self._frequencies
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)

    def layer(
        self,
        index: int,
        hidden: Tensor,
        *,
        rotations: tuple[Tensor, Tensor],
        mask: Tensor,
        past: Past | None = None,
        adapters: LayerAdapters | None = None,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Past]:
        """Run one layer.

        Args:
            index: Which layer, 0 is the lowest.
            hidden: Shape (batch, n, hidden).
            rotations: Of the positions of `hidden`.
            mask: From `additive_mask`, shape (batch or 1, 1, n_queries, n_past + n).
            past: Keys and values before `hidden`; a batch of 1 is shared by all.
            adapters: Low-rank changes of this layer.
            rows: Indices (batch, m) of the positions whose output is wanted; all when left out.

        Returns:
            Hidden states (batch, n or m, hidden), and the keys and values of `hidden` with the past before them.
        """
        import torch
        from torch.nn import functional

        weights, shape = self.layers[index], self.shape
        batch, n, _ = hidden.shape
        queries_size, keys_size = shape.heads * shape.head_size, shape.kv_heads * shape.head_size

        def multiply(x: Tensor, name: str) -> Tensor:
            y = functional.linear(x, weights[name], weights.get(f"{name}_bias"))
            if adapters is None or name not in adapters:
                return y
            return y + functional.linear(functional.linear(x, adapters[name].down), adapters[name].up)

        qkv = multiply(self._norm(hidden, weights["attn_norm"]), "qkv")
        q, k, v = torch.split(qkv, [queries_size, keys_size, keys_size], dim=-1)
        cosines, sines = rotations
        keys = _rotate(k.view(batch, n, shape.kv_heads, -1).transpose(1, 2), cosines, sines)
        values = v.view(batch, n, shape.kv_heads, -1).transpose(1, 2)
        if past is not None:
            keys = torch.cat([past[0].expand(batch, -1, -1, -1), keys], dim=2)
            values = torch.cat([past[1].expand(batch, -1, -1, -1), values], dim=2)
        if rows is not None:
            q = _pick(q, rows)
            hidden = _pick(hidden, rows)
            at = rows[:, None, :, None].expand(-1, -1, -1, shape.head_size)
            cosines = cosines.expand(batch, -1, -1, -1).gather(2, at)
            sines = sines.expand(batch, -1, -1, -1).gather(2, at)
        queries = _rotate(q.view(batch, q.shape[1], shape.heads, -1).transpose(1, 2), cosines, sines)
        attended = _attend(queries, keys, values, mask)
        hidden = hidden + multiply(attended.transpose(1, 2).reshape(batch, q.shape[1], queries_size), "output")
        gate, up = multiply(self._norm(hidden, weights["ffn_norm"]), "gate_up").chunk(2, dim=-1)
        return hidden + multiply(functional.silu(gate) * up, "down"), (keys, values)

    def additive_mask(self, is_visible: Tensor) -> Tensor:
        """0 where a query may look at a key, minus infinity elsewhere."""
        import torch

        return torch.zeros(is_visible.shape, dtype=self.dtype).masked_fill_(~is_visible, float("-inf"))

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, float32 (..., vocabulary), for hidden states above the last layer."""
        from torch.nn import functional

        return functional.linear(self._norm(hidden, self.final_norm), self.output).float()

    def _norm(self, hidden: Tensor, weight: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.rms_norm(hidden, (self.shape.hidden,), weight, self.shape.norm_epsilon)


def fuse(adapter: Mapping[str, Tensor], layer: int, *, scale: float, dtype: torch.dtype) -> LayerAdapters:
    """Low-rank factors of one layer as the fused matrices want them; differentiable.

    Args:
        adapter: `blk.N.MODULE.lora_a` (rank, in) and `.lora_b` (out, rank) by name, Hugging Face order of rows.
        layer: Which layer.
        scale: alpha / rank.
        dtype: What the model computes in.

    Returns:
        Empty when the adapter does not reach this layer.
    """
    import torch

    if f"blk.{layer}.{MODULES[0]}.lora_a" not in adapter:
        return {}
    fused = {}
    for name, modules in FUSED.items():
        down = [adapter[f"blk.{layer}.{module}.lora_a"] for module in modules]
        up = [adapter[f"blk.{layer}.{module}.lora_b"] for module in modules]
        together = torch.block_diag(*up)  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
        fused[name] = Factors(torch.cat(down).to(dtype), (together * scale).to(dtype))
    return fused


def module_sizes(shape: Shape) -> dict[str, tuple[int, int]]:
    """(out, in) of every matrix an adapter changes, by GGUF name."""
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    return {
        "attn_q": (queries, shape.hidden),
        "attn_k": (keys, shape.hidden),
        "attn_v": (keys, shape.hidden),
        "attn_output": (shape.hidden, queries),
        "ffn_gate": (shape.feed_forward, shape.hidden),
        "ffn_up": (shape.feed_forward, shape.hidden),
        "ffn_down": (shape.hidden, shape.feed_forward),
    }


def native_dtype() -> torch.dtype:
    """bfloat16 where this processor multiplies it natively (2 to 4 times faster), else float32."""
    import torch

    read = getattr(torch.cpu, "get_capabilities", None)  # older releases of PyTorch cannot tell: float32 is safe
    able = read() if read else {}
    fast = any(able.get(feature, False) for feature in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if fast else torch.float32


def as_tensors(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Arrays as tensors of the same name."""
    import torch

    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


# ---------------------------------------------------------------------------------------------------- private


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attention with shared key heads, shapes (batch, heads or kv_heads, n, head_size).

    Written out, because at the lengths of tickets the fused kernel of PyTorch for CPUs takes five times as long with
    gradients. The query heads that share a key head are rows of one product, so keys are never copied.
    """
    import torch

    batch, heads, n, size = queries.shape
    kv_heads = keys.shape[1]
    together = (queries * size**-0.5).reshape(batch, kv_heads, heads // kv_heads * n, size)
    scores = (together @ keys.transpose(2, 3)).view(batch, heads, n, -1) + mask
    shares = torch.softmax(scores, dim=-1).view(batch, kv_heads, heads // kv_heads * n, -1)
    return (shares @ values).view(batch, heads, n, size)


def _rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    import torch

    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-second, first], dim=-1) * sines


def _pick(x: Tensor, rows: Tensor) -> Tensor:
    return x.gather(1, rows[:, :, None].expand(-1, -1, x.shape[-1]))

"""What a trained adapter answers in PyTorch, to compare with what it answers as it is served.

The oracle of what is served: the product asks its validation cases along the wanted answer, without decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.approaches.tuning.base_model import BaseModel, load_base
from steelyard.approaches.tuning.gguf_adapter import read_peft
from steelyard.approaches.tuning.llama import LayerAdapters, Llama, Past, as_tensors, fuse, native_dtype
from steelyard.approaches.tuning.threads import shard_threads
from steelyard.approaches.tuning.training import N_SHARDS
from steelyard.models.calls import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_BATCH = 16


def torch_answers(
    adapter_folder: Path, prompts: Sequence[Sequence[Message]], *, base_gguf: Path, max_tokens: int = 48
) -> list[str]:
    """Greedy answers of a prepared adapter in PyTorch.

    Args:
        adapter_folder: Where `prepare_adapter` put it; its `adapter_model.safetensors` is read.
        prompts: Conversations up to where the answer begins.
        base_gguf: The base model it was trained on.
        max_tokens: Upper bound on generated tokens.

    Returns:
        One answer a prompt, in order, without control tokens.
    """
    base = load_base(base_gguf)
    arrays, scale = read_peft(adapter_folder)
    model = Llama(base, native_dtype())
    return generate_greedy(
        base, model, [base.chat_ids(p) for p in prompts], as_tensors(arrays), scale=scale, max_tokens=max_tokens
    )


def generate_greedy(
    base: BaseModel,
    model: Llama,
    prompts: Sequence[Sequence[int]],
    adapter: Mapping[str, Tensor] | None = None,
    *,
    scale: float = 1.0,
    max_tokens: int = 48,
) -> list[str]:
    """The likeliest token again and again, until the answer ends.

    Args:
        base: For its tokenizer and end token.
        model: The frozen model.
        prompts: Token ids.
        adapter: LoRA tensors; none for the base model alone.
        scale: alpha / rank of the adapter.
        max_tokens: Upper bound on generated tokens.

    Returns:
        One answer a prompt, in order.
    """
    import torch

    layers = [fuse(adapter or {}, index, scale=scale, dtype=model.dtype) for index in range(model.shape.layers)]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]

    def one(batch: Sequence[int]) -> list[list[int]]:
        with torch.no_grad():
            return _generate(model, [prompts[i] for i in batch], layers, base.end_token, max_tokens)

    with shard_threads(N_SHARDS) as pool:
        for batch, found in zip(batches, pool.map(one, batches), strict=True):
            for i, ids in zip(batch, found, strict=True):
                answers[i] = base.decode(ids)
    return answers


# ---------------------------------------------------------------------------------------------------- private


def _generate(
    model: Llama, prompts: Sequence[Sequence[int]], layers: Sequence[LayerAdapters], end: int, max_tokens: int
) -> list[list[int]]:
    """One batch. Prompts are padded on the right; the padding stays in the past, but no later token sees it."""
    import torch

    lengths = torch.tensor([len(prompt) for prompt in prompts])
    longest = int(lengths.max())
    ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
    positions = torch.arange(longest)[None].expand(len(prompts), -1)
    is_visible = torch.ones(longest, longest, dtype=torch.bool).tril()[None, None]
    is_past = torch.arange(longest) < lengths[:, None]  # (batch, n_past): no padding
    pasts: list[Past | None] = [None] * len(layers)
    wanted: Tensor | None = lengths[:, None] - 1
    found: list[list[int]] = [[] for _ in prompts]
    is_open = [True] * len(prompts)
    for step in range(max_tokens):
        hidden = model.embed(ids)
        rotations, mask = model.rotations(positions), model.additive_mask(is_visible)
        for index, adapters in enumerate(layers):
            hidden, pasts[index] = model.layer(
                index, hidden, rotations=rotations, mask=mask, past=pasts[index], adapters=adapters
            )
        if wanted is not None:
            hidden = hidden.gather(1, wanted[:, :, None].expand(-1, -1, hidden.shape[-1]))
            wanted = None
        ids = model.logits(hidden).argmax(dim=-1)  # (batch, 1)
        for i, token in enumerate(ids[:, 0].tolist()):
            is_open[i] = is_open[i] and token != end
            if is_open[i]:
                found[i].append(token)
        if not any(is_open):
            break
        positions = (lengths + step)[:, None]
        is_past = torch.cat([is_past, torch.ones(len(prompts), 1, dtype=torch.bool)], dim=1)
        is_visible = is_past[:, None, None, :]
    return found

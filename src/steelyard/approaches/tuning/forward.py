"""From training examples to the loss of their answers, without computing anything frozen or shared twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from steelyard.approaches.tuning.examples import Example
from steelyard.approaches.tuning.llama import Llama, Past, fuse

if TYPE_CHECKING:
    from torch import Tensor


class Forward:
    """From examples to the negative log-likelihood of their answers, computing nothing twice that is frozen.

    Args:
        model: The frozen model.
        examples: All examples that will come; what their prompts have in common becomes the shared prefix.
        first_trained: Index of the lowest layer with an adapter; the layers below run without gradients.
    """

    def __init__(self, model: Llama, examples: Sequence[Example], *, first_trained: int) -> None:
        import torch

        self.model = model
        self.first_trained = first_trained
        self.prefix = _common_prefix([example.prompt for example in examples])
        self.keep: dict[tuple[int, ...], Tensor] | None = None
        """Frozen results by the examples of a shard; a dict when they are worth keeping."""
        self._frozen_pasts: list[Past] = []
        n = len(self.prefix)
        with torch.no_grad():
            self._prefix_rotations = model.rotations(torch.arange(n)[None])
            self._prefix_mask = model.additive_mask(torch.ones(n, n, dtype=torch.bool).tril()[None, None])
            self._prefix_hidden = model.embed(torch.tensor([self.prefix], dtype=torch.long))
            for index in range(first_trained if n else 0):
                self._prefix_hidden, past = model.layer(
                    index, self._prefix_hidden, rotations=self._prefix_rotations, mask=self._prefix_mask
                )
                self._frozen_pasts.append(past)

    def nll(self, batch: Sequence[Example], adapter: Mapping[str, Tensor], *, scale: float) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of every answer token, and whether each example's answer is the greedy one.

        Args:
            batch: One or more of the examples given at construction.
            adapter: LoRA tensors; gradients flow to them.
            scale: alpha / rank.

        Returns:
            Shape (n_answer_tokens,) and booleans (batch,).
        """
        import torch
        from torch.nn import functional

        model, n_prefix = self.model, len(self.prefix)
        tails = [(*example.prompt[n_prefix:], *example.completion[:-1]) for example in batch]
        length = max(map(len, tails))
        # Padding on the right: causal attention never looks there.
        ids = torch.tensor([[*tail, *[0] * (length - len(tail))] for tail in tails])
        widest = max(len(example.completion) for example in batch)
        rows = torch.zeros(len(batch), widest, dtype=torch.long)
        targets = torch.full((len(batch), widest), -1)
        for i, example in enumerate(batch):
            first = len(example.prompt) - n_prefix - 1
            rows[i, : len(example.completion)] = torch.arange(first, first + len(example.completion))
            targets[i, : len(example.completion)] = torch.tensor(example.completion)
        rotations = model.rotations(torch.arange(n_prefix, n_prefix + length)[None])
        key_positions = torch.arange(-n_prefix, length)
        mask = model.additive_mask((key_positions <= torch.arange(length)[:, None])[None, None])
        last_mask = model.additive_mask((key_positions <= rows[:, :, None])[:, None])
        hidden = self._frozen(batch, ids, rotations, mask)
        prefix_hidden = self._prefix_hidden
        last = model.shape.layers - 1
        for index in range(self.first_trained, model.shape.layers):
            adapters = fuse(adapter, index, scale=scale, dtype=model.dtype)
            past = None
            if n_prefix:
                prefix_hidden, past = model.layer(
                    index, prefix_hidden, rotations=self._prefix_rotations, mask=self._prefix_mask, adapters=adapters
                )
            hidden, _ = model.layer(
                index,
                hidden,
                rotations=rotations,
                mask=mask if index < last else last_mask,
                past=past,
                adapters=adapters,
                rows=rows if index == last else None,
            )
        is_target = targets >= 0
        logits = model.logits(hidden[is_target])  # (n_answer_tokens, vocabulary)
        wanted = targets[is_target]
        is_greedy = torch.ones_like(is_target)
        is_greedy[is_target] = logits.detach().argmax(dim=-1) == wanted
        return functional.cross_entropy(logits, wanted, reduction="none"), is_greedy.all(dim=1)

    def _frozen(self, batch: Sequence[Example], ids: Tensor, rotations: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        import torch

        key = tuple(id(example) for example in batch)
        if self.keep is not None and key in self.keep:
            return self.keep[key]
        with torch.no_grad():
            hidden = self.model.embed(ids)
            for index in range(self.first_trained):
                past = self._frozen_pasts[index] if self.prefix else None
                hidden, _ = self.model.layer(index, hidden, rotations=rotations, mask=mask, past=past)
        if self.keep is not None:
            self.keep[key] = hidden
        return hidden


# ---------------------------------------------------------------------------------------------------- private


def _common_prefix(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all prompts begin with, at least the last token of each left over."""
    first, last = min(prompts), max(prompts)
    n = 0
    while n < min(len(first), len(last)) - 1 and first[n] == last[n]:
        n += 1
    return first[: min(n, min(map(len, prompts)) - 1)]

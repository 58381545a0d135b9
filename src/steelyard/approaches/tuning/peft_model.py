"""The base of a LoRA as a Transformers model with a PEFT adapter.

It is made from the weights of the GGUF file that is served, so an adapter learns to correct the very model it will be
served with, whatever that was converted from. Nothing is read from the model hub, and nothing is unpickled.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.approaches.tuning.base_model import BaseModel
from steelyard.approaches.tuning.examples import Example
from steelyard.approaches.tuning.hf_names import MODULE_NAMES, hf_name
from steelyard.approaches.tuning.placement import Placement
from steelyard.errors import require

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

_MAX_POSITIONS = 8192  # what a study may ask of the local model; rotary embeddings hold no table


def require_peft(*, feature: str) -> None:
    """Raise `MissingExtra` unless the libraries of the extra `peft` are there."""
    require("torch", "transformers", "peft", "accelerate", "trl", feature=feature, extra="peft")


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers and its relatives without progress bars, notices and network."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they warn each other of coming changes, which a user can do nothing about
        import transformers.utils.logging

        logging: Any = transformers.utils.logging  # half of it is untyped
        level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if had_bars:
                logging.enable_progress_bar()


class PeftLlama:
    """A frozen Transformers model with one adapter that is trained.

    Args:
        base: The model.
        placement: Device and numbers.
        top: Adapters in so many layers from the top.
        rank: LoRA rank.
        alpha: LoRA scale numerator.
        recompute: Compute layers again on the way back, for less memory.
    """

    def __init__(
        self, base: BaseModel, placement: Placement, *, top: int, rank: int, alpha: float, recompute: bool = False
    ) -> None:
        self.placement = placement
        with quiet():
            import peft

            settings = peft.LoraConfig(
                r=rank,
                lora_alpha=alpha,  # type: ignore[arg-type]  # any number will do
                lora_dropout=0.0,
                target_modules=[name.split(".")[1] for name in MODULE_NAMES.values()],
                layers_to_transform=list(range(base.shape.layers - top, base.shape.layers)),
                layers_pattern="layers",
                task_type="CAUSAL_LM",
            )
            frozen = _transformers_model(base, placement)
            if recompute:
                frozen.gradient_checkpointing_enable({"use_reentrant": False})
                frozen.config.use_cache = False
            self.model = peft.get_peft_model(frozen, settings)
        self.model.train()
        self.parameters: dict[str, Parameter] = {
            _our_name(name): parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad and ".default." in name
        }

    def put(self, adapter: Mapping[str, Tensor]) -> None:
        """Make these the adapter's weights, by our names."""
        import torch

        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(adapter[name])

    def gradient(self, names: Sequence[str]) -> Tensor:
        """The gradient that the last way back left, flat, float32, in the order of `names`; it is cleared."""
        import torch

        parts = []
        for name in names:
            parameter = self.parameters[name]
            found = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            parts.append(found.detach().float().flatten().cpu())
            parameter.grad = None
        return torch.cat(parts)

    def nll(self, batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of every answer token, and whether each example's answer is the greedy one.

        Padding stands on the left, so that answers end together and logits are made at their positions only.

        Returns:
            Shape (n_answer_tokens,), example by example, and booleans (batch,).
        """
        import torch
        from torch.nn import functional

        texts = [(*example.prompt, *example.completion[:-1]) for example in batch]
        longest, widest = max(map(len, texts)), max(len(example.completion) for example in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        is_text = torch.zeros(len(batch), longest, dtype=torch.long)
        targets = torch.full((len(batch), widest), -1)
        for i, (text, example) in enumerate(zip(texts, batch, strict=True)):
            ids[i, longest - len(text) :] = torch.tensor(text)
            is_text[i, longest - len(text) :] = 1
            targets[i, widest - len(example.completion) :] = torch.tensor(example.completion)
        device = self.placement.device
        logits = self.model(
            input_ids=ids.to(device),
            attention_mask=is_text.to(device),
            position_ids=(is_text.cumsum(1) - 1).clamp(min=0).to(device),
            logits_to_keep=widest,
            use_cache=False,
        ).logits.float()  # (batch, widest, vocabulary)
        targets = targets.to(device)
        is_target = targets >= 0
        is_greedy = torch.where(is_target, logits.detach().argmax(dim=-1) == targets, True).all(dim=1)
        return functional.cross_entropy(logits[is_target], targets[is_target], reduction="none"), is_greedy


# ---------------------------------------------------------------------------------------------------- private


def _transformers_model(base: BaseModel, placement: Placement) -> Any:  # noqa: ANN401 - transformers has no types
    import torch
    import transformers

    library: Any = transformers  # half of it is untyped
    shape = base.shape
    kinds: dict[str, tuple[Any, Any]] = {
        "llama": (library.LlamaConfig, library.LlamaForCausalLM),
        "qwen2": (library.Qwen2Config, library.Qwen2ForCausalLM),
    }
    make_config, model_class = kinds[shape.architecture]
    config = make_config(
        vocab_size=len(base.tensors["token_embd.weight"]),
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        rms_norm_eps=shape.norm_epsilon,
        max_position_embeddings=_MAX_POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
        tie_word_embeddings="output.weight" not in base.tensors,
        bos_token_id=base.begin_token,
        eos_token_id=base.end_token,
    )
    dtype = getattr(torch, placement.dtype)
    state = {}
    for name, values in base.tensors.items():
        theirs = hf_name(name)
        if theirs is not None:
            state[theirs] = _tensor(values).to(dtype)
    four_bit = (
        {
            "quantization_config": library.BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
            )
        }
        if placement.four_bit
        else {}
    )
    model = model_class.from_pretrained(None, config=config, state_dict=state, dtype=dtype, **four_bit)
    if "rope_freqs.weight" in base.tensors:  # Llama 3.1 slows the low frequencies down, for longer contexts
        model.model.rotary_emb.inv_freq /= _tensor(base.tensors["rope_freqs.weight"])
    return model if placement.four_bit else model.to(placement.device)


def _tensor(values: NDArray[Any]) -> Tensor:
    import torch

    return torch.from_numpy(np.array(values))


def _our_name(name: str) -> str:
    """`base_model.model.model.layers.3.mlp.up_proj.lora_A.default.weight` is our `blk.3.ffn_up.lora_a`."""
    modules = {theirs: ours for ours, theirs in MODULE_NAMES.items()}
    layer, _, rest = name.removeprefix("base_model.model.model.layers.").partition(".")
    part, factor, *_ = rest.rsplit(".", 3)
    return f"blk.{layer}.{modules[part]}.{factor.lower()}"

"""What the tensors of a Llama are called in a GGUF file and in a Hugging Face folder."""

from __future__ import annotations

from typing import Final

MODULE_NAMES: Final = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""The matrices of a layer."""
_LAYER_NAMES: Final = {**MODULE_NAMES, "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_OTHER_NAMES: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_PARTS: Final = {theirs: ours for ours, theirs in _LAYER_NAMES.items()}
_OTHER_PARTS: Final = {theirs: ours for ours, theirs in _OTHER_NAMES.items()}


def hf_name(name: str) -> str | None:
    """The Hugging Face name of a GGUF tensor; nothing for what a folder does not hold (`rope_freqs.weight`).

    >>> hf_name("blk.3.attn_q.weight")
    'model.layers.3.self_attn.q_proj.weight'
    """
    if not name.startswith("blk."):
        return _OTHER_NAMES.get(name)
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[part]}.{kind}" if part in _LAYER_NAMES else None


def gguf_name(name: str) -> str | None:
    """The GGUF name of a Hugging Face tensor; nothing for what a Llama does not have.

    >>> gguf_name("model.layers.3.mlp.up_proj.weight")
    'blk.3.ffn_up.weight'
    """
    if not name.startswith("model.layers."):
        return _OTHER_PARTS.get(name)
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{_LAYER_PARTS[part]}.{kind}" if part in _LAYER_PARTS else None

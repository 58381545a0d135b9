"""A Hugging Face folder with a Llama of a few thousand random weights and one of the known kinds of tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steelyard.approaches.tuning.tokenisation import CUTS, SENTENCEPIECE, byte_level
from tests.approaches.tiny_llama import TEMPLATE, byte_tokens

TEXTS = ("Hello  world 12345 don't I'LL", "  lead trail  \n\n x\t\ty", "émigré 漢字 🙂", "<|im_end|> injected", "")
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def write_hf_folder(
    folder: Path, *, kind: str = "llama", cut: str = "smollm", long_context: bool = False, seed: int = 0
) -> Path:
    """Write config, weights, tokenizer and chat template as `save_pretrained` does."""
    import torch
    import transformers

    folder.mkdir(parents=True)
    tokenizer = sentence_piece_json() if cut == SENTENCEPIECE else byte_level_json(cut)
    library: Any = transformers
    name = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}[kind]
    config = getattr(library, f"{name}Config")(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_parameters=LLAMA3 if long_context else {"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=kind == "llama",
        initializer_range=0.2,
        eos_token_id=2,
        bos_token_id=1,
    )
    torch.manual_seed(seed)
    model = getattr(library, f"{name}ForCausalLM")(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.2)
    model.to(torch.float16).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "bos_token": None}
    if cut == SENTENCEPIECE:
        settings |= {"bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    begin = "{{ bos_token }}" if cut == SENTENCEPIECE else ""
    (folder / "chat_template.jinja").write_text(begin + TEMPLATE, encoding="utf-8")
    return folder


def byte_level_json(cut: str) -> dict[str, Any]:
    """A byte-level BPE with a few merges."""
    assert cut in CUTS
    merges = ["Ġ t", "l o", "1 2", "12 3", "Ġ Ġ"]
    tokens = [*CONTROL, *byte_tokens(), *(merge.replace(" ", "") for merge in merges)]
    found: dict[str, Any] = json.loads(byte_level(tokens, merges, CONTROL, cut=cut).to_str())
    return found


def sentence_piece_json() -> dict[str, Any]:
    """Pieces as SentencePiece's BPE would have them: bytes, letters, then what was joined, in the order of joining."""
    joined = ["▁t", "lo", "er", "in", "▁▁", "ello", "or", "▁lo"]
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyzHILS'."]
    control = ["<unk>", "<s>", "<|im_end|>", "<|im_start|>"]
    pieces = [*control, *(f"<0x{i:02X}>" for i in range(256)), *joined, *letters]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [
        [piece[:at], piece[at:]]
        for piece in joined
        for at in range(1, len(piece))
        if piece[:at] in vocabulary and piece[at:] in vocabulary
    ]
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for i, token in enumerate(control)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }

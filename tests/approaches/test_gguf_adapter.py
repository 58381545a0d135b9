"""The adapter's files hold what was trained, in the order each runtime wants it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from steelyard.approaches.tuning.base_model import BaseModel, halves_from_pairs, load_base, pairs_from_halves
from steelyard.approaches.tuning.gguf_adapter import gguf_tensors, read_peft, write_gguf, write_peft
from steelyard.approaches.tuning.llama import Llama, as_tensors, fuse, module_sizes
from steelyard.errors import InputError
from tests.approaches.tiny_llama import SHAPE, write_tiny_gguf

RANK, ALPHA = 4, 6.0
TRAINED = (1, 2)


def random_adapter(seed: int = 1) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    adapter = {}
    for layer in TRAINED:
        for module, (size_out, size_in) in module_sizes(SHAPE).items():
            adapter[f"blk.{layer}.{module}.lora_a"] = rng.normal(size=(RANK, size_in)).astype(np.float32)
            adapter[f"blk.{layer}.{module}.lora_b"] = rng.normal(size=(size_out, RANK)).astype(np.float32)
    return adapter


def slowly_paired(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Row 2i of a head is its i-th of the first half, row 2i + 1 its i-th of the second half; one row at a time."""
    size = len(rows) // heads
    result = np.empty_like(rows)
    for head in range(heads):
        for i in range(size // 2):
            result[head * size + 2 * i] = rows[head * size + i]
            result[head * size + 2 * i + 1] = rows[head * size + size // 2 + i]
    return result


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return load_base(write_tiny_gguf(tmp_path / "tiny.gguf"))


@pytest.mark.parametrize(("heads", "rows", "columns"), [(9, 576, 8), (3, 192, 8), (1, 4, 1), (4, 32, 5)])
def test_rows_are_paired_as_the_slow_way_pairs_them(heads: int, rows: int, columns: int) -> None:
    """Vectorised reordering agrees with moving one row at a time, and can be undone."""
    matrix = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    paired = pairs_from_halves(matrix, heads)
    np.testing.assert_array_equal(paired, slowly_paired(matrix, heads))
    np.testing.assert_array_equal(halves_from_pairs(paired, heads), matrix)


def test_only_lora_b_of_query_and_key_is_reordered() -> None:
    """Every other tensor is written as it was trained, under llama.cpp's name."""
    adapter = random_adapter()
    tensors = gguf_tensors(adapter, SHAPE)
    assert len(tensors) == len(adapter)
    for name, values in adapter.items():
        stem, factor = name.rsplit(".", 1)
        found = tensors[f"{stem}.weight.{factor}"]
        if name.endswith("attn_q.lora_b"):
            np.testing.assert_array_equal(found, slowly_paired(values, SHAPE.heads))
        elif name.endswith("attn_k.lora_b"):
            np.testing.assert_array_equal(found, slowly_paired(values, SHAPE.kv_heads))
        else:
            np.testing.assert_array_equal(found, values)


def test_the_gguf_file_says_what_llama_cpp_asks_for(tmp_path: Path) -> None:
    """Metadata and tensors read back as they were written."""
    from gguf import GGUFReader

    adapter = random_adapter()
    write_gguf(tmp_path / "adapter.gguf", adapter, SHAPE, alpha=ALPHA, name="test")
    reader = GGUFReader(tmp_path / "adapter.gguf")

    def fact(key: str) -> object:
        field = reader.get_field(key)
        return None if field is None else field.contents()

    assert fact("general.architecture") == "llama"
    assert fact("general.type") == "adapter"
    assert fact("adapter.type") == "lora"
    assert fact("adapter.lora.alpha") == ALPHA
    expected = gguf_tensors(adapter, SHAPE)
    assert {tensor.name for tensor in reader.tensors} == set(expected)
    for tensor in reader.tensors:
        np.testing.assert_array_equal(tensor.data.reshape(expected[tensor.name].shape), expected[tensor.name])


def test_merging_the_gguf_tensors_into_the_file_gives_the_same_logits(base: BaseModel, tmp_path: Path) -> None:
    """Base weights in GGUF order + scale · B · A of the GGUF adapter are the adapted model, logit for logit."""
    import torch

    adapter, scale = random_adapter(), ALPHA / RANK
    merged = dict(base.tensors)
    exported = gguf_tensors(adapter, SHAPE)
    for layer in TRAINED:
        for module in module_sizes(SHAPE):
            name = f"blk.{layer}.{module}.weight"
            heads = {"attn_q": SHAPE.heads, "attn_k": SHAPE.kv_heads}.get(module)
            in_file: NDArray[np.float32] = base.tensors[name].astype(np.float32)
            in_file = in_file if heads is None else slowly_paired(in_file, heads)
            in_file += np.float32(scale) * exported[f"{name}.lora_b"] @ exported[f"{name}.lora_a"]
            merged[name] = in_file if heads is None else halves_from_pairs(in_file, heads)
    merged_base = BaseModel(**{**vars(base), "tensors": merged})
    ids = base.encode("the card is lost")
    with torch.no_grad():
        adapted = logits(Llama(base, torch.float32), ids, adapter, scale)
        plain = logits(Llama(base, torch.float32), ids, {}, 1.0)
        expected = logits(Llama(merged_base, torch.float32), ids, {}, 1.0)
    np.testing.assert_allclose(adapted, expected, atol=2e-3)
    assert np.abs(adapted - plain).max() > 0.1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_logits_are_those_of_transformers_and_peft(base: BaseModel, tmp_path: Path) -> None:
    """The lean model agrees with LlamaForCausalLM, and PEFT opens the adapter and agrees with the adapted one."""
    import torch
    from peft import PeftModel
    from transformers import LlamaConfig, LlamaForCausalLM

    reference = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SHAPE.vocabulary,
            hidden_size=SHAPE.hidden,
            intermediate_size=SHAPE.feed_forward,
            num_hidden_layers=SHAPE.layers,
            num_attention_heads=SHAPE.heads,
            num_key_value_heads=SHAPE.kv_heads,
            rms_norm_eps=SHAPE.norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": SHAPE.rope_base},
            tie_word_embeddings=True,
        )
    )
    reference.train(False)
    reference.load_state_dict(_as_transformers(base), strict=False)
    ids = base.encode("refund, 123 please")
    adapter = random_adapter()
    write_peft(tmp_path, adapter, alpha=ALPHA, rank=RANK, base_name="tiny")
    with torch.no_grad():
        expected = reference(torch.tensor([ids])).logits[0].numpy()
        np.testing.assert_allclose(logits(Llama(base, torch.float32), ids, {}, 1.0), expected, atol=1e-4)
        tuned = PeftModel.from_pretrained(reference, str(tmp_path))
        expected = tuned(torch.tensor([ids])).logits[0].numpy()
        np.testing.assert_allclose(logits(Llama(base, torch.float32), ids, adapter, ALPHA / RANK), expected, atol=2e-3)


def test_the_peft_files_read_back(tmp_path: Path) -> None:
    """What is written in PEFT's layout is read back unchanged, with its scale."""
    adapter = random_adapter()
    write_peft(tmp_path, adapter, alpha=ALPHA, rank=RANK, base_name="tiny")
    found, scale = read_peft(tmp_path)
    assert scale == ALPHA / RANK
    assert found.keys() == adapter.keys()
    for name, values in adapter.items():
        np.testing.assert_array_equal(found[name], values)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["layers_to_transform"] == list(TRAINED)


def test_a_base_is_the_same_from_its_file_and_from_the_kept_copy(tmp_path: Path) -> None:
    """The second load reads the safetensors file beside the GGUF file and gives the same model."""
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    first = load_base(path)
    assert len(list(tmp_path.glob("tiny.*.safetensors"))) == 1
    second = load_base(path)
    assert (first.shape, first.tokens, first.merges, first.sha256) == (
        second.shape,
        second.tokens,
        second.merges,
        second.sha256,
    )
    for name, values in first.tensors.items():
        np.testing.assert_array_equal(second.tensors[name], values)


def test_a_model_that_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    """Another architecture, or a file that is no model, gets a sentence with the file's name."""
    with pytest.raises(InputError, match="Llama family"):
        load_base(write_tiny_gguf(tmp_path / "other.gguf", architecture="gemma3"))
    (tmp_path / "text.gguf").write_bytes(b"this is no model" * 10)
    with pytest.raises(InputError, match=r"text\.gguf.*not a readable GGUF"):
        load_base(tmp_path / "text.gguf")


def logits(model: Llama, ids: list[int], adapter: dict[str, NDArray[np.float32]], scale: float) -> NDArray[np.float32]:
    """Logits of every position, shape (n, vocabulary)."""
    import torch

    tensors = as_tensors(adapter)
    hidden = model.embed(torch.tensor([ids]))
    rotations = model.rotations(torch.arange(len(ids))[None])
    mask = model.additive_mask(torch.ones(len(ids), len(ids), dtype=torch.bool).tril()[None, None])
    for index in range(model.shape.layers):
        adapters = fuse(tensors, index, scale=scale, dtype=model.dtype)
        hidden, _ = model.layer(index, hidden, rotations=rotations, mask=mask, adapters=adapters)
    return np.asarray(model.logits(hidden)[0].numpy())


def _as_transformers(base: BaseModel) -> dict[str, object]:
    modules = {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    state: dict[str, object] = {}
    for name, tensor in as_tensors({name: t.astype(np.float32) for name, t in base.tensors.items()}).items():
        if name == "token_embd.weight":
            state["model.embed_tokens.weight"] = state["lm_head.weight"] = tensor
        elif name == "output_norm.weight":
            state["model.norm.weight"] = tensor
        else:
            _, layer, module, _ = name.split(".")
            state[f"model.layers.{layer}.{modules[module]}.weight"] = tensor
    return state

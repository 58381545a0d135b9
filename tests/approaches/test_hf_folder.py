"""A Hugging Face folder becomes a GGUF file that tokenises, speaks and computes as the folder does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steelyard.approaches.tuning.base_model import load_base
from steelyard.approaches.tuning.hf_folder import convert_folder, folder_digest
from steelyard.approaches.tuning.llama import Llama
from steelyard.errors import InputError
from steelyard.models.calls import Message
from tests.approaches.test_lora import Served
from tests.approaches.tiny_hf import TEXTS, write_hf_folder
from tests.approaches.tiny_llama import Notes
from tests.approaches.torch_answers import generate_greedy

KINDS = [
    ("llama", "smollm"),
    ("llama", "llama-bpe"),
    ("llama", "sentencepiece"),
    ("qwen2", "qwen2"),
    ("mistral", "gpt-2"),
]


def converted(folder: Path) -> Path:
    return convert_folder(folder, into=folder.parent / "converted", say=Notes())


@pytest.mark.model
@pytest.mark.parametrize(("kind", "cut"), KINDS)
def test_served_as_in_the_folder(tmp_path: Path, kind: str, cut: str) -> None:
    """llama.cpp gives the tokens and the greedy text that the tokenizer and Transformers give for the folder."""
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    folder = write_hf_folder(tmp_path / "model", kind=kind, cut=cut)
    base = load_base(converted(folder))
    server = Served(base.path)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    for text in TEXTS:
        messages = (Message("system", "Sort."), Message("user", text))
        turns = [{"role": message.role, "content": message.content} for message in messages]
        assert server.post("/apply-template", {"messages": turns})["prompt"] == base.chat(messages)
        ids = base.chat_ids(messages)
        content = {"content": base.chat(messages), "add_special": True, "parse_special": True}
        assert server.post("/tokenize", content)["tokens"] == ids
        assert tokenizer.encode(base.chat(messages)) == ids
    answer = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
    body = {"prompt": ids, "n_predict": 12, "temperature": 0, "return_tokens": True}
    assert server.post("/completion", body)["tokens"] == answer
    (found,) = generate_greedy(base, Llama(base, torch.float32), [ids], max_tokens=12)
    assert found == base.decode(answer)


@pytest.mark.parametrize(("kind", "cut"), [("llama", "smollm"), ("qwen2", "qwen2")])
@pytest.mark.parametrize("long_context", [False, True])
def test_the_lean_forward_computes_what_transformers_computes(
    tmp_path: Path, kind: str, cut: str, long_context: bool
) -> None:
    """Biases, an output matrix of its own and slowed frequencies are all in the logits."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = write_hf_folder(tmp_path / "model", kind=kind, cut=cut, long_context=long_context)
    base = load_base(converted(folder))
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        reference: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        wanted = reference(ids).logits
        model = Llama(base, torch.float32)
        hidden = model.embed(ids)
        n = ids.shape[1]
        mask = model.additive_mask(torch.ones(n, n, dtype=torch.bool).tril()[None, None])
        for index in range(base.shape.layers):
            hidden, _ = model.layer(index, hidden, rotations=model.rotations(torch.arange(n)[None]), mask=mask)
    np.testing.assert_allclose(model.logits(hidden).numpy(), wanted.numpy(), atol=5e-3)


def test_a_folder_is_converted_once_and_again_when_it_changes(tmp_path: Path) -> None:
    """The file is addressed by the content of the folder; licence and name come along."""
    folder = write_hf_folder(tmp_path / "model")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Model\n", encoding="utf-8")
    first = converted(folder)
    written = first.stat().st_mtime_ns
    assert converted(folder) == first
    assert first.stat().st_mtime_ns == written
    base = load_base(first)
    assert (base.name, base.licence) == ("model", "apache-2.0")
    before = folder_digest(folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")
    assert folder_digest(folder) != before
    assert converted(folder) != first


def changed(folder: Path, name: str, **fields: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields), encoding="utf-8")


def other_cut(folder: Path) -> None:
    changed(folder, "tokenizer.json", pre_tokenizer={"type": "Whitespace"})


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gemma": (lambda folder: changed(folder, "config.json", architectures=["Gemma3ForCausalLM"]), "Gemma3ForCausalLM"),
    "biases": (lambda folder: changed(folder, "config.json", attention_bias=True), "biases"),
    "quantised": (lambda folder: changed(folder, "config.json", quantization_config={"bits": 4}), "quantised already"),
    "stretched": (
        lambda folder: changed(folder, "config.json", rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}),
        "'yarn' scaling",
    ),
    "no template": (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template"),
    "pickled": (pickled, "pickles"),
    "cut": (other_cut, "cuts texts in a way that is not known"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
    "broken": (lambda folder: (folder / "tokenizer.json").write_text("{"), "it cannot be read"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_would_not_be_the_same_model_is_refused(tmp_path: Path, name: str) -> None:
    """Every folder that cannot be converted faithfully gets one sentence with the reason, and nothing is written."""
    folder = write_hf_folder(tmp_path / "model")
    spoil, said = REFUSALS[name]
    spoil(folder)
    with pytest.raises(InputError, match=said):
        converted(folder)
    assert not (tmp_path / "converted").exists() or not list((tmp_path / "converted").iterdir())

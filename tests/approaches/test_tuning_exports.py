"""What is exported can be opened elsewhere, and is what was trained."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning import configs
from steelyard.approaches.tuning.base_model import BaseModel, load_base
from steelyard.approaches.tuning.exports import (
    Chat,
    Examples,
    chats,
    merge_gguf,
    write_configs,
    write_lora,
    write_readme,
    write_training_files,
)
from steelyard.approaches.tuning.gguf_adapter import write_gguf, write_peft
from steelyard.approaches.tuning.llama import Llama, module_sizes
from steelyard.errors import InputError
from steelyard.models.calls import Image, Message
from tests.approaches.test_gguf_adapter import ALPHA, RANK, logits, random_adapter
from tests.approaches.test_lora import Served, _real_gguf, cases, prompt, target
from tests.approaches.tiny_llama import SHAPE, write_tiny_gguf

SPEC = LoraTuningSpec(method="lora", rank=4, layers=2, max_tokens=96, batch_size=4, epochs=2.0)
ADAPTER = {name: 0.2 * values for name, values in random_adapter().items()}
SHOWN = Chat(
    (Message("system", "Sort."), Message("user", "lost"), Message("assistant", "card lost"), Message("user", "locked")),
    "login",
)
PLAIN = Chat((Message("user", "“héllo”\nthere"),), "login")


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return load_base(write_tiny_gguf(tmp_path / "tiny.gguf"))


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A trained adapter as training leaves it."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    write_peft(folder, ADAPTER, alpha=ALPHA, rank=RANK, base_name="Tiny Llama")
    write_gguf(folder / "adapter.gguf", ADAPTER, SHAPE, alpha=ALPHA, name="tiny")
    return folder


def recipe(
    *, spec: LoraTuningSpec = SPEC, n_validation: int = 2, template: str = "default", base_name: str = "org/tiny"
) -> configs.Recipe:
    return configs.Recipe(
        base_name=base_name, n_layers=3, n_train=10, n_validation=n_validation, spec=spec, template=template
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ------------------------------------------------------------------------------------------------ weights


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_peft_opens_the_exported_adapter(base: BaseModel, prepared: Path, tmp_path: Path) -> None:
    """By its own reader, with every tensor where PEFT looks for it and the name of the base that was given."""
    from peft import PeftConfig, PeftModel
    from transformers import LlamaConfig, LlamaForCausalLM

    write_lora(tmp_path / "out", prepared, base, base_name="org/tiny")
    folder = tmp_path / "out" / "peft"
    assert PeftConfig.from_pretrained(str(folder)).base_model_name_or_path == "org/tiny"
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SHAPE.vocabulary,
            hidden_size=SHAPE.hidden,
            intermediate_size=SHAPE.feed_forward,
            num_hidden_layers=SHAPE.layers,
            num_attention_heads=SHAPE.heads,
            num_key_value_heads=SHAPE.kv_heads,
        )
    )
    found = dict(PeftModel.from_pretrained(model, str(folder)).named_parameters())
    own = {"attn_q": "self_attn.q_proj", "ffn_down": "mlp.down_proj"}
    for name, module in own.items():
        for letter in "AB":
            there = found[f"base_model.model.model.layers.1.{module}.lora_{letter}.default.weight"]
            expected = ADAPTER[f"blk.1.{name}.lora_{letter.lower()}"]
            np.testing.assert_array_equal(there.detach().numpy(), expected)
    assert sum("lora_" in name for name in found) == 2 * 2 * len(module_sizes(SHAPE))


def test_the_merged_model_answers_as_base_and_adapter_do(base: BaseModel, prepared: Path, tmp_path: Path) -> None:
    """Logit for logit, within what float16 keeps; metadata and untouched tensors are those of the base."""
    import torch
    from gguf import GGUFReader

    write_lora(tmp_path / "out", prepared, base, base_name="org/tiny")
    path = tmp_path / "out" / "gguf" / "merged.gguf"
    merged = load_base(path)
    ids = base.encode("the card is lost")
    with torch.no_grad():
        adapted = logits(Llama(base, torch.float32), ids, ADAPTER, ALPHA / RANK)
        found = logits(Llama(merged, torch.float32), ids, {}, 1.0)
        plain = logits(Llama(base, torch.float32), ids, {}, 1.0)
    np.testing.assert_allclose(found, adapted, atol=2e-2)
    assert np.abs(found - plain).max() > 0.5
    before, after = GGUFReader(base.path), GGUFReader(path)
    for name, entry in before.fields.items():
        if not name.startswith("GGUF."):
            assert after.fields[name].contents() == entry.contents(), name
    assert [tensor.name for tensor in after.tensors] == [tensor.name for tensor in before.tensors]
    for one, other in zip(before.tensors, after.tensors, strict=True):
        is_touched = other.name.startswith(("blk.1.", "blk.2.")) and "norm" not in other.name
        assert (other.tensor_type.name == "F16") == is_touched
        if not is_touched:
            np.testing.assert_array_equal(other.data, one.data)
    assert (tmp_path / "out" / "gguf" / "adapter.gguf").read_bytes() == (prepared / "adapter.gguf").read_bytes()


@pytest.mark.model
def test_llama_cpp_serves_the_merged_model_as_base_and_adapter(tmp_path: Path) -> None:
    """On the real, quantised base: the probabilities of the next token agree."""
    base = load_base(_real_gguf())
    rng = np.random.default_rng(0)
    adapter = {}
    for layer in (28, 29):
        for module, (size_out, size_in) in module_sizes(base.shape).items():
            adapter[f"blk.{layer}.{module}.lora_a"] = rng.normal(0, 0.1, (4, size_in)).astype(np.float32)
            adapter[f"blk.{layer}.{module}.lora_b"] = rng.normal(0, 0.1, (size_out, 4)).astype(np.float32)
    write_gguf(tmp_path / "adapter.gguf", adapter, base.shape, alpha=8, name="random")
    merge_gguf(tmp_path / "merged.gguf", base, adapter, scale=2.0)
    body = {"prompt": "The capital of France is", "n_predict": 1, "temperature": 0, "n_probs": 5, "cache_prompt": False}

    def next_tokens(served: Served) -> dict[str, float]:
        (first,) = served.post("/completion", body)["completion_probabilities"]
        return {one["token"]: one["logprob"] for one in first["top_logprobs"]}

    together = next_tokens(Served(base.path, tmp_path / "adapter.gguf"))
    merged, alone = next_tokens(Served(tmp_path / "merged.gguf")), next_tokens(Served(base.path))
    common = merged.keys() & together.keys()
    assert len(common) >= 4
    assert max(abs(merged[token] - together[token]) for token in common) < 0.25
    assert max(abs(merged.get(token, -20.0) - p) for token, p in alone.items()) > 0.3


# ------------------------------------------------------------------------------------------------ training data


def test_conversations_are_the_deployed_prompts() -> None:
    """Message for message, with the wanted answer, uncut; pictures are refused."""
    some = cases(3)
    for case, chat in zip(some, chats(some, prompt, target), strict=True):
        assert chat == Chat(prompt(case.visible()), target(case))
    shown = Message("user", "look", images=(Image("data:image/png;base64,", "d"),))
    with pytest.raises(InputError, match="pictures"):
        chats(some, lambda case: (shown,), target)


def test_openai_together_and_fireworks_lines(tmp_path: Path) -> None:
    """`messages` from an optional system turn over alternating turns to the answer; an example's answer has weight 0."""
    write_training_files(tmp_path, Examples((SHOWN, PLAIN), (PLAIN,)))
    for host in ("openai", "together-fireworks"):
        shown, plain = lines(tmp_path / host / "train.jsonl")
        assert lines(tmp_path / host / "validation.jsonl") == [plain]
        assert plain == {
            "messages": [{"role": "user", "content": "“héllo”\nthere"}, {"role": "assistant", "content": "login"}]
        }
        turns = shown["messages"]
        assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user", "assistant"]
        assert [turn.get("weight") for turn in turns] == [None, None, 0, None, 1]
        assert turns[-1]["content"] == "login"


def test_vertex_lines(tmp_path: Path) -> None:
    """`systemInstruction` apart, `contents` alternating between user and model, ending with the model."""
    write_training_files(tmp_path, Examples((SHOWN, PLAIN), ()))
    assert not (tmp_path / "vertex" / "validation.jsonl").exists()
    shown, plain = lines(tmp_path / "vertex" / "train.jsonl")
    assert shown["systemInstruction"] == {"role": "system", "parts": [{"text": "Sort."}]}
    assert [turn["role"] for turn in shown["contents"]] == ["user", "model", "user", "model"]
    assert shown["contents"][-1]["parts"] == [{"text": "login"}]
    assert plain.keys() == {"contents"}


# ------------------------------------------------------------------------------------------------ configurations


def test_axolotl_gets_the_hyperparameters_and_learns_the_last_answer_only(tmp_path: Path) -> None:
    """The fields its configuration reference requires, the layers that are trained here, and marked messages."""
    write_configs(tmp_path, recipe(), Examples((SHOWN,) * 10, (PLAIN,) * 2))
    config = yaml.safe_load((tmp_path / "axolotl" / "config.yml").read_text(encoding="utf-8"))
    assert (config["base_model"], config["adapter"], config["lora_r"], config["lora_alpha"]) == (
        "org/tiny",
        "lora",
        4,
        16,
    )
    assert isinstance(config["learning_rate"], float)
    assert (config["num_epochs"], config["micro_batch_size"], config["sequence_len"]) == (2.0, 4, 96)
    assert config["peft_layers_to_transform"] == [1, 2]
    assert config["warmup_steps"] == 1
    for held, name in (("datasets", "train"), ("test_datasets", "validation")):
        (dataset,) = config[held]
        assert (dataset["type"], dataset["field_messages"]) == ("chat_template", "messages")
        assert (tmp_path / "axolotl" / dataset["path"]).name == f"{name}.jsonl"
        assert dataset["message_field_training"] == "train"
        for row in lines(tmp_path / "axolotl" / dataset["path"]):
            learned = [turn["train"] for turn in row["messages"]]
            assert learned == [False] * (len(learned) - 1) + [True]


def test_llama_factory_finds_its_datasets(tmp_path: Path) -> None:
    """Each dataset the configuration names is described, and the description fits the file."""
    write_configs(tmp_path, recipe(template="chatml"), Examples((SHOWN,) * 10, (PLAIN,) * 2))
    folder = tmp_path / "llama-factory"
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    known = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    assert (config["stage"], config["finetuning_type"], config["template"]) == ("sft", "lora", "chatml")
    assert (config["lora_rank"], config["cutoff_len"], config["mask_history"]) == (4, 96, True)
    assert isinstance(config["learning_rate"], float)
    targets = config["lora_target"].split(",")
    assert len(targets) == 2 * 7
    assert {"layers.1.self_attn.q_proj", "layers.2.mlp.down_proj"} <= set(targets)
    for name in (config["dataset"], config["eval_dataset"]):
        tags: Mapping[str, str] = known[name]["tags"]
        for row in lines(folder / known[name]["file_name"]):
            for turn in row[known[name]["columns"]["messages"]]:
                assert turn.keys() == {tags["role_tag"], tags["content_tag"]}
                assert turn[tags["role_tag"]] in {tags["user_tag"], tags["assistant_tag"], tags["system_tag"]}


def test_the_unsloth_program_is_python_with_the_hyperparameters(tmp_path: Path) -> None:
    """It parses, calls what Unsloth and TRL offer with the study's numbers, and reads the files beside it."""
    write_configs(tmp_path, recipe(), Examples((SHOWN,) * 10, (PLAIN,) * 2))
    tree = ast.parse((tmp_path / "unsloth" / "train.py").read_text(encoding="utf-8"))
    calls = {
        ast.unparse(node.func): {word.arg: word.value for word in node.keywords}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }

    def given(call: str, name: str) -> Any:  # noqa: ANN401 - any literal
        return ast.literal_eval(calls[call][name])

    assert given("FastLanguageModel.from_pretrained", "model_name") == "org/tiny"
    assert given("FastLanguageModel.get_peft_model", "r") == 4
    assert given("FastLanguageModel.get_peft_model", "layers_to_transform") == [1, 2]
    assert given("SFTConfig", "learning_rate") == SPEC.learning_rate
    assert given("SFTConfig", "per_device_train_batch_size") == 4
    assert given("SFTConfig", "eval_strategy") == "epoch"
    assert given("train_on_responses_only", "last_response_only") is True
    for file in given("load_dataset", "data_files").values():
        assert lines(tmp_path / "unsloth" / file)
    alone = ast.parse(configs.unsloth(recipe(n_validation=0)))
    assert "validation" not in ast.unparse(alone)


def test_a_training_of_all_layers_names_none(tmp_path: Path) -> None:
    every = recipe(spec=SPEC.model_copy(update={"layers": 9}), n_validation=0)
    assert "peft_layers_to_transform" not in configs.axolotl(every)
    assert "test_datasets" not in configs.axolotl(every)
    assert yaml.safe_load(configs.llama_factory(every))["lora_target"] == "all"
    assert replace(every, spec=SPEC.model_copy(update={"alpha": 16.4})).alpha == 16


def test_the_readme_says_how_each_file_is_used(tmp_path: Path) -> None:
    """What is there is explained; what is not there is not."""
    write_training_files(tmp_path, Examples((PLAIN,), ()))
    write_readme(tmp_path, approach="tuned", facts=["Licence: x"])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# tuned\n\n- Licence: x\n")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        "openai",
        "together-fireworks",
        "vertex",
    ]

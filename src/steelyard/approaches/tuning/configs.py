"""The same training as a configuration of other tools: axolotl, LLaMA-Factory and Unsloth.

Each folder stands alone: the examples lie beside the configuration, and paths are relative to it. All three see the
hyperparameters of the study, the same layers and the same examples, and learn the last answer of each conversation
only. Their batches, precision and random numbers are their own, so weights will differ.

Field names follow the tools' own references: axolotl 0.16 (configuration reference, dataset format `chat_template`),
LLaMA-Factory 0.9.4 (examples/train_lora, data/README.md, format OpenAI), Unsloth 2026 with TRL 0.24 or later
(`FastLanguageModel`, `SFTConfig`, `train_on_responses_only`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from steelyard.approaches.lora_spec import LoraTuningSpec

_BLOCK: Final = {
    "q_proj": "self_attn",
    "k_proj": "self_attn",
    "v_proj": "self_attn",
    "o_proj": "self_attn",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "down_proj": "mlp",
}
MODULES: Final = tuple(_BLOCK)
"""What an adapter changes, by the names of Hugging Face."""
WARM_UP: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What a configuration is made from."""

    base_name: str
    """Of the base model on the Hugging Face hub, or a folder."""
    n_layers: int | None
    """Of the base model, where it is known; the top `spec.layers` of them are trained."""
    n_train: int
    n_validation: int
    spec: LoraTuningSpec
    template: str = "default"
    """LLaMA-Factory's name of the chat template."""

    @property
    def layers(self) -> list[int] | None:
        """Indices of the layers that are trained; `None` for all of them."""
        if self.n_layers is None or self.spec.layers >= self.n_layers:
            return None
        return list(range(self.n_layers - self.spec.layers, self.n_layers))

    @property
    def alpha(self) -> int:
        """The tools take whole numbers only."""
        return max(1, round(self.spec.alpha))

    @property
    def warmup_steps(self) -> int:
        """A tenth of the optimiser steps."""
        return max(1, round(WARM_UP * self.spec.epochs * math.ceil(self.n_train / self.spec.batch_size)))


def axolotl(recipe: Recipe) -> str:
    """The YAML file for `axolotl train config.yml`; its examples carry `train` on every message."""
    spec = recipe.spec

    def dataset(file: str) -> dict[str, Any]:
        return {
            "path": file,
            "ds_type": "json",
            "split": "train",
            "type": "chat_template",
            "field_messages": "messages",
            "message_property_mappings": {"role": "role", "content": "content"},
            "roles_to_train": [],  # each message says itself whether it is learned
            "message_field_training": "train",
            "train_on_eos": "turn",
        }

    config: dict[str, Any] = {
        "base_model": recipe.base_name,
        "chat_template": "tokenizer_default",
        "datasets": [dataset("train.jsonl")],
        "val_set_size": 0.0,
        "output_dir": "out",
        "sequence_len": spec.max_tokens,
        "sample_packing": False,
        "adapter": "lora",
        "lora_r": spec.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": 0.0,
        "lora_target_modules": list(MODULES),
        "train_on_inputs": False,
        "micro_batch_size": spec.batch_size,
        "gradient_accumulation_steps": 1,
        "num_epochs": spec.epochs,
        "optimizer": "adamw_torch",
        "lr_scheduler": "cosine",
        "learning_rate": spec.learning_rate,
        "warmup_steps": recipe.warmup_steps,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": "auto",
        "seed": spec.seed,
        "logging_steps": 10,
        "saves_per_epoch": 1,
    }
    if recipe.layers is not None:
        config["peft_layers_to_transform"] = recipe.layers
    if recipe.n_validation:
        config |= {"test_datasets": [dataset("validation.jsonl")], "evals_per_epoch": 1}
    return _yaml("axolotl train config.yml", config)


def llama_factory(recipe: Recipe) -> str:
    """The YAML file for `llamafactory-cli train config.yaml`, run in its folder."""
    spec = recipe.spec
    config: dict[str, Any] = {
        "model_name_or_path": recipe.base_name,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": spec.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": 0.0,
        "lora_target": _llama_factory_targets(recipe),
        "dataset_dir": ".",
        "dataset": "train",
        "template": recipe.template,
        "cutoff_len": spec.max_tokens,
        "train_on_prompt": False,
        "mask_history": True,
        "output_dir": "out",
        "logging_steps": 10,
        "save_strategy": "epoch",
        "report_to": "none",
        "per_device_train_batch_size": spec.batch_size,
        "gradient_accumulation_steps": 1,
        "learning_rate": spec.learning_rate,
        "num_train_epochs": spec.epochs,
        "lr_scheduler_type": "cosine",
        "warmup_steps": recipe.warmup_steps,
        "max_grad_norm": 1.0,
        "bf16": True,
        "seed": spec.seed,
    }
    if recipe.n_validation:
        config |= {"eval_dataset": "validation", "eval_strategy": "epoch", "per_device_eval_batch_size": 8}
    return _yaml("llamafactory-cli train config.yaml", config)


def llama_factory_datasets(recipe: Recipe) -> str:
    """The `dataset_info.json` beside it."""
    description = {
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    }
    names = ["train", *(["validation"] if recipe.n_validation else [])]
    return json.dumps({name: {"file_name": f"{name}.jsonl", **description} for name in names}, indent=2) + "\n"


def unsloth(recipe: Recipe) -> str:
    """The program for `python train.py`, run in its folder on a machine with a GPU."""
    spec = recipe.spec
    files = {"train": "train.jsonl", **({"validation": "validation.jsonl"} if recipe.n_validation else {})}
    evaluated = '\n    eval_dataset=examples["validation"],' if recipe.n_validation else ""
    strategy = "epoch" if recipe.n_validation else "no"
    return f'''"""Train the adapter with Unsloth: python train.py. Written for Unsloth 2026 and TRL 0.24 or later."""

from unsloth import FastLanguageModel
from unsloth.chat_templates import train_on_responses_only
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

model, tokenizer = FastLanguageModel.from_pretrained(
    model_name={recipe.base_name!r},
    max_seq_length={spec.max_tokens},
    load_in_4bit=False,
)
model = FastLanguageModel.get_peft_model(
    model,
    r={spec.rank},
    lora_alpha={recipe.alpha},
    lora_dropout=0.0,
    bias="none",
    target_modules={list(MODULES)!r},
    layers_to_transform={recipe.layers!r},
    random_state={spec.seed},
)

examples = load_dataset("json", data_files={files!r})
examples = examples.map(lambda row: {{"text": tokenizer.apply_chat_template(row["messages"], tokenize=False)}})

trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=examples["train"],{evaluated}
    args=SFTConfig(
        output_dir="out",
        dataset_text_field="text",
        max_length={spec.max_tokens},
        packing=False,
        per_device_train_batch_size={spec.batch_size},
        gradient_accumulation_steps=1,
        num_train_epochs={spec.epochs!r},
        learning_rate={spec.learning_rate!r},
        lr_scheduler_type="cosine",
        warmup_steps={recipe.warmup_steps},
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        seed={spec.seed},
        logging_steps=10,
        eval_strategy={strategy!r},
        report_to="none",
    ),
)

# Where a question and an answer begin, as this model's own chat template writes it.
system = [{{"role": "system", "content": "system"}}]
question = [*system, {{"role": "user", "content": "@@"}}]
before = tokenizer.apply_chat_template(system, tokenize=False)
asked = tokenizer.apply_chat_template(question, tokenize=False)
to_answer = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
trainer = train_on_responses_only(
    trainer,
    instruction_part=asked[len(before) : asked.index("@@")],
    response_part=to_answer[len(asked) :],
    last_response_only=True,
)

trainer.train()
model.save_pretrained("out/adapter")  # PEFT safetensors
tokenizer.save_pretrained("out/adapter")
'''


# ---------------------------------------------------------------------------------------------------- private


def _llama_factory_targets(recipe: Recipe) -> str:
    """LLaMA-Factory has no field for layers, but takes any ending of a module's name."""
    if recipe.layers is None:
        return "all"
    return ",".join(f"layers.{layer}.{_BLOCK[module]}.{module}" for layer in recipe.layers for module in MODULES)


def _yaml(command: str, config: Mapping[str, Any]) -> str:
    import yaml

    return f"# Run in this folder: {command}\n" + yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)

"""Put the exported files of a tuned approach together: what it is decides which there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.approaches.approach import Prepared
from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.prompting import Prompting
from steelyard.approaches.spec import ApproachSpec
from steelyard.approaches.tuning.configs import Recipe
from steelyard.approaches.tuning.examples import choose, hold_out
from steelyard.approaches.tuning.exports import (
    Examples,
    chats,
    write_configs,
    write_lora,
    write_readme,
    write_training_files,
)
from steelyard.approaches.tuning.head import HeadApproach
from steelyard.approaches.tuning.head_export import write_head
from steelyard.approaches.workbench import Workbench
from steelyard.approaches.workflow.learned import learned_question
from steelyard.cases.case import Case
from steelyard.errors import Problem, StorageFailed
from steelyard.models.weights import SMOLLM2_135M_INSTRUCT

if TYPE_CHECKING:
    from steelyard.approaches.tuning.base_model import BaseModel
    from steelyard.approaches.tuning.examples import TargetOf

HUB_NAMES: Mapping[str, str] = {SMOLLM2_135M_INSTRUCT.sha256: "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Names on the Hugging Face hub of bases that are known, by SHA-256 of the GGUF file."""


def export_approach(
    folder: Path,
    approach: str,
    prepared: Prepared,
    spec: ApproachSpec,
    bench: Workbench,
    cases: Sequence[Case],
    target: TargetOf,
) -> None:
    """Write everything a tuned approach can be taken elsewhere as.

    Args:
        folder: To write to; not there yet, or empty.
        approach: Its name.
        prepared: The trained approach.
        spec: What it was made of.
        bench: Where its base model is.
        cases: The usable train cases without repeats.
        target: The answer wanted for a case.

    Raises:
        InputError: The training examples show pictures.
        StorageFailed: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        facts = _facts(prepared.setup.card or {})
        if isinstance(prepared.approach, HeadApproach):
            _export_head(folder, prepared.approach)
        else:
            prompting = learned_question(prepared.approach, where=f"study.yaml:approaches.{approach}").prompting
            facts += _export_prompted(folder, prepared, prompting, spec, bench, cases, target)
        write_readme(folder, approach=approach, facts=facts)
    except OSError as error:
        what = f"the export cannot be written ({error})"
        raise StorageFailed(
            Problem(what=what, where=str(folder), hint="make room there, or name another folder")
        ) from error


# ---- private --------------------------------------------------------------------------------------------------------


def _export_head(folder: Path, approach: HeadApproach) -> None:
    write_head(
        folder / "head",
        approach.head,
        embedder=approach.embed.identity,
        input_fields=approach.input_fields,
        field=approach.space.field,
        out_of_scope=approach.out_of_scope,
    )


def _export_prompted(
    folder: Path,
    prepared: Prepared,
    prompting: Prompting,
    spec: ApproachSpec,
    bench: Workbench,
    cases: Sequence[Case],
    target: TargetOf,
) -> list[str]:
    assert spec.tuning is not None
    chosen = choose(cases, target, at_most=spec.tuning.max_examples, seed=spec.tuning.seed)
    examples = Examples(
        *(
            chats(some, lambda case: prompting.converse(case).messages, target)
            for some in hold_out(chosen, target, seed=spec.tuning.seed)
        )
    )
    write_training_files(folder, examples)
    if prepared.adapter is None or not isinstance(spec.tuning, LoraTuningSpec):
        return []
    from steelyard.approaches.tuning.base_model import load_base

    base = load_base(bench.base_gguf())
    base_name = HUB_NAMES.get(base.sha256, base.name)
    write_lora(folder, prepared.adapter.parent, base, base_name=base_name)
    write_configs(folder, _recipe(base, base_name, examples, spec.tuning), examples)
    if base.sha256 in HUB_NAMES:
        return []
    return [f"The base is called {base_name!r} in these files; replace that with its name on the hub or its folder."]


def _recipe(base: BaseModel, base_name: str, examples: Examples, spec: LoraTuningSpec) -> Recipe:
    return Recipe(
        base_name=base_name,
        n_layers=base.shape.layers,
        n_train=len(examples.train),
        n_validation=len(examples.validation),
        spec=spec,
        template="chatml" if "<|im_start|>" in base.chat_template else "default",
    )


def _facts(card: Mapping[str, Any]) -> list[str]:
    facts = []
    base = card.get("base_model")
    if isinstance(base, dict):
        facts.append(f"Base model: {base.get('name')}, licence {base.get('licence') or 'not stated'}")
        if base.get("sha256"):
            facts.append(f"SHA-256 of the base it was trained on: {base['sha256']}")
    if card.get("data_digest"):
        facts.append(f"Data digest: {card['data_digest']}")
    if distilled := card.get("distilled"):
        notes = "; ".join(f"{name}: {', '.join(said)}" for name, said in distilled["licences"].items())
        facts.append(f"{distilled['n']:,} labels were distilled from a teacher. Licence of its answers: {notes}")
    facts.append("The training files hold inputs of train cases as they are, personal data included.")
    return facts

"""A head as files that can be taken anywhere: tensors, a description, and a short program that answers with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from steelyard.approaches.tuning.head_model import Head

USE: Final = (
    "A classifier on sentence embeddings. `head.safetensors` holds its layers, `head.json` the labels in the order of the"
    " rows and the numbers that turn logits into an answer, and `classify.py` is all there is to answering, with numpy"
    " and safetensors alone: `Classifier('head').answer(embedding)` gives the labels and the probability that they are"
    " right. The embedding is that of the embedder that `head.json` names, of length 1, of the text of its input fields"
    " (several as `name: value`, one a line)."
)


def write_head(
    folder: Path,
    head: Head,
    *,
    embedder: str,
    input_fields: Sequence[str],
    field: str,
    out_of_scope: str | None = None,
) -> None:
    """Write `head.safetensors`, `head.json` and `classify.py`.

    Args:
        folder: Not there yet.
        head: The trained classifier.
        embedder: Identity of what made the embeddings.
        input_fields: Fields of a case that were embedded.
        field: The field an answer fills.
        out_of_scope: The label that is given instead of an answer below the threshold.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    rule = head.rule
    tensors = {"scale": np.ascontiguousarray(rule.scale), "shift": np.ascontiguousarray(rule.shift)}
    for number, layer in enumerate(head.network):
        tensors[f"weights_{number}"] = np.ascontiguousarray(layer.weights)
        tensors[f"bias_{number}"] = np.ascontiguousarray(layer.bias)
    save_file(tensors, folder / "head.safetensors")
    facts = {
        "labels": list(head.labels),
        "is_set": head.is_set,
        "n_layers": len(head.network),
        "cut": rule.cut,
        "at_least": rule.at_least,
        "at_most": rule.at_most,
        "answer_scale": rule.answer_scale,
        "answer_shift": rule.answer_shift,
        "threshold": rule.threshold,
        "right_below": rule.right_below,
        "out_of_scope": out_of_scope,
        "embedder": embedder,
        "input_fields": list(input_fields),
        "field": field,
    }
    (folder / "head.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (folder / "classify.py").write_text(_PROGRAM, encoding="utf-8")


# ---- private --------------------------------------------------------------------------------------------------------

_PROGRAM: Final = '''"""Answer with an exported head: numpy and safetensors are all it needs."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


class Classifier:
    def __init__(self, folder):
        self.facts = json.loads((Path(folder) / "head.json").read_text(encoding="utf-8"))
        self.tensors = load_file(Path(folder) / "head.safetensors")

    def probabilities(self, embedding):
        """Probability of each label; they sum to 1 unless an answer is a set of labels."""
        x = np.asarray(embedding, np.float32)
        for number in range(self.facts["n_layers"]):
            x = np.maximum(x, 0) if number else x
            x = x @ self.tensors[f"weights_{number}"].T + self.tensors[f"bias_{number}"]
        z = x.astype(np.float64) * self.tensors["scale"] + self.tensors["shift"]
        if self.facts["is_set"]:
            return 1 / (1 + np.exp(-z))
        e = np.exp(z - z.max())
        return e / e.sum()

    def answer(self, embedding):
        """Labels, or None where it is not sure enough, and the probability that this is right."""
        facts, p = self.facts, self.probabilities(embedding)
        order = np.argsort(-p, kind="stable")
        if facts["is_set"]:
            n = max(int((p >= facts["cut"]).sum()), int(facts["at_least"]))
            n = n if facts["at_most"] is None else min(n, facts["at_most"])
            given = np.isin(np.arange(len(p)), order[:n])
            own = np.prod(np.where(given, p, 1 - p))
        else:
            given = np.arange(len(p)) == order[0]
            own = p.max()
        labels = [label for label, one in zip(facts["labels"], given) if one]
        own = np.clip(own, 1e-6, 1 - 1e-6)
        z = facts["answer_scale"] * np.log(own / (1 - own)) + facts["answer_shift"]
        confidence = float(1 / (1 + np.exp(-z)))
        instead = facts["out_of_scope"]
        if facts["threshold"] is None or confidence >= facts["threshold"] or labels == [instead]:
            return labels, confidence
        return ([instead], facts["right_below"]) if instead is not None else (None, 0.0)
'''

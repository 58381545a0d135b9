"""DSPy on one job: `Predict` under `Evaluate`, its memory and disk cache on, as they are by default.

The stub answers in the layout that DSPy's default adapter asks models for.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.workloads import INSTRUCTION, MAX_TOKENS, measured, read_job

job = read_job()
os.environ["DSPY_CACHEDIR"] = job.folder  # read on import; an older cache must not answer

import dspy


def same_category(example: Any, prediction: Any, trace: object = None) -> bool:  # noqa: ANN401 - DSPy's types
    return bool(example.category == prediction.category)


if __name__ == "__main__":
    with measured() as tally:
        dspy.configure(
            lm=dspy.LM("openai/stub", api_base=job.url, api_key="none", temperature=0.0, max_tokens=MAX_TOKENS)
        )
        program = dspy.Predict(dspy.Signature("ticket: str -> category: str", INSTRUCTION))
        examples = [dspy.Example(ticket=text, category=label).with_inputs("ticket") for _, text, label in job.tickets()]
        result = dspy.Evaluate(devset=examples, metric=same_category, num_threads=job.in_flight)(program)
        tally.n_right = sum(bool(right) for _, _, right in result.results)

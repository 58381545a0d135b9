"""Inspect on one job: system message, generate, exact match; its log on, as it is by default."""

from __future__ import annotations

from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import match
from inspect_ai.solver import generate, system_message

from benchmarks.workloads import INSTRUCTION, LABELS, MAX_TOKENS, measured, read_job

if __name__ == "__main__":
    job = read_job()
    with measured() as tally:
        config = GenerateConfig(max_connections=job.in_flight, max_tokens=MAX_TOKENS, temperature=0.0)
        model = get_model("openai-api/stub/stub", base_url=job.url, api_key="none", config=config)
        samples = [Sample(id=name, input=text, target=label) for name, text, label in job.tickets()]
        prompt = system_message(f"{INSTRUCTION}\n\nThe allowed answers: {', '.join(LABELS)}")
        (log,) = inspect_eval(
            Task(dataset=MemoryDataset(samples), solver=[prompt, generate()], scorer=match("exact")),
            model=model,
            max_samples=job.in_flight,
            log_dir=job.folder,
            display="none",
        )
        tally.n_right = sum(sample.scores["match"].value == "C" for sample in log.samples)

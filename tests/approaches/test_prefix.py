"""What stays the same is said first and unchanged, so that providers and llama.cpp find it in their caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from steelyard.approaches.prepare import prepare
from steelyard.approaches.spec import ApproachSpec
from steelyard.cases.case import CaseInput
from steelyard.models.calls import ChatRequest
from steelyard.models.chat_format import request_fields
from steelyard.models.http import local
from steelyard.models.local_server import serve_local
from steelyard.models.weights import SMOLLM2_135M_INSTRUCT, fetch
from tests.approaches.test_workflow import HEAD, LINES, RIGHT, SPLIT, SUMS, ByStep, bench
from tests.approaches.world import workbench
from tests.engine.fakes import CPU

ONE, TWO = (CaseInput(id=text, fields={"text": text}) for text in ("Acme: 4 + 6", "Bolt: 9"))
FLOWS: dict[str, dict[str, Any]] = {
    "one prompt": {"prompt": {"examples": 1, "enforce_schema": True}},
    "split": {"prompt": {"examples": 1}, "workflow": {"split": SPLIT}},
    "vote": {"workflow": {"steps": {"v": {"prompt": {"system": "Read it."}, "vote": 2}}}},
    "steps": {
        "workflow": {
            "steps": {
                "a": {"prompt": {"examples": 1}, "fields": ["vendor"]},
                "b": {"prompt": {"system": "Vendor is known.", "user": "{{ steps.a.vendor }}: {{ text }}"}},
            }
        }
    },
}
ANSWERS = {
    "answer": [RIGHT], "head": [HEAD], "sums": [SUMS], "lines": [LINES], "a": [HEAD], "v": [RIGHT], "b": [RIGHT],
}  # fmt: skip


@pytest.mark.parametrize("name", FLOWS)
async def test_requests_of_a_step_are_the_same_bytes_up_to_the_case(tmp_path: Path, name: str) -> None:
    """For every step of a workflow: system message and examples are the same, and only the last message differs."""
    approach = prepare("flow", ApproachSpec.model_validate(FLOWS[name]), bench(tmp_path)).approach
    asked = []
    for case in (ONE, TWO):
        ask = ByStep(ANSWERS)
        await approach.answer(case, ask)
        asked.append(sorted(ask.asked, key=lambda one: one[0]))
    assert [step for step, *_ in asked[0]] == [step for step, *_ in asked[1]]
    for (_, _, one), (_, _, two) in zip(*asked, strict=True):
        assert one.messages[0].role == "system"
        assert one.messages[:-1] == two.messages[:-1]
        assert one.messages[-1] != two.messages[-1]
        first, second = (orjson.dumps(request_fields(request, native_schema=True)) for request in (one, two))
        before = first.index(orjson.dumps(one.messages[-1].content)[1:-1])
        assert first[: before - 1] == second[: before - 1]


@pytest.mark.model
async def test_the_local_model_reads_a_static_prefix_once(tmp_path: Path) -> None:
    """Of consecutive calls of one approach only the case is read anew; the server says how much was cached."""
    spec = ApproachSpec.model_validate({"prompt": {"examples": 6}})
    prompting = prepare("few", spec, workbench(tmp_path)).approach.question.prompting  # type: ignore[attr-defined]
    with serve_local(fetch(SMOLLM2_135M_INSTRUCT), n_parallel=1, log_file=tmp_path / "server.log") as server:
        endpoint = local(
            "local", base_url=server.base_url, identity="tiny", price=CPU, adapter_ids={}, key=server.api_key
        )
        shares = []
        for case in (ONE, TWO, ONE):
            request = ChatRequest(endpoint="local", messages=prompting.converse(case).messages, max_tokens=4)
            response = await endpoint.send(request, timeout_s=120)
            shares.append((response.cached_tokens or 0) / (response.prompt_tokens or 1))
        await endpoint.close()
    assert shares[0] < 0.2
    assert min(shares[1:]) > 0.8

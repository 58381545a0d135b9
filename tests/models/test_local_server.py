"""The local model answers on the loopback interface, and is gone when its run is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steelyard.errors import InputError
from steelyard.figures import Provenance
from steelyard.models.calls import AttemptStatus, ChatRequest, Message
from steelyard.models.endpoint import Price
from steelyard.models.http import local
from steelyard.models.local_server import LocalServer, lora_field, serve_local
from steelyard.models.weights import SMOLLM2_135M_INSTRUCT, fetch
from steelyard.task.json_schema import why_not_enforceable

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def gguf() -> Path:
    return fetch(SMOLLM2_135M_INSTRUCT)


@pytest.fixture(scope="module")
def server(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """One server with two adapters of random numbers."""
    folder = tmp_path_factory.mktemp("server")
    adapters = [write_adapter(folder / f"{seed}.gguf", seed) for seed in (1, 2)]
    with serve_local(
        gguf, adapters=adapters, n_ctx_per_slot=512, n_parallel=1, log_file=folder / "logs" / "server.log"
    ) as running:
        yield running


def write_adapter(path: Path, seed: int) -> Path:
    from gguf import GGUFWriter

    rng = np.random.default_rng(seed)
    writer = GGUFWriter(str(path), "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    for layer in range(30):
        name = f"blk.{layer}.attn_q.weight"
        writer.add_tensor(f"{name}.lora_a", rng.normal(scale=0.08, size=(8, 576)).astype(np.float32))
        writer.add_tensor(f"{name}.lora_b", rng.normal(scale=0.08, size=(576, 8)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def chat(server: LocalServer, question: str = QUESTION, **fields: object) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 8, "temperature": 0, **fields}
    request = urllib.request.Request(
        f"{server.base_url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {server.api_key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return dict(json.load(response))


def text(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


@pytest.mark.model
class TestServing:
    def test_a_chat_comes_back_with_its_usage(self, server: LocalServer) -> None:
        """An answer says how many tokens went in and out, and repeats word for word at temperature 0."""
        answer = chat(server, lora=server.lora(None))
        assert text(answer)
        assert answer["usage"]["prompt_tokens"] > 30
        assert answer["usage"]["completion_tokens"] == 8
        assert text(chat(server, lora=server.lora(None))) == text(answer)

    def test_an_output_schema_is_kept(self, server: LocalServer) -> None:
        """With a schema the answer is valid, from a model that never is by itself."""
        schema = {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": ["card", "cash"]}},
            "required": ["label"],
            "additionalProperties": False,
        }
        form = {"type": "json_schema", "json_schema": {"name": "output", "strict": True, "schema": schema}}
        answer = json.loads(text(chat(server, response_format=form, max_tokens=40)))
        assert answer["label"] in ("card", "cash")
        assert len(answer) == 1

    async def test_a_schema_it_cannot_enforce_is_refused_under_its_own_name(self, server: LocalServer) -> None:
        """What llama.cpp says of such a schema is understood, so that the question can be asked without it."""
        schema = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}}
        assert why_not_enforceable(schema) is not None
        price = Price(cpu_hour_usd=0.05, provenance=Provenance(kind="assumed", source="test"))
        ids = {str(path): number for path, number in server.adapter_ids.items()}
        endpoint = local(
            "local", base_url=server.base_url, identity="m", price=price, adapter_ids=ids, key=server.api_key
        )
        asked = ChatRequest(
            endpoint="local", messages=(Message("user", QUESTION),), max_tokens=4, response_schema=schema
        )
        response = await endpoint.send(asked, timeout_s=60)
        await endpoint.close()
        assert response.status is AttemptStatus.SCHEMA_REFUSED
        assert "unsupported $ref" in str(response.error)

    def test_a_prompt_that_begins_the_same_is_read_once_for_each_adapter(self, server: LocalServer) -> None:
        """Consecutive calls of one approach find their prefix cached; after a switch of adapters nothing is reused."""
        prefix = "You sort tickets of a bank into categories. " * 12
        one, two = (server.lora(path) for path in server.adapter_ids)

        def cached(lora: list[dict[str, Any]], ticket: str) -> int:
            usage = chat(server, f"{prefix}{ticket}", lora=lora)["usage"]
            return int(usage["prompt_tokens_details"]["cached_tokens"])

        cached(one, "my card is gone")
        assert cached(one, "a payment is missing") > 100
        assert cached(two, "a payment is missing") < 10
        assert cached(two, "I cannot log in") > 100

    def test_it_listens_on_the_loopback_interface_only(self, server: LocalServer) -> None:
        """The address is 127.0.0.1, and so is the socket."""
        assert server.base_url.startswith("http://127.0.0.1:")
        port = int(server.base_url.split(":")[2].split("/")[0])
        sockets = Path("/proc/net/tcp")
        if sockets.exists():
            listening = [row.split()[1] for row in sockets.read_text().splitlines()[1:] if row.split()[3] == "0A"]
            assert [one for one in listening if one.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]

    def test_the_log_says_what_was_started(self, server: LocalServer) -> None:
        """The log file names the library and the settings, and not the key."""
        log = server.log_file.read_text()
        assert "xllamacpp" in log
        assert server.api_key not in log

    def test_nobody_without_the_key_is_answered(self, server: LocalServer) -> None:
        """A web page that reaches the port through a rebound host name has no key, so it learns nothing."""
        stranger = replace(server, api_key="guessed")
        with pytest.raises(urllib.error.HTTPError) as caught:
            chat(stranger)
        with caught.value as refused:
            assert refused.code == 401

    def test_a_prompt_over_the_context_is_refused(self, server: LocalServer) -> None:
        """It is not cut silently: status 400, with both numbers."""
        with pytest.raises(urllib.error.HTTPError) as caught:
            chat(server, "word " * 900)
        said = json.loads(caught.value.read())["error"]
        caught.value.close()
        assert caught.value.code == 400
        assert said["type"] == "exceed_context_size_error"
        assert said["n_prompt_tokens"] > said["n_ctx"] == 512

    def test_no_adapter_leaves_a_trace_in_the_next_answer(self, server: LocalServer) -> None:
        """Prompt states cached under one adapter, or under none, are never used under another."""
        picks = [None, *server.adapter_ids]

        def first_token(pick: Path | None, *, cached: bool) -> tuple[str, float]:
            answer = chat(server, lora=server.lora(pick), max_tokens=1, logprobs=True, cache_prompt=cached)
            return text(answer), answer["choices"][0]["logprobs"]["content"][0]["logprob"]

        expected = {pick: first_token(pick, cached=False) for pick in picks}
        assert len({logprob for _, logprob in expected.values()}) == 3
        for pick in [picks[i] for i in (1, 0, 2, 0, 0, 1, 2, 2, 0, 1, 1, 0)]:
            token, logprob = first_token(pick, cached=True)
            assert token == expected[pick][0]
            assert logprob == pytest.approx(expected[pick][1], abs=0.01)

    def test_a_prompt_that_comes_back_under_another_adapter_is_read_anew(self, server: LocalServer) -> None:
        """llama.cpp's cache of prompts in main memory, which forgets the adapter, is off in the server that ships.

        It holds what other prompts have displaced: asked under one adapter, displaced, then asked under the other, the same
        prompt would be answered from the first one's state.
        """
        sort = "You sort tickets of a bank into categories. " * 12
        rivers = "Name all rivers of the continent, and their springs. " * 12
        one, two = (server.lora(path) for path in server.adapter_ids)

        def asked(prompt: str, lora: list[dict[str, Any]], *, cached: bool) -> tuple[float, int]:
            answer = chat(server, prompt, lora=lora, max_tokens=1, logprobs=True, cache_prompt=cached)
            logprob = float(answer["choices"][0]["logprobs"]["content"][0]["logprob"])
            return logprob, int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])

        expected, _ = asked(sort, two, cached=False)
        asked(sort, one, cached=True)
        asked(rivers, one, cached=True)
        asked(rivers[::-1], two, cached=True)
        logprob, n_cached = asked(sort, two, cached=True)
        assert n_cached < 40  # what the chat template begins every prompt with
        assert logprob == pytest.approx(expected, abs=0.01)

    def test_the_bare_base_model_is_untouched_by_loaded_adapters(self, server: LocalServer, gguf: Path) -> None:
        """Picking no adapter gives the same probabilities as a server without any."""
        with serve_local(gguf, n_ctx_per_slot=512, n_parallel=1, log_file=server.log_file) as plain:
            assert plain.lora(None) == []
            bare = chat(plain, logprobs=True, cache_prompt=False)
        loaded = chat(server, lora=server.lora(None), logprobs=True, cache_prompt=False)
        assert text(bare) == text(loaded)
        logprobs = [
            [one["logprob"] for one in answer["choices"][0]["logprobs"]["content"]] for answer in (bare, loaded)
        ]
        assert logprobs[0] == pytest.approx(logprobs[1], abs=1e-4)


@pytest.mark.model
class TestEnding:
    def test_gone_when_the_block_ends(self, gguf: Path, tmp_path: Path) -> None:
        """Also when it ends with an error."""
        pids = []

        def fail_while_serving() -> None:
            with serve_local(gguf, n_ctx_per_slot=256, n_parallel=1, log_file=tmp_path / "log") as server:
                pids.append(server.pid)
                assert is_running(server.pid)
                raise RuntimeError("the run failed")

        with pytest.raises(RuntimeError, match="the run failed"):
            fail_while_serving()
        assert not is_running(pids[0])

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs kill -9")
    @pytest.mark.parametrize("leave_a_fork", [False, True])
    def test_gone_when_the_run_is_killed(self, gguf: Path, tmp_path: Path, leave_a_fork: bool) -> None:
        """After kill -9 of the run no server is left, even if a process the run forked lives on."""
        script = f"""
import os, time
from pathlib import Path
from steelyard.models.local_server import serve_local
with serve_local(Path({str(gguf)!r}), n_ctx_per_slot=256, n_parallel=1, log_file=Path({str(tmp_path / "log")!r})) as s:
    fork = os.fork() if {leave_a_fork} else -1
    if fork:
        print(s.pid, fork, flush=True)
    time.sleep(60)
"""
        run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None
        pid, fork = (int(word) for word in run.stdout.readline().split())
        try:
            assert is_running(pid)
            run.kill()
            run.wait()
            assert wait_until_gone(pid)
        finally:
            run.stdout.close()
            if fork > 0:
                os.kill(fork, signal.SIGKILL)


class TestBadFiles:
    def test_missing(self, tmp_path: Path) -> None:
        """The sentence names the file."""
        with (
            pytest.raises(InputError, match=r"none\.gguf: the model file cannot be read"),
            serve_local(tmp_path / "none.gguf", log_file=tmp_path / "log"),
        ):
            pass

    def test_something_else(self, tmp_path: Path) -> None:
        """A file of another kind is refused before anything is started."""
        (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04 a zip")
        with (
            pytest.raises(InputError, match="not a GGUF"),
            serve_local(tmp_path / "model.gguf", log_file=tmp_path / "log"),
        ):
            pass
        assert not (tmp_path / "log").exists()

    @pytest.mark.model
    def test_cut_short(self, gguf: Path, tmp_path: Path) -> None:
        """A damaged model gets a sentence with the end of the log, not a hanging run."""
        with gguf.open("rb") as whole:
            (tmp_path / "cut.gguf").write_bytes(whole.read(1_000_000))
        with (
            pytest.raises(InputError, match=r"cannot load cut\.gguf") as caught,
            serve_local(tmp_path / "cut.gguf", log_file=tmp_path / "log"),
        ):
            pass
        assert "Failed to init server" in str(caught.value)


def test_every_request_names_all_adapters() -> None:
    """One is on at most; for the bare base model one is on without effect, which makes llama.cpp drop its states."""
    assert lora_field([], None) == []
    assert lora_field([0, 1], 0) == [{"id": 0, "scale": 1.0}, {"id": 1, "scale": 0.0}]
    assert lora_field([0, 1], None)[0]["scale"] > 0

"""A real HTTP server on 127.0.0.1 that tunes models as the OpenAI format has it, its failures included.

It keeps files, jobs and events, checks the format of training files as hosts do, and answers chat with whatever model is
asked for. What goes wrong is scripted by route: `server.faults["POST /files"] = [429, 500, "drop"]` spoils the next three
uploads. `"kept"` does what was asked and then breaks off without an answer.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-local-test-0123456789abcdef"


@dataclass(kw_only=True)
class TuningServer:
    """State of the host; change it while it runs."""

    key: str | None = KEY
    statuses: tuple[str, ...] = ("validating_files", "running", "succeeded")
    """How a job is, poll after poll; the last one stays."""
    error: dict[str, Any] | None = None
    trained_tokens: int | None = 1_000
    faults: dict[str, list[int | str]] = field(default_factory=lambda: defaultdict(list))
    bad_files: tuple[str, ...] = ()
    """Parts of names of files that are rejected after a look at them."""
    page: int = 100
    """Most entries of a list."""
    has_jobs_list: bool = True
    reply: str = "billing"
    on_chat: Callable[[str, str], str | None] = lambda model, said: None
    """What a model answers to the last thing said; `None` for `reply`."""
    on_create: Callable[[], None] = lambda: None
    """Called when a job has been made, before that is answered."""
    on_poll: Callable[[], None] = lambda: None
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Name and content by id."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    n_polls: Counter[str] = field(default_factory=Counter)
    requests: list[str] = field(default_factory=list)
    models_asked: Counter[str] = field(default_factory=Counter)
    idempotency_keys: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """The `base_url` to give to a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    # ---- what the host does -------------------------------------------------------------------------------------

    def upload(self, content: bytes, content_type: str) -> tuple[int, dict[str, Any]]:
        boundary = content_type.split("boundary=")[1].strip('"').encode()
        parts: dict[str, tuple[str, bytes]] = {}
        for part in content.split(b"--" + boundary)[1:-1]:
            head, _, body = part.partition(b"\r\n\r\n")
            names = dict(piece.strip().split("=", 1) for piece in head.decode().split(";") if "=" in piece)
            name = names["name"].split("\r\n")[0].strip('"')
            parts[name] = (names.get("filename", "").split("\r\n")[0].strip('"'), body.removesuffix(b"\r\n"))
        if parts["purpose"][1] != b"fine-tune":
            return 400, {"error": {"message": "purpose must be fine-tune"}}
        file_id = f"file-{len(self.files) + 1}"
        self.files[file_id] = parts["file"]
        return 200, self.file(file_id)

    def file(self, file_id: str) -> dict[str, Any]:
        name, content = self.files[file_id]
        problem = problem_of(content)
        if any(part in name for part in self.bad_files):
            problem = "Line 3 has no assistant message"
        return {
            "id": file_id,
            "object": "file",
            "filename": name,
            "status": "error" if problem else "processed",
            "status_details": problem,
        }

    def create(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["training_file"] not in self.files:
            return 400, {"error": {"message": "invalid training_file", "param": "training_file"}}
        job_id = f"ftjob-{len(self.jobs) + 1}"
        self.jobs[job_id] = {
            "id": job_id,
            "object": "fine_tuning.job",
            "model": body["model"],
            "created_at": 1_790_000_000,
            "finished_at": None,
            "fine_tuned_model": None,
            "status": "validating_files",
            "error": None,
            "trained_tokens": None,
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
            "metadata": body.get("metadata"),
            "method": body.get("method"),
            "hyperparameters": body.get("hyperparameters"),
            "suffix": body.get("suffix"),
        }
        return 200, self.jobs[job_id]

    def poll(self, job_id: str) -> tuple[int, dict[str, Any]]:
        if job_id not in self.jobs:
            return 404, {"error": {"message": f"no job {job_id}"}}
        job = self.jobs[job_id]
        if job["status"] not in ("cancelled", "succeeded", "failed", "expired"):
            job["status"] = self.statuses[min(self.n_polls[job_id], len(self.statuses) - 1)]
            self.n_polls[job_id] += 1
            if job["status"] in ("succeeded", "failed", "expired", "cancelled"):
                job["finished_at"] = job["created_at"] + 90
                job["error"] = self.error
            if job["status"] == "succeeded":
                job["fine_tuned_model"] = f"ft:{job['model']}:{job['suffix']}:{job_id}"
                job["trained_tokens"] = self.trained_tokens
        return 200, job

    def events(self) -> list[dict[str, Any]]:
        """Newest first, as hosts list them."""
        steps = [
            {
                "id": f"ev-{step}",
                "created_at": 1_790_000_000 + step,
                "level": "info",
                "message": f"Step {step}: training loss={1 / step:.2f}",
                "data": {"step": step, "train_loss": 1 / step},
            }
            for step in range(1, 6)
        ]
        return steps[::-1]


def problem_of(content: bytes) -> str | None:
    """What a host would object to in a training file."""
    for number, line in enumerate(content.splitlines(), start=1):
        shape = json.loads(line)
        if "input" in shape:
            turns = [*shape["input"]["messages"], *shape["preferred_output"]]
            is_right = len(shape["non_preferred_output"]) == 1
        else:
            turns, is_right = shape["messages"], True
        if not is_right or turns[-1]["role"] != "assistant" or not turns[-1]["content"]:
            return f"Line {number} has no assistant message"
    return None if content else "the file is empty"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: TuningServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def _handle(self, method: str) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = self._chunks()
        path, _, query = self.path.removeprefix("/v1").partition("?")
        pieces = path.strip("/").split("/")
        route = f"{method} /{'/'.join('ID' if '-' in piece else piece for piece in pieces)}"
        state = self.state
        state.requests.append(route)
        fault = state.faults[route].pop(0) if state.faults[route] else None
        if isinstance(fault, int):
            said = {"error": {"message": f"no ({fault}), you with {self.headers.get('Authorization')}"}}
            self._answer(fault, said, retry_after="0.01")
            return
        if fault != "drop":
            if state.key is not None and self.headers.get("Authorization") != f"Bearer {state.key}":
                said = {"error": {"message": f"Incorrect API key: {self.headers.get('Authorization')}"}}
                self._answer(401, said)
                return
            answer = self._do(route, pieces, query, content)
        if fault is not None:
            self.close_connection = True
            return
        self._answer(*answer)

    def _do(self, route: str, pieces: list[str], query: str, content: bytes) -> tuple[int, dict[str, Any]]:
        state = self.state
        match route:
            case "POST /files":
                return state.upload(content, self.headers["Content-Type"])
            case "GET /files/ID":
                return 200, state.file(pieces[1])
            case "POST /fine_tuning/jobs":
                state.idempotency_keys.append(self.headers.get("Idempotency-Key", ""))
                answer = state.create(json.loads(content))
                state.on_create()
                return answer
            case "GET /fine_tuning/jobs" if state.has_jobs_list:
                return 200, self._page(list(state.jobs.values())[::-1], query)
            case "GET /fine_tuning/jobs/ID":
                state.on_poll()
                return state.poll(pieces[2])
            case "GET /fine_tuning/jobs/ID/events":
                return 200, self._page(state.events(), query)
            case "POST /fine_tuning/jobs/ID/cancel":
                state.jobs[pieces[2]]["status"] = "cancelled"
                return 200, state.jobs[pieces[2]]
            case "POST /chat/completions":
                asked = json.loads(content)
                state.models_asked[asked["model"]] += 1
                said = state.on_chat(asked["model"], asked["messages"][-1]["content"])
                message = {"role": "assistant", "content": state.reply if said is None else said}
                usage = {"prompt_tokens": 20, "completion_tokens": 2}
                return 200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        return 404, {"error": {"message": f"no route {route}"}}

    def _page(self, entries: list[dict[str, Any]], query: str) -> dict[str, Any]:
        options = dict(piece.split("=", 1) for piece in query.split("&") if piece)
        ids = [entry["id"] for entry in entries]
        start = ids.index(options["after"]) + 1 if "after" in options else 0
        end = start + min(int(options.get("limit", 20)), self.state.page)
        return {"object": "list", "data": entries[start:end], "has_more": end < len(entries)}

    def _chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer(self, status: int, body: dict[str, Any], *, retry_after: str | None = None) -> None:
        packed = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(packed)))
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(packed)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed break connections off; that is what is tested."""


@contextlib.contextmanager
def tuning(**settings: Any) -> Iterator[TuningServer]:  # noqa: ANN401 - whatever a host can be told
    """A host in threads of its own."""
    state = TuningServer(**settings)
    handler = type("Handler", (_Handler,), {"state": state})
    server = _Server(("127.0.0.1", 0), handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)

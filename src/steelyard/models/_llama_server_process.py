"""The child process that holds llama.cpp: `python -m steelyard.models._llama_server_process`.

It reads its settings as one JSON line from standard input, writes the address it listens on as one JSON line to standard
output, and ends when standard input does: that happens whenever the parent closes it, exits, crashes or is killed with
`kill -9`. Everything else it or the library says goes to standard error, which is the log.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any


def main() -> None:
    """Serve until the parent is gone."""
    # Ctrl-C reaches every process of the terminal; the parent stops this one when it has finished its own work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints belongs into the log, not between us and the parent
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_the_parent, args=(parent,), daemon=True).start()
    server = _start(settings)
    print(json.dumps({"address": server.listening_address}), file=answer, flush=True)
    sys.stdin.read()
    # Not a plain return: the library's threads may be in the middle of an answer nobody waits for.
    os._exit(0)


def _leave_with_the_parent(parent: int) -> None:
    """Watch the parent from the side too: a process it forked may keep our standard input open after its death.

    Not PR_SET_PDEATHSIG, which fires when the *thread* that started us ends.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _start(settings: dict[str, Any]) -> Any:  # noqa: ANN401 - xllamacpp has no types
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["gguf"]
    # Loaded at scale 0: a request that names no adapter is answered by the base model.
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in settings["adapters"]]
    params.n_ctx = settings["n_ctx_per_slot"] * settings["n_parallel"]
    params.n_parallel = settings["n_parallel"]
    params.fit_params = False  # take the context asked for, do not guess one from free memory
    params.cpuparams.n_threads = settings["n_threads"]
    params.cpuparams_batch.n_threads = settings["n_threads"]
    params.n_gpu_layers = 0
    # The cache of prompts in main memory forgets which adapter made them.
    params.cache_ram_mib = 0
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cors_origins = ""  # no web page may read answers
    params.api_keys = [settings.pop("api_key")]  # llama.cpp does not check Host; the key keeps everyone else out
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = -1
    started = time.monotonic()
    server = xllamacpp.Server(params)
    sys.stderr.write(
        f"xllamacpp {xllamacpp.__version__} serves {settings} on {server.listening_address}, "
        f"loaded in {time.monotonic() - started:.1f} s\n"
    )
    sys.stderr.flush()
    return server


if __name__ == "__main__":
    main()

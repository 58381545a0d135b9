"""Threads for a model this small: one batch a thread, and few threads inside an operation.

PyTorch's own way of dividing every operation over the cores makes all of them wait for the slowest some hundred times
a second; on two cores it gains nothing, and on a busy machine it loses a lot.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def shard_threads(n_shards: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of up to one thread a shard, the cores shared out among them; PyTorch's own setting is put back."""
    import torch

    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(cores // n_shards, 8)))
    try:
        with ThreadPoolExecutor(max_workers=min(cores, n_shards), thread_name_prefix="lora") as pool:
            yield pool
    finally:
        torch.set_num_threads(before)

"""The embedded model and embedder of a study: where their weights are, what they cost, how they are served."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from steelyard.approaches.tuning.hf_folder import convert_folder, folder_digest
from steelyard.engine.limits import ManagedEndpoint
from steelyard.errors import InputError, Problem
from steelyard.figures import Provenance
from steelyard.models.embeddings import Embed
from steelyard.models.endpoint import Price
from steelyard.models.http import local
from steelyard.models.local_server import available_cores
from steelyard.models.spec import LocalModelSpec
from steelyard.models.weights import SMOLLM2_135M_INSTRUCT, cache_folder, fetch

SLOTS = 1
"""Calls the local server works on at the same time. On a CPU more of them share the same cores: as many answers per
second, each one later, and seconds that no longer say what a call costs."""


def identity(spec: LocalModelSpec, folder: Path) -> str:
    """Name and weight digest of the model, without fetching it.

    Raises:
        InputError: The GGUF file or folder named in study.yaml is not there.
    """
    if spec.folder is not None:
        model = _own_folder(spec.folder, folder)
        return f"{model.resolve().name} {folder_digest(model)[:12]}"
    if spec.gguf is None:
        return f"{SMOLLM2_135M_INSTRUCT.name} {SMOLLM2_135M_INSTRUCT.sha256[:12]}"
    path = _own_gguf(spec.gguf, folder)
    return f"{path.name} {_sha256(path)[:12]}"


def gguf(spec: LocalModelSpec, folder: Path, say: Callable[[str], None]) -> Path:
    """The model's weights, fetched once if they are the pinned ones, converted once if they are a folder."""
    if spec.folder is not None:
        return convert_folder(_own_folder(spec.folder, folder), into=cache_folder() / "converted", say=say)
    if spec.gguf is not None:
        return _own_gguf(spec.gguf, folder)
    return fetch(SMOLLM2_135M_INSTRUCT, progress=_bytes_line("fetching the local model", say))


def embedder(say: Callable[[str], None]) -> Embed:
    """The sentence embedder, its weights fetched once; texts several approaches learn from are embedded once."""
    from steelyard.models.embeddings import Remembering, load_embedder

    return Remembering(load_embedder(progress=_bytes_line("fetching the embedding model", say)))


def price(spec: LocalModelSpec, *, cores: int) -> Price:
    """Measured seconds on all cores times an assumed price of a core."""
    written = "cpu_hour_usd" in spec.model_fields_set
    where = "study.yaml: models.local.cpu_hour_usd" if written else "default of models.local.cpu_hour_usd"
    return Price(cpu_hour_usd=spec.cpu_hour_usd * cores, provenance=Provenance(kind="assumed", source=where))


@contextmanager
def serving(
    spec: LocalModelSpec,
    folder: Path,
    *,
    adapters: Mapping[str, Path],
    log_file: Path,
    say: Callable[[str], None],
) -> Iterator[ManagedEndpoint]:
    """Serve the model with its adapters for as long as the block lasts.

    Args:
        spec: The model.
        folder: The study folder, which a relative `gguf` starts from.
        adapters: GGUF adapters by digest.
        log_file: Where the server's log goes.
        say: Shows a line of progress.
    """
    from steelyard.models.local_server import serve_local

    weights = gguf(spec, folder, say)
    say("starting the local model")
    with serve_local(
        weights,
        adapters=list(adapters.values()),
        n_ctx_per_slot=spec.context_tokens,
        n_parallel=SLOTS,
        log_file=log_file,
    ) as server:
        ids = {digest: server.adapter_ids[path] for digest, path in adapters.items()}
        yield managed_local(spec, folder, base_url=server.base_url, adapter_ids=ids, key=server.api_key)


def managed_local(
    spec: LocalModelSpec, folder: Path, *, base_url: str, adapter_ids: Mapping[str, int], key: str | None = None
) -> ManagedEndpoint:
    """The endpoint of a local server."""
    return ManagedEndpoint(
        endpoint=local(
            "local",
            base_url=base_url,
            identity=identity(spec, folder),
            price=price(spec, cores=available_cores()),
            adapter_ids=adapter_ids,
            key=key,
            context_tokens=spec.context_tokens,
            concurrency=SLOTS,
        ),
        concurrency=SLOTS,
        timeout_s=spec.timeout_s,
        max_retries=1,
    )


def unstarted(spec: LocalModelSpec, folder: Path) -> ManagedEndpoint:
    """The local endpoint where no server runs: good for identity, price and replays; a call finds nobody there."""
    return managed_local(spec, folder, base_url="http://127.0.0.1:9/v1", adapter_ids={})


# Private


def _own_gguf(name: str, folder: Path) -> Path:
    path = (folder / name).expanduser()
    if not path.is_file():
        raise InputError(
            Problem(
                where="study.yaml:models.local.gguf",
                what=f"there is no file {str(path)!r}",
                hint="give a path relative to the study folder, or leave it out for the embedded model",
            )
        )
    return path


def _own_folder(name: str, folder: Path) -> Path:
    path = (folder / name).expanduser()
    if not path.is_dir():
        raise InputError(
            Problem(
                where="study.yaml:models.local.folder",
                what=f"there is no folder {str(path)!r}",
                hint="give a path relative to the study folder, or leave it out for the embedded model",
            )
        )
    return path


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bytes_line(what: str, say: Callable[[str], None]) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        share = f" ({done / total:.0%})" if total else ""
        say(f"{what}: {done / 1e6:.0f} of {total / 1e6:.0f} MB{share}")

    return show

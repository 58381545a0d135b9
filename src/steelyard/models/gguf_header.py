"""The header of a GGUF file, read without a library: what it says of itself and the shapes of its tensors.

Enough to refuse an adapter that was made for another base before any server is started with it. Arrays (vocabularies)
are skipped. Source: the GGUF specification, versions 2 and 3, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from steelyard.errors import InputError, Problem

BASE_SHA256_KEY: Final = "steelyard.base_sha256"
"""In an adapter: SHA-256 of the base model's file it was trained on."""

_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING: Final = 8
_ARRAY: Final = 9
_BYTES_PER_VALUE: Final = {0: 4, 1: 2}  # float32, float16: what adapters are stored in
_ALIGNMENT: Final = 32
_MOST_DIMENSIONS: Final = 4
_LONGEST_NAME: Final = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself."""

    facts: Mapping[str, str | float | int | bool]
    """Metadata by key, arrays left out."""
    shapes: Mapping[str, tuple[int, ...]]
    """Sizes by tensor name in the order of the file: the input size of a matrix comes first."""


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        InputError: The file cannot be read, is no GGUF file, is damaged or was cut short.
    """
    try:
        with path.open("rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        what = f"the model file cannot be read: {error.strerror}"
        raise InputError(Problem(what=what, where=str(path), hint="check the path")) from error
    except (ValueError, struct.error, OverflowError) as error:
        what = f"the GGUF file is damaged or was cut short ({error})"
        hint = "make it again: delete its folder to train it again, or fetch it again"
        raise InputError(Problem(what=what, where=str(path), hint=hint)) from error


def check_adapter(adapter: Path, base: Path) -> None:
    """Refuse an adapter that cannot be, or was not, made for a base model.

    Args:
        adapter: A LoRA in GGUF.
        base: The model it shall be added to.

    Raises:
        InputError: One of the files is damaged, the first is no adapter, or it belongs to another base.
    """
    added, model = read_gguf_header(adapter), read_gguf_header(base)
    if added.facts.get("general.type") != "adapter" or added.facts.get("adapter.type") != "lora":
        raise _refused(adapter, "the file is a GGUF file, but no LoRA adapter", "give the adapter.gguf of a training")
    architectures = [header.facts.get("general.architecture") for header in (added, model)]
    if architectures[0] != architectures[1]:
        what = f"the adapter is for models of the kind {architectures[0]!r}, and {base.name} is {architectures[1]!r}"
        raise _refused(adapter, what, _TRAIN_AGAIN)
    for name, sizes in added.shapes.items():
        target, _, factor = name.rpartition(".")
        found = model.shapes.get(target)
        # GGUF names the input size first: lora_a is (in, rank), lora_b (rank, out), their matrix (in, out).
        side = 1 if factor == "lora_b" else 0
        fits = found is not None and len(sizes) == len(found) == 2 and sizes[side] == found[side]
        if factor not in ("lora_a", "lora_b") or not fits:
            what = f"the adapter does not fit {base.name}: it changes {target or name} of another size or name"
            raise _refused(adapter, what, _TRAIN_AGAIN)
    made_for = added.facts.get(BASE_SHA256_KEY)
    if made_for is not None:
        with base.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if made_for != sha256:
            what = (
                f"the adapter was trained on another base (SHA-256 {str(made_for)[:12]}; {base.name} is {sha256[:12]})"
            )
            raise _refused(adapter, what, _TRAIN_AGAIN)


# --- private

_TRAIN_AGAIN: Final = "train it again on this base, or set models.local.gguf to the model it was trained on"


def _refused(adapter: Path, what: str, hint: str) -> InputError:
    return InputError(Problem(what=what, where=str(adapter), hint=hint))


def _read(file: BinaryIO, size: int) -> GgufHeader:
    if file.read(4) != b"GGUF":
        raise ValueError("it does not begin with 'GGUF'")
    version, n_tensors, n_facts = _unpack(file, "IQQ")
    if version not in (2, 3):
        raise ValueError(f"version {version} of the format is not known")
    facts: dict[str, str | float | int | bool] = {}
    for _ in range(n_facts):
        key = _string(file, _LONGEST_NAME)
        (kind,) = _unpack(file, "I")
        if kind == _ARRAY:
            _skip_array(file)
        else:
            facts[key] = _string(file, size) if kind == _STRING else _unpack(file, _scalar(kind))[0]
    shapes: dict[str, tuple[int, ...]] = {}
    ends = [0]
    for _ in range(n_tensors):
        name = _string(file, _LONGEST_NAME)
        (n_dimensions,) = _unpack(file, "I")
        if n_dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has {n_dimensions} dimensions")
        shapes[name] = _unpack(file, "Q" * n_dimensions)
        kind, offset = _unpack(file, "IQ")
        n_values = 1
        for one in shapes[name]:
            n_values *= one
        ends.append(offset + n_values * _BYTES_PER_VALUE.get(kind, 0))
    alignment = facts.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"tensors aligned to {alignment!r}")
    begin = -(-file.tell() // alignment) * alignment
    if begin + max(ends) > size:
        raise ValueError("it ends before its last tensor")
    return GgufHeader(facts=facts, shapes=shapes)


def _unpack(file: BinaryIO, kinds: str) -> tuple[int, ...]:
    layout = struct.Struct(f"<{kinds}")
    return layout.unpack(file.read(layout.size))


def _string(file: BinaryIO, longest: int) -> str:
    (length,) = _unpack(file, "Q")
    if length > longest:
        raise ValueError(f"a text of {length} bytes")
    found = file.read(length)
    if len(found) < length:
        raise ValueError("it ends inside a text")
    return found.decode("utf-8", errors="replace")


def _scalar(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"unknown type {kind} of a value")
    return _SCALARS[kind]


def _skip_array(file: BinaryIO) -> None:
    kind, length = _unpack(file, "IQ")
    if kind != _STRING:
        file.seek(struct.calcsize(_scalar(kind)) * length, os.SEEK_CUR)
        return
    for _ in range(length):
        file.seek(_unpack(file, "Q")[0], os.SEEK_CUR)

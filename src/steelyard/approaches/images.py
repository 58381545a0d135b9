"""Pictures of a case: read when the case is asked about, checked for what they are, and never fetched from anywhere."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steelyard.cases.case import Case
from steelyard.errors import InputError, Problem
from steelyard.models.calls import Image

MAX_IMAGE_BYTES = 20 * 1024 * 1024
PLACEHOLDER = "[image]"
"""What a template sees in place of a picture."""

_MAX_SHOWN = 80


def without_images(fields: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """The fields with a placeholder for each picture."""
    if not names:
        return fields
    shown = {name: " ".join([PLACEHOLDER] * len(_sources(fields.get(name)))) or None for name in names}
    return {name: shown.get(name, value) for name, value in fields.items()}


def load_images(fields: Mapping[str, Any], names: Sequence[str], folder: Path) -> tuple[Image, ...]:
    """The pictures in some fields, in their order.

    Args:
        fields: Input fields of a case; what is missing or null has no picture.
        names: Fields that hold a path inside `folder`, a `data:` URL, an `https:` address, or a list of such.
        folder: The study folder.

    Raises:
        InputError: A file is missing, outside the folder, larger than 20 MB or no picture, or an address is none that
            an endpoint may be given.
    """
    return tuple(_image(source, folder, name) for name in names for source in _sources(fields.get(name)))


def refuse_bad_images(cases: Sequence[Case], names: Sequence[str], folder: Path) -> None:
    """Look at the pictures of all cases before any is paid for; of files only the first bytes are read.

    Raises:
        InputError: Some cannot be used; lists every one with the line of its case.
    """
    problems: list[Problem] = []
    for case in cases if names else ():
        for name, source in [(field, one) for field in names for one in _sources(case.input.get(field))]:
            try:
                if isinstance(source, str) and not source.startswith(("https://", "data:")):
                    with _file(source, folder, name).open("rb") as file:
                        _media_type_or_refuse(file.read(16), source, name)
                else:
                    _image(source, folder, name)
            except InputError as error:
                problems += [replace(one, where=case.where or one.where) for one in error.problems]
    if problems:
        raise InputError(problems)


# ---- private --------------------------------------------------------------------------------------------------------


def _sources(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    listed = value if isinstance(value, list | tuple) else [value]
    return [one for one in listed if one not in (None, "")]


def _image(source: Any, folder: Path, name: str) -> Image:  # noqa: ANN401 - any JSON value
    if not isinstance(source, str):
        raise _refused(name, source, "is not text", "give a path inside the study folder, a data: URL or an address")
    if source.startswith("https://"):
        return Image(source, hashlib.blake2b(source.encode(), digest_size=16).hexdigest())
    if source.startswith("data:"):
        head, _, body = source.partition(",")
        try:
            content = base64.b64decode(body, validate=True) if head.endswith(";base64") else b""
        except binascii.Error:
            content = b""
        return _of_bytes(content, source, name)
    return _of_bytes(_file(source, folder, name).read_bytes(), source, name)


def _file(source: str, folder: Path, name: str) -> Path:
    """A file inside the folder that can be read and is not too large."""
    if "://" in source:
        raise _refused(name, source, "is not an https: address", "give a path inside the study folder")
    root = folder.resolve()
    try:
        path = (root / source).resolve()
        if not path.is_relative_to(root):
            raise _refused(name, source, "lies outside the study folder", "copy it into the folder")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_IMAGE_BYTES:
                raise _too_large(name, source)
    except (OSError, ValueError) as error:  # a path may hold what no path can
        why = error.strerror if isinstance(error, OSError) else error
        raise _refused(name, source, f"cannot be read ({why})", "check the path") from error
    return path


def _of_bytes(content: bytes, source: str, name: str) -> Image:
    if len(content) > MAX_IMAGE_BYTES:
        raise _too_large(name, source)
    kind = _media_type_or_refuse(content, source, name)
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    return Image(f"data:{kind};base64,{base64.b64encode(content).decode()}", digest)


def _media_type(content: bytes) -> str | None:
    """By the first bytes: neither a name nor what a data: URL says of itself can be relied on."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return None


def _media_type_or_refuse(content: bytes, source: str, name: str) -> str:
    kind = _media_type(content)
    if kind is None:
        raise _refused(name, source, "is no PNG, JPEG, GIF or WebP picture", "convert it to one of these")
    return kind


def _too_large(name: str, source: str) -> InputError:
    return _refused(name, source, f"is larger than {MAX_IMAGE_BYTES // 2**20} MB", "scale it down")


def _refused(name: str, source: object, why: str, hint: str) -> InputError:
    shown = str(source)
    shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[: _MAX_SHOWN - 2]} …"
    return InputError(Problem(what=f"{name}: the picture {shown!r} {why}", where=f"field {name}", hint=hint))

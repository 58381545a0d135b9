"""What a GGUF file says of itself is read without a library, and an adapter of another base is refused by it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from steelyard.approaches.tuning.adam import AdapterWeights
from steelyard.approaches.tuning.base_model import file_sha256
from steelyard.approaches.tuning.gguf_adapter import write_gguf
from steelyard.errors import InputError
from steelyard.models.gguf_header import BASE_SHA256_KEY, check_adapter, read_gguf_header
from steelyard.models.local_server import serve_local
from tests.approaches.tiny_llama import SHAPE, write_tiny_gguf


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "base.gguf")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return write_adapter(tmp_path / "adapter.gguf", file_sha256(base))


def write_adapter(path: Path, base_sha256: str | None, hidden: int | None = None) -> Path:
    weights = AdapterWeights(SHAPE, top=2, rank=4, seed=0)
    arrays = {name: tensor.detach().numpy() for name, tensor in weights.named.items()}
    if hidden is not None:
        arrays["blk.2.attn_q.lora_a"] = np.zeros((4, hidden), np.float32)
    write_gguf(path, arrays, SHAPE, alpha=8.0, name="test", base_sha256=base_sha256)
    return path


def test_the_header_is_what_the_library_reads(base: Path, adapter: Path) -> None:
    """Facts and shapes of both files, compared with the gguf package; arrays are skipped, not misread."""
    from gguf import GGUFReader

    for path in (base, adapter):
        found, reader = read_gguf_header(path), GGUFReader(path)
        assert dict(found.shapes) == {one.name: tuple(int(n) for n in one.shape) for one in reader.tensors}
        scalars = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
        assert dict(found.facts) == {key: value for key, value in scalars.items() if not isinstance(value, list)}
    assert read_gguf_header(adapter).facts[BASE_SHA256_KEY] == file_sha256(base)


def test_an_adapter_of_its_base_is_taken(base: Path, adapter: Path, tmp_path: Path) -> None:
    """With the digest of its base, and without one, as other programs write them."""
    check_adapter(adapter, base)
    check_adapter(write_adapter(tmp_path / "plain.gguf", None), base)


def test_an_adapter_of_other_weights_is_refused(adapter: Path, tmp_path: Path) -> None:
    """Same shapes, other weights: llama.cpp would add it without a word."""
    other = write_tiny_gguf(tmp_path / "other.gguf", seed=1)
    with pytest.raises(
        InputError, match=r"adapter\.gguf: the adapter was trained on another base .*\n.*train it again"
    ):
        check_adapter(adapter, other)


def test_an_adapter_of_another_shape_or_kind_is_refused(base: Path, tmp_path: Path) -> None:
    """Sizes and architecture are compared; a whole model is no adapter."""
    with pytest.raises(InputError, match=r"does not fit base\.gguf: it changes blk\.2\.attn_q\.weight of another size"):
        check_adapter(write_adapter(tmp_path / "wide.gguf", None, hidden=64), base)
    qwen = write_tiny_gguf(tmp_path / "qwen.gguf", architecture="qwen2")
    with pytest.raises(InputError, match=r"for models of the kind 'llama', and qwen\.gguf is 'qwen2'"):
        check_adapter(write_adapter(tmp_path / "a.gguf", None), qwen)
    with pytest.raises(InputError, match="but no LoRA adapter"):
        check_adapter(base, base)


def test_no_server_is_started_with_an_adapter_of_another_base(adapter: Path, tmp_path: Path) -> None:
    """It is refused before llama.cpp reads anything: not even a log is begun."""
    pytest.importorskip("xllamacpp")
    other = write_tiny_gguf(tmp_path / "other.gguf", seed=1)
    log = tmp_path / "logs" / "llama.log"
    with pytest.raises(InputError, match="another base"), serve_local(other, adapters=[adapter], log_file=log):
        pytest.fail("it was served")
    assert not log.exists()


@pytest.mark.parametrize("cut", [0, 3, 4, 20, 60, 200, 700, -4])
def test_a_damaged_file_is_a_sentence(adapter: Path, base: Path, cut: int) -> None:
    """Cut short anywhere, header or tensors: named, with what to do."""
    adapter.write_bytes(adapter.read_bytes()[:cut])
    with pytest.raises(
        InputError, match=r"adapter\.gguf: the GGUF file is damaged or was cut short .*\n.*make it again"
    ):
        check_adapter(adapter, base)


def test_random_bytes_never_end_in_a_traceback(adapter: Path, base: Path) -> None:
    """Flipped bytes in the header are read, or refused with a sentence; nothing hangs or takes all memory."""
    content = bytearray(adapter.read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        for position in rng.integers(4, 1500, size=4):
            damaged[position] = int(rng.integers(256))
        adapter.write_bytes(damaged)
        with suppress(InputError):
            check_adapter(adapter, base)

"""Tokenizers as llama.cpp runs them, built from what a GGUF file says.

Training has to see the very tokens that the server will see. llama.cpp names the way a text is cut before the merges
run (`tokenizer.ggml.pre`); the same names stand here with the regular expressions behind them. A Hugging Face
`tokenizer.json` holds the expression itself, so it is recognised by comparing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SENTENCEPIECE: Final = "sentencepiece"
"""Stands where a byte-level BPE has the name of its cut: pieces with scores, spaces written as ▁."""
_SPACE: Final = "▁"
_AFTER_DIGITS: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_BYTE_LEVEL: Final = {"type": "ByteLevel", "use_regex": True}

CUTS: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "gpt-2": (_BYTE_LEVEL,),
    "smollm": ({"type": "Digits", "individual_digits": True}, _BYTE_LEVEL),
    "llama-bpe": ({"type": "Split", "regex": _WORDS + r"|\p{N}{1,3}" + _AFTER_DIGITS},),
    "qwen2": ({"type": "Split", "regex": _WORDS + r"|\p{N}" + _AFTER_DIGITS},),
}
"""How a text is cut before the merges of a byte-level BPE run, by llama.cpp's name of it."""


def byte_level(tokens: Sequence[str], merges: Sequence[str], control: Sequence[str], *, cut: str) -> Tokenizer:
    """A byte-level BPE.

    Args:
        tokens: By id.
        merges: `left right`, most important first.
        control: Tokens matched in the text before it is cut.
        cut: One of `CUTS`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    pairs = (merge.partition(" ") for merge in merges)
    model = models.BPE(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[(left, right) for left, _, right in pairs],
        ignore_merges=cut == "llama-bpe",  # a whole word that is a token is taken, whatever the merges would make of it
    )
    tokenizer = Tokenizer(model)
    steps: list[Any] = []
    for step in CUTS[cut]:
        if step["type"] == "Split":
            steps.append(pre_tokenizers.Split(Regex(step["regex"]), behavior="isolated"))
            steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
        elif step["type"] == "Digits":
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        else:
            steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    _match_first(tokenizer, control)
    return tokenizer


def sentence_pieces(
    tokens: Sequence[str], scores: Sequence[float], control: Sequence[str], *, space_prefix: bool
) -> Tokenizer:
    """Pieces that are joined by their scores, as SentencePiece's BPE does; what is in no piece falls back to bytes.

    Args:
        tokens: By id.
        scores: Of each token; the best pair is joined first.
        control: Tokens matched in the text before it is cut.
        space_prefix: Whether a text begins with a space that is not written.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    ids = {token: i for i, token in enumerate(tokens)}
    apart = set(control)
    model = models.BPE(
        vocab=ids,
        merges=_joins(ids, scores, apart),
        unk_token="<unk>" if "<unk>" in ids else None,
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    before = [normalizers.Prepend(_SPACE)] if space_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", _SPACE)])
    after = [decoders.Strip(content=" ", left=1)] if space_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *after]
    )
    _match_first(tokenizer, control)
    return tokenizer


def recognise(tokenizer_json: Mapping[str, Any]) -> str | None:
    """llama.cpp's name of the cut that a `tokenizer.json` describes, `SENTENCEPIECE`, or nothing it knows."""
    model = tokenizer_json.get("model", {})
    if model.get("type") != "BPE":
        return None
    if model.get("byte_fallback"):
        return SENTENCEPIECE if _writes_spaces_as_pieces(tokenizer_json) else None
    if (tokenizer_json.get("decoder") or {}).get("type") != "ByteLevel":
        return None
    found = _steps(tokenizer_json.get("pre_tokenizer"), "pretokenizers")
    return next((name for name, steps in CUTS.items() if _is_cut(found, steps)), None)


def prefixes_space(tokenizer_json: Mapping[str, Any]) -> bool:
    """Whether a SentencePiece tokenizer begins a text with a space that is not written."""
    normalizers = _steps(tokenizer_json.get("normalizer"), "normalizers")
    pre_tokenizers = _steps(tokenizer_json.get("pre_tokenizer"), "pretokenizers")
    return any(step.get("type") == "Prepend" for step in normalizers) or any(
        step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never" for step in pre_tokenizers
    )


# ---------------------------------------------------------------------------------------------------- private


def _match_first(tokenizer: Tokenizer, control: Sequence[str]) -> None:
    from tokenizers import AddedToken

    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in control])


def _joins(ids: Mapping[str, int], scores: Sequence[float], apart: set[str]) -> list[tuple[str, str]]:
    """Every way to join two pieces to a third, the best-scored result first."""
    found = []
    for token, i in ids.items():
        if token in apart:
            continue
        for at in range(1, len(token)):
            left, right = token[:at], token[at:]
            if left in ids and right in ids:
                found.append((-scores[i], ids[left], ids[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _steps(part: Mapping[str, Any] | None, plural: str) -> list[Mapping[str, Any]]:
    if not part:
        return []
    return list(part[plural]) if part.get("type") == "Sequence" else [part]


def _is_cut(found: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> bool:
    def said(step: Mapping[str, Any]) -> tuple[Any, ...]:
        pattern = step.get("regex") or (step.get("pattern") or {}).get("Regex")
        if step["type"] == "Digits":
            return ("Digits", step["individual_digits"])
        return (step["type"], pattern) if step["type"] == "Split" else (step["type"],)

    if any(step.get("add_prefix_space") for step in found):
        return False
    # Behind an expression of its own, the byte level only spells bytes; alone, it cuts too.
    cuts = [step for step in found if step["type"] != "ByteLevel" or step.get("use_regex", True)]
    return [said(step) for step in cuts] == [said(step) for step in wanted]


def _writes_spaces_as_pieces(tokenizer_json: Mapping[str, Any]) -> bool:
    normalizers = _steps(tokenizer_json.get("normalizer"), "normalizers")
    replaced = any(step.get("type") == "Replace" and step.get("content") == _SPACE for step in normalizers)
    cuts = _steps(tokenizer_json.get("pre_tokenizer"), "pretokenizers")
    return (replaced and not cuts) or [step.get("type") for step in cuts] == ["Metaspace"]

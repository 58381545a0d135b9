"""Guards: what goes in or comes out is looked at without a model, and blocked, mended or flagged.

Every guard is a heuristic. It says what it saw; it proves nothing about what it did not see.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from steelyard.approaches.workflow.spec import GuardSpec, PiiKind
from steelyard.errors import MissingExtra
from steelyard.task.text import fold_text

MIN_LANGUAGE_CHARS = 40
"""In a shorter text no language is made out."""

_PATTERNS: Mapping[PiiKind, re.Pattern[str]] = {
    "email": re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}"),
    # International, national with a leading 0, or three groups as in North America; invoice numbers have none of these.
    "phone": re.compile(
        r"(?<![\w.])(?<!\d[ -])(?:\+\d(?:[ /().-]{0,2}\d){7,13}|\(?0\d(?:[ /()-]{0,2}\d){6,12}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-])"
    ),
    "iban": re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"),
    "card": re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)"),
    "ip": re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"),
}
# The more particular kinds first: what is an IBAN or a card number is not a telephone number.
_ORDER: tuple[PiiKind, ...] = ("email", "iban", "card", "ip", "phone")

_INJECTION = re.compile(
    r"(ignore|disregard|forget|override)\W+(?:\w+\W+){0,4}?(previous|prior|above|earlier|all|your|the)\W+(?:\w+\W+){0,3}?"
    r"(instruction|prompt|rule|direction|guideline)s?"
    r"|(you are|act as|pretend to be)\W+(?:now\W+)?(?:\w+\W+){0,3}?(dan|jailbroken|unrestricted|developer mode)"
    r"|(reveal|print|show|repeat|output)\W+(?:\w+\W+){0,3}?(system|hidden|initial|original)\W+(prompt|instruction|message)s?"
    r"|<\|?(im_start|im_end|system|endoftext)\|?>|\[/?(inst|sys)\]"
    r"|(ignoriere|vergiss)\W+(?:\w+\W+){0,4}?(anweisung|vorgabe|regel)(en|n)?"
    r"|(ignore[zr]?|oublie[zr]?)\W+(?:\w+\W+){0,4}?(instructions|consignes)"
    r"|(ignora|olvida)\W+(?:\w+\W+){0,4}?(instrucciones|istruzioni)",
    re.IGNORECASE,
)


class Guarded(NamedTuple):
    """What a guard made of some fields."""

    findings: tuple[str, ...]
    """What it saw, one sentence each; empty when nothing."""
    fields: Mapping[str, Any]
    """The fields, mended where the action is `redact`."""


def guard(fields: Mapping[str, Any], spec: GuardSpec) -> Guarded:
    """Look at the text fields.

    Raises:
        MissingExtra: Languages are guarded and the extra `guards` is not installed.
    """
    findings: list[str] = []
    mended = dict(fields)
    names = spec.fields if spec.fields is not None else [name for name, one in fields.items() if isinstance(one, str)]
    for name in names:
        text = fields.get(name)
        if not isinstance(text, str):
            continue
        findings += [f"{name}: {said}" for said in _findings(text, spec)]
        if spec.action == "redact":
            mended[name] = _redacted(text, spec)
    return Guarded(tuple(findings), mended)


def personal_data(text: str) -> Counter[PiiKind]:
    """How often each kind of personal data occurs in a text."""
    return Counter(kind for kind, _ in _personal(text))


# ---- private --------------------------------------------------------------------------------------------------------


def _findings(text: str, spec: GuardSpec) -> Iterator[str]:
    if spec.min_chars is not None and len(text.strip()) < spec.min_chars:
        yield f"shorter than {spec.min_chars} characters"
    if spec.max_chars is not None and len(text) > spec.max_chars:
        yield f"longer than {spec.max_chars:,} characters"
    for kind in spec.pii:
        n = sum(1 for found, _ in _personal(text) if found == kind)
        if n:
            yield f"{n} × {kind}"
    if spec.injection and _INJECTION.search(text):
        yield "reads like an attempt to give the model other instructions"
    folded = f" {fold_text(text)} "
    caught = [phrase for phrase in spec.forbidden if f" {fold_text(phrase)} " in folded]
    if caught:
        yield f"holds {', '.join(map(repr, caught))}"
    if spec.required and not any(f" {fold_text(phrase)} " in folded for phrase in spec.required):
        yield "holds none of the words that belong to the topic"
    if spec.languages is not None and len(text) >= MIN_LANGUAGE_CHARS:
        language = _language(text)
        if language not in spec.languages:
            yield f"reads like {language}"


def _redacted(text: str, spec: GuardSpec) -> str:
    for kind, found in _personal(text):
        if kind in spec.pii:
            text = text.replace(found, f"[{kind}]")
    for phrase in spec.forbidden:
        text = re.sub(re.escape(phrase), "[removed]", text, flags=re.IGNORECASE)
    if spec.max_chars is not None and len(text) > spec.max_chars:
        text = text[: spec.max_chars - 2] + " …"
    return text


def _personal(text: str) -> list[tuple[PiiKind, str]]:
    """Personal data with its kind; what one kind has taken no other takes."""
    found: list[tuple[PiiKind, str]] = []
    taken: list[tuple[int, int]] = []
    for kind in _ORDER:
        for match in _PATTERNS[kind].finditer(text):
            start, end = match.span()
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            if _IS_REAL.get(kind, bool)(match.group()):
                taken.append((start, end))
                found.append((kind, match.group()))
    return found


def _is_card(text: str) -> bool:
    """Luhn's check digit."""
    digits = [int(c) for c in reversed(text) if c.isdigit()]
    total = sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return total % 10 == 0 and len(set(digits)) > 1


def _is_iban(text: str) -> bool:
    """Check digits of ISO 13616 (ISO 7064, mod 97)."""
    packed = text.replace(" ", "")
    return 15 <= len(packed) <= 34 and int("".join(str(int(c, 36)) for c in packed[4:] + packed[:4])) % 97 == 1


def _is_ip(text: str) -> bool:
    return all(int(part) < 256 for part in text.split("."))


_IS_REAL: Mapping[PiiKind, Callable[[str], bool]] = {"card": _is_card, "iban": _is_iban, "ip": _is_ip}


def _language(text: str) -> str:
    try:
        import py3langid
    except ImportError as error:
        raise MissingExtra(feature="a guard on languages", extra="guards") from error
    code: str = py3langid.classify(text)[0]
    return code

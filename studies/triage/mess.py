"""What people and channels do to a text: typing errors, habits of capital letters, speech to text, pasted logs."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from random import Random

# Neighbours on a QWERTY keyboard.
_NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk", "k": "jl",
    "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb",
    "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
_PROTECTED = re.compile(r"[@<>\d_/]|^MB-|^SN-|\.\w")
_FULL_FORMS = {
    "I'm": "I am", "I've": "I have", "can't": "cannot", "don't": "do not", "doesn't": "does not", "it's": "it is",
    "won't": "will not", "I'd": "I would", "there's": "there is", "didn't": "did not", "isn't": "is not", "you're": "you are",
}  # fmt: skip
_CHAT_FORMS = {
    "please": "pls", "Please": "pls", "you": "u", "because": "cause", "and": "&", "with": "w/", "thanks": "thx", "your": "ur",
    "are": "r", "though": "tho", "Thanks": "Thx", "minutes": "min",
}  # fmt: skip
_OTHER_WORDS = {
    "parcel": "package", "box": "parcel", "planter": "garden", "app": "application", "wrong": "incorrect", "mail": "email",
    "phone": "mobile", "invoice": "bill", "maybe": "perhaps", "lamp": "light", "plan": "subscription",
    "colleague": "coworker", "nobody": "no one", "tank": "container",
    "website": "site", "courier": "driver", "money": "cash",
}  # fmt: skip


def mistype(text: str, rate: float, rng: Random) -> str:
    """Put typing errors into a share `rate` (0..1) of the words; numbers, addresses and codes are left alone."""

    def spoil(match: re.Match[str]) -> str:
        word = match[0]
        if len(word) < 4 or _PROTECTED.search(word) or rng.random() >= rate:
            return word
        at = rng.randrange(1, len(word) - 1)
        letter = word[at]
        kind = rng.random()
        if kind < 0.3:
            return word[:at] + word[at + 1 :]
        if kind < 0.6 and letter in _NEIGHBOURS:
            return word[:at] + rng.choice(_NEIGHBOURS[letter]) + word[at + 1 :]
        if kind < 0.85:
            return word[:at] + word[at + 1] + letter + word[at + 2 :]
        return word[:at] + letter + word[at:]

    return re.sub(r"\S+", spoil, text)


def reword(text: str, rng: Random, *, spoken: bool = False) -> str:
    """Give a text its writer's turn of phrase: full forms or chat forms throughout, here and there another word."""
    habit = rng.random()
    forms = _FULL_FORMS if habit < 0.18 else _CHAT_FORMS if habit > 0.95 and not spoken else {}
    swaps = {word: other for word, other in _OTHER_WORDS.items() if rng.random() < 0.25}

    def swap(match: re.Match[str]) -> str:
        return forms.get(match[0]) or swaps.get(match[0]) or match[0]

    return re.sub(r"(?<![\w@.-])[A-Za-z][A-Za-z']*(?![\w@-])", swap, text)


def restyle(text: str, rng: Random) -> str:
    """Apply a writer's habit of capitals and punctuation."""
    habit = rng.random()
    if habit < 0.2:
        return text.lower()
    if habit < 0.3:
        return re.sub(r"[.,'](?=\s|$|[a-z])(?![a-z]*\.)", "", text.lower()) if "@" not in text else text.lower()
    if habit < 0.33:
        return re.sub(r"\S+", lambda match: match[0] if "@" in match[0] else match[0].upper(), text)
    if habit < 0.38:
        return re.sub(r"\.(?=\s|$)", lambda _: rng.choice((".", "!", "!!", "...", "!")), text)
    if habit < 0.43:
        return re.sub(r"\. (?=[A-Z])", lambda _: rng.choice((". ", ", ", " ... ", " - ")), text)
    return text


def transcribe(text: str, agent: str, fillers: list[str], rng: Random) -> str:
    """Turn a written text into what speech recognition makes of a phone call."""
    words: list[str] = []
    for word in text.split():
        if rng.random() < 0.055:
            words.append(rng.choice(fillers) + ",")
        words.append(word)
        if rng.random() < 0.02:
            words.append(word)
    spoken = re.sub(r"([A-Z])([a-z])", lambda match: match[0].lower(), " ".join(words))
    if rng.random() < 0.5:
        spoken = re.sub(r"[,;:!?]|\.(?=\s|$)", "", spoken)
    start = rng.choice(("yeah hi,", "hello, yes,", "hi, so", "yes good morning,", "", "okay so", "right,"))
    caller = f"{start} {spoken}".strip()
    layout = rng.random()
    if layout < 0.5:
        return f"Agent: {agent}\nCaller: {caller}"
    return f"[call] {caller}" if layout < 0.7 else caller


def pasted_log(label: str, when: datetime, version: str, rng: Random) -> str:
    """Return the log lines that a customer copied from the app, the garden or the browser."""
    stock = {
        "app_bug": (
            "E/MossbeckApp: java.lang.IllegalStateException: garden list not ready",
            "    at app.mossbeck.garden.GardenView.onBind(GardenView.kt:{n})",
            "W/Sync: schedule revision {n} rejected, keeping local copy",
            "I/Sync: retry {n} in 30 s",
            "E/Images: decode failed for IMG_{n}.jpg (0 bytes)",
            "TypeError: undefined is not an object (evaluating 'basket.lines[{n}]')",
            "D/Battery: wakelock held {n} s by mossbeck.background",
        ),
        "device_fault": (
            "pump0: current {n} mA over limit, stop",
            "pump0: start failed (stall)",
            "lamp: channel 2 open circuit",
            "level: raw={n} out of range, using last value",
            "boot: reset cause BROWNOUT",
            "wifi: link lost rssi=-{n}",
            "psu: temp {n} C WARN",
        ),
        "login": (
            "auth: token refresh failed status=401 attempt={n}",
            "auth: otp rejected reason=expired age={n}s",
            "POST /session 403 {n}ms",
            "redirect /signin -> /signin (loop {n})",
            "auth: device not recognised, step up required",
        ),
    }[label]
    moment = when - timedelta(minutes=rng.randrange(10, 90))
    lines = [f"mossbeck {version} build {rng.randrange(1000, 9999)}"]
    for _ in range(rng.randrange(6, 16)):
        moment += timedelta(seconds=rng.randrange(1, 40))
        lines.append(f"{moment:%Y-%m-%d %H:%M:%S} " + rng.choice(stock).format(n=rng.randrange(11, 99)))
    return "\n".join(lines)

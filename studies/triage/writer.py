"""Putting one ticket together: who writes, about what, through which channel, in which state of mind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from random import Random

from studies.triage import mess
from studies.triage.material import LABELS, LANGUAGES, Deck, Facts, choose, confusable, sections, situations

MAX_WORDS = 150
MIN_WORDS = 5
_GAPS = (" ", "\n", "\n\n")
_QUESTION = re.compile(
    r"^(how|what|when|where|which|why|who|can|could|may|must|do|does|did|is|are|am|was|were|will|would|has|have you|any|in what|at what|for how)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """The text of one ticket and what kind of ticket it is."""

    text: str
    kind: str
    """`plain`, `short`, `two_issues`, `boundary`, `chaser`, `log`, or the name of a language."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes tickets; shares one deck of material over the whole set, so that no sentence is used much more than others."""

    rng: Random
    deck: Deck

    def write(self, label: str, when: datetime, segment: str) -> Draft:
        """Write one ticket whose main issue is `label`."""
        kind = self._kind(segment)
        if kind in LANGUAGES:
            return Draft(text=self._foreign(label, when, segment, kind), kind=kind)
        facts = Facts(rng=self.rng, when=when)
        text = ""
        # A text that comes out too long is told again: people who ramble in one ticket do not in the next.
        for _ in range(20):
            body = facts.fill(self._body(kind, label, when, segment))
            text = self._dress(body, kind, label, segment, facts)
            if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
                return Draft(text=text, kind=kind)
        raise ValueError(f"no {kind} ticket about {label} came out between {MIN_WORDS} and {MAX_WORDS} words: {text!r}")

    def paste(self, label: str, when: datetime) -> Draft:
        """Write a ticket that is mostly a pasted log, with a line or nothing above it."""
        facts = Facts(rng=self.rng, when=when)
        above = "" if self.rng.random() < 0.25 else facts.fill(self.deck.deal(label, "short", when))
        return Draft(
            text=f"{above}\n{mess.pasted_log(label, when, facts.value('version'), self.rng)}".strip(), kind="log"
        )

    def _kind(self, segment: str) -> str:
        if segment != "phone-transcript" and self.rng.random() < 0.05:
            return self.rng.choice(LANGUAGES)
        kinds = {"plain": 76, "boundary": 9, "two_issues": 5, "short": 6, "chaser": 4}
        if segment == "phone-transcript":
            kinds |= {"short": 0, "chaser": 0}
        if segment == "app":
            kinds |= {"short": 12}
        return self.rng.choices(list(kinds), weights=list(kinds.values()))[0]

    # --- what is said -------------------------------------------------------------------------------------------

    def _body(self, kind: str, label: str, when: datetime, segment: str) -> str:
        rng = self.rng
        if kind == "short":
            return self._short(label, when)
        if kind == "two_issues":
            return self._two_issues(label, when)
        if kind == "boundary":
            body = self._boundary(label, when)
        elif kind == "chaser":
            # The first line says nothing; what it is about stands only in the quoted earlier mail.
            earlier = " ".join(
                (self._problem(label, when), self.deck.deal(label, "detail", when), self.deck.deal(label, "ask", when))
            )
            vague = rng.choice(sections("fragments")["vague"]).text
            return f"{vague}\n\n{self._quote_head()}\n> {earlier}"
        else:
            parts = [self._problem(label, when)]
            parts += [self.deck.deal(label, "detail", when) for _ in range(rng.choice((0, 1, 2, 2, 3, 3)))]
            if rng.random() < 0.85:
                parts.append(self.deck.deal(label, "ask", when))
            if rng.random() < 0.12 and len(parts) > 1:
                # Some tell the story backwards.
                parts = parts[1:] + parts[:1]
            if rng.random() < 0.45:
                # More of the same kind, or the same once more in other words.
                parts.append(
                    f"{rng.choice(('Also,', 'And', 'On top of that,', 'Apart from that,'))} {_lowered(self._problem(label, when))}"
                )
            if rng.random() < 0.4:
                if rng.random() < 0.6:
                    again = _sentence(self.deck.deal(label, "short", when))
                    parts.append(f"{rng.choice(('In short:', 'Once again:', 'To sum up:', ''))} {again}".strip())
                else:
                    parts.append(self.deck.deal(label, "ask", when))
            body = " ".join(parts)
        return self._framed(body, when, wordy=segment != "app")

    def _framed(self, body: str, when: datetime, *, wordy: bool) -> str:
        """Surround the issue with what people add: how they came here, what it is not about, how they feel."""
        rng = self.rng
        before = [self._shared("opening", when)] if rng.random() < (0.2 if wordy else 0.08) else []
        if rng.random() < (0.2 if wordy else 0.1):
            before.append(self._shared("context", when))
        after = [self._shared("mood", when)] if rng.random() < 0.12 else []
        if rng.random() < 0.1:
            (before if rng.random() < 0.5 else after).append(self._shared("history", when))
        return " ".join([*before, body, *after])

    def _problem(self, label: str, when: datetime) -> str:
        return _sentence(self.deck.deal(label, "problem", when))

    def _short(self, label: str, when: datetime) -> str:
        text = self.deck.deal(label, "short", when)
        for section in ("detail", "ask", "detail"):
            if len(text.split()) >= MIN_WORDS + 1 and self.rng.random() < 0.7:
                break
            text += self.rng.choice((". ", " - ", ", ", "\n")) + self.deck.deal(label, section, when)
        return text

    def _two_issues(self, label: str, when: datetime) -> str:
        rng = self.rng
        others = confusable(label) if rng.random() < 0.6 else tuple(other for other in LABELS if other != label)
        second = self._problem(rng.choice(others), when)
        main = self._problem(label, when)
        if rng.random() < 0.75:
            main = f"{main} {self.deck.deal(label, 'detail', when)}"
        pattern = self._shared("first_pattern", when)
        before = pattern.partition("<second>")[0]
        if before and not before.endswith((". ", ": ", "> ")):
            second = _lowered(second)
        text = pattern.replace("<main>", main).replace("<ask>", self.deck.deal(label, "ask", when))
        return re.sub(r"[.?]\)", ")", text.replace("<second>", second))

    def _boundary(self, label: str, when: datetime) -> str:
        found = [situation for situation in situations() if label in situation.labels]
        situation = self.rng.choice(found)
        text, ask = (choose(part, self.rng) for part in (situation.text, situation.asks[situation.labels.index(label)]))
        middle = f" {self.deck.deal(label, 'detail', when)}" if self.rng.random() < 0.2 else ""
        again = f" {self.deck.deal(label, 'ask', when)}" if self.rng.random() < 0.5 else ""
        return f"{text}{middle} {ask}{again}"

    def _foreign(self, label: str, when: datetime, segment: str, language: str) -> str:
        rng = self.rng
        facts = Facts(rng=rng, when=when)
        opening, closing = rng.choice(sections(language)["frame"]).text.split("|")
        parts = [rng.choice(sections(language)[label]).text]
        parts += [rng.choice(sections(language)["detail"]).text] if rng.random() < 0.6 else []
        text = facts.fill(" ".join(parts))
        if segment == "app" and rng.random() < 0.6:
            return mess.mistype(text, 0.02, rng)
        # The form's topics are in the language of the site, and some write their subject in it too.
        head = self._headline(label, facts, when, segment) if segment == "web" or rng.random() < 0.7 else ""
        text = f"{opening}\n{text}\n{closing}" if rng.random() < 0.7 else f"{opening} {text} {closing}"
        name = facts.fill(rng.choice(("", "\n<first> <last>", "\n<first>")))
        return head + mess.mistype(text, rng.choice((0.0, 0.0, 0.03)), rng) + name

    # --- how it is said -----------------------------------------------------------------------------------------

    def _dress(self, body: str, kind: str, label: str, segment: str, facts: Facts) -> str:
        rng, when = self.rng, facts.when
        body = mess.reword(body, rng, spoken=segment == "phone-transcript")
        if segment == "phone-transcript":
            fillers = [line.text for line in sections("shared")["filler"]]
            return mess.transcribe(body, self._shared("agent", when), fillers, rng)
        polite = {"email": 0.85, "web": 0.5, "app": 0.2}[segment] * (0.4 if kind == "short" else 1)
        if rng.random() < polite:
            body = self._shared("greeting", when) + rng.choice(_GAPS) + body
        if rng.random() < polite:
            body += rng.choice(_GAPS) + facts.fill(self._shared("closing", when))
        body = mess.restyle(body, rng)
        rate = rng.choices((0.0, 0.015, 0.04, 0.09), weights=(56, 25, 15, 4))[0]
        body = mess.mistype(body, rate, rng)
        if segment == "email" or rng.random() < 0.15:
            body += self._signature(facts)
        if segment == "email" and kind != "chaser" and rng.random() < 0.22:
            body = self._with_quoted_reply(body, facts)
        return self._headline(label, facts, when, segment) + body

    def _headline(self, label: str, facts: Facts, when: datetime, segment: str) -> str:
        """Return a mail's subject or the topic chosen in the web form's drop-down list, which people also get wrong."""
        rng = self.rng
        if segment == "web" and rng.random() < 0.75:
            topics = sections("topics")
            chosen = rng.choice(list(LABELS)) if rng.random() < 0.08 else label
            return f"Topic: {rng.choice(topics[chosen]).text}\n"
        if segment == "email" and rng.random() < 0.8:
            tells = rng.random() < 0.85
            subject = (
                self.deck.deal(label, "short", when) if tells else rng.choice(sections("fragments")["subject"]).text
            )
            return f"Subject: {facts.fill(subject)}\n"
        return ""

    def _signature(self, facts: Facts) -> str:
        forms = (
            "",
            "\n<first>",
            "\n<first> <last>",
            "\n\n<first> <last>\n<title>, <company>",
            "\n<first> <last>, <city>",
            "\n-- \n<first>",
        )
        form = self.rng.choices(forms, weights=(22, 24, 26, 8, 10, 10))[0]
        if "<title>" in form and self.rng.random() < 0.6:
            form += f"\nTel. 555-01{self.rng.randrange(100):02d}"
        if self.rng.random() < 0.12:
            form += f"\n\n{self.rng.choice(sections('fragments')['mobile']).text}"
        return facts.fill(form)

    def _with_quoted_reply(self, body: str, facts: Facts) -> str:
        reply = self._shared("reply", facts.when)
        if self.rng.random() < 0.35:
            body = facts.fill(f"{self._shared('afterquote', facts.when)} {body}")
        quoted = f"{self._quote_head()}\n> {reply}"
        return f"{quoted}\n\n{body}" if self.rng.random() < 0.3 else f"{body}\n\n{quoted}"

    def _quote_head(self) -> str:
        return self.rng.choice(
            (
                "Mossbeck Support wrote:",
                "-----Original Message-----",
                "On the last mail:",
                "> Your case has a new reply",
                "---- earlier message ----",
            )
        )

    def _shared(self, section: str, when: datetime) -> str:
        return self.deck.deal("shared", section, when)


def _lowered(text: str) -> str:
    """Let a sentence go on after other words: lower-case first letter, unless it starts with `I` or a proper name."""
    return text if re.match(r"I\b|[A-Z][A-Z]|[<\"]", text) else text[0].lower() + text[1:]


def _sentence(text: str) -> str:
    """Start with a capital and end with the mark that the first words ask for."""
    if text[-1] not in ".?!":
        last = re.split(r"(?<=[.?!]) ", text)[-1]
        text += "?" if any(_QUESTION.match(part) for part in (last, re.split(r"[,:] ", last)[-1])) else "."
    return text[0].upper() + text[1:]

"""What `steelyard tune` shows: the audit of training examples, and the card of a tuned approach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from steelyard.approaches.tuning.audit import TrainingAudit
from steelyard.figures import Figure
from steelyard.measure.forgetting import Forgetting
from steelyard.report.content import Parity
from steelyard.report.forgetting import forgetting_facts, forgetting_warning
from steelyard.report.format import money, shown
from steelyard.study.reporting import card_lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Audited:
    """What `steelyard tune --audit` found."""

    approach: str
    found: TrainingAudit
    review_file: Path
    """The review list, relative to the study folder."""

    def to_json(self) -> dict[str, Any]:
        """The shape `steelyard.tune-audit/1`."""
        tokens = self.found.tokens
        spreads: dict[str, Any] = {}
        if tokens is not None:
            spreads = {name: getattr(tokens, name)._asdict() for name in ("prompt", "completion", "total")}
        found = asdict(self.found)
        return {
            "schema": "steelyard.tune-audit/1",
            "approach": self.approach,
            "review_file": str(self.review_file),
            **found,
            "tokens": None if tokens is None else {**found["tokens"], **spreads},
        }

    def __str__(self) -> str:
        found = self.found
        n_distinct = found.n_labelled + found.n_distilled - found.n_unusable - found.n_repeats
        sampled = "" if found.n_examples == n_distinct else f"; a sample of {found.n_examples:,} is used"
        left_out = f"{found.n_unusable:,} cannot be learned from (no text, or no valid answer) and {found.n_repeats:,} repeat another"
        n_train = found.n_examples - found.n_validation
        taught = "".join(f", {n:,} distilled from {name!r}" for name, n in found.teachers.items())
        lines = [
            f"{self.approach}: {found.n_labelled:,} labelled train cases{taught}; {left_out}, {n_distinct:,} are left{sampled}",
            f"{n_train:,} to train on, {found.n_validation:,} to validate on; none is in dev or test",
        ]
        if tokens := found.tokens:
            context = f", context {tokens.context_tokens:,}" if tokens.context_tokens is not None else ""
            lines.append(
                f"tokens of prompt and answer: {tokens.total.least:,} to {tokens.total.most:,}, median "
                f"{tokens.total.median:,} (max_tokens {tokens.max_tokens:,}{context}); answers up to "
                f"{tokens.completion.most:,}; {len(tokens.cut):,} inputs would be cut, "
                f"{len(tokens.left_out):,} examples left out"
            )
        if counts := found.label_counts:
            most, least = max(counts, key=lambda label: counts[label]), min(counts, key=lambda label: counts[label])
            lines.append(
                f"{len(counts)} label{'' if len(counts) == 1 else 's'}, from {counts[most]:,} cases ({most}) down to {counts[least]:,} ({least})"
            )
        n_suspects = len(found.review) - found.n_conflicts
        judged = f"no suspects ({found.not_judged})"
        if found.agreement is not None:
            judged = f"{n_suspects:,} suspects (a classifier agrees with {found.agreement:.0%} of all labels)"
        lines.append(
            f"labels to review: {found.n_conflicts:,} that contradict a near-duplicate, {judged}; in {self.review_file}"
        )
        kinds = ", ".join(f"{n:,} × {kind}" for kind, n in found.personal.items())
        lines.append(
            f"personal data: {kinds} in {found.n_personal:,} case{'' if found.n_personal == 1 else 's'}"
            if kinds
            else "personal data: none of the kinds that are looked for"
        )
        lines += [f"note: {note}" for note in found.notes]
        return "\n".join(lines)


class Measured(NamedTuple):
    """Success on the test split, as far as it was run."""

    n: int
    success: Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """A tuned approach, ready to run."""

    approach: str
    fingerprint: str
    card: Mapping[str, Any]
    seconds: float
    cost_usd: float | None
    reused: bool
    parity: Parity | None
    """`None` until a run, or an export, has asked the adapter as it is served."""
    test: Measured | None
    """`None` until it was run on test cases."""
    forgetting: Forgetting | None = None
    """`None` where the guard set was not asked: of a head, with `guard: 0`, or where it could not be."""
    notes: tuple[str, ...] = ()
    """What could not be done, and why."""
    exported: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The shape `steelyard.tune/1`."""
        parity = self.parity
        return {
            "schema": "steelyard.tune/1",
            "approach": self.approach,
            "fingerprint": self.fingerprint,
            "card": dict(self.card),
            "seconds": self.seconds,
            "cost_usd": self.cost_usd,
            "reused": self.reused,
            "parity": None
            if parity is None
            else {
                "n": parity.n,
                "in_training_library": _plain(parity.in_training_library),
                "as_served": _plain(parity.as_served),
            },
            "test": None if self.test is None else {"n": self.test.n, "success": _plain(self.test.success)},
            "forgetting": None if self.forgetting is None else self.forgetting.to_json(),
            "notes": list(self.notes),
            "exported": None if self.exported is None else str(self.exported),
        }

    def __str__(self) -> str:
        was = "found as it was trained before" if self.reused else "trained"
        cost = "at an unknown price" if self.cost_usd is None else f"for {money(self.cost_usd)}"
        hours = self.card.get("cpu_hours")
        took = f"{self.seconds:.1f} s" + (f" ({hours:.3g} CPU hours)" if hours is not None else "")
        lines = [f"{self.approach}: {was}, in {took}, {cost}"]
        lines += [f"{label}: {text}" for label, text in card_lines(self.card)]
        lines += _curves(self.card)
        if resumed := self.card.get("resumed_at"):
            lines.append(f"was stopped, and went on from step {', '.join(f'{step:,}' for step in resumed)}")
        if balanced := self.card.get("balanced"):
            lines.append(f"labels balanced ({balanced['how']}): {_extremes(balanced['by_answer'])}")
        if self.parity is not None:
            trained, served = (
                shown(one, "percent").plain for one in (self.parity.in_training_library, self.parity.as_served)
            )
            lines.append(f"parity on {self.parity.n:,} validation cases: {trained} where trained, {served} as served")
        elif self.card.get("validation_right"):
            lines.append("parity: not measured yet; a run and --export ask validation cases again as served")
        if self.test is not None:
            lines.append(f"success on {self.test.n:,} test cases: {shown(self.test.success, 'percent').plain}")
        if self.forgetting is not None:
            lines += [f"{label}: {text}" for label, text in forgetting_facts(self.forgetting)]
            if warning := forgetting_warning(self.approach, self.forgetting):
                lines.append(f"warning: {warning}")
        lines += [f"note: {note}" for note in self.notes]
        if self.exported is not None:
            lines.append(f"exported to {self.exported}; its README.md says how each file is used")
        return "\n".join(lines)


# ---- private --------------------------------------------------------------------------------------------------------


def _curves(card: Mapping[str, Any]) -> list[str]:
    lines = []
    if curve := card.get("loss_curve"):
        first, last = curve[0], curve[-1]
        lines.append(
            f"training loss: {first['loss']:.3f} at step {first['step']:,}, {last['loss']:.3f} at step {last['step']:,}"
        )
        if last["step"] > first["step"] and last["loss"] >= first["loss"]:
            lines.append(
                "warning: the training loss did not fall, so next to nothing was learned; lower the learning rate"
            )
    lines += [
        f"validation at step {found['step']:,}: loss {found['loss']:.3f}, exact match {found['exact_match']:.1%}"
        for found in card.get("validations", ())
    ]
    return lines + _head_lines(card)


_SETTINGS_OF = {"linear": "C", "mlp": "decay"}


def _head_lines(card: Mapping[str, Any]) -> list[str]:
    """What a head tried on dev, how far its confidence can be believed, and what else is to be known of it."""
    lines = []
    for tried in card.get("tried", ()):
        setting = _SETTINGS_OF[tried["classifier"]]
        lines.append(
            f"on dev, {tried['classifier']} with {setting} = {tried[setting]:g}: accuracy {tried['dev_accuracy']:.1%}, "
            f"log loss {tried['dev_log_loss']:.3f}"
        )
    if (found := card.get("calibration")) is not None and "answers" in found:
        answers = found["answers"]
        sets = (
            "" if found["micro_f1"] is None else f", exact sets {found['exact']:.1%}, micro F1 {found['micro_f1']:.3f}"
        )
        lines.append(
            f"on {answers['n']:,} dev cases, {found['measured']}: success {found['success']:.1%}{sets}; mean confidence "
            f"{answers['confidence']:.1%}, calibration error (ECE) {answers['ece']:.3f}, Brier {answers['brier']:.3f}"
        )
        lines += [
            f"  confidence {one['low']:.0%} to {one['high']:.0%}: {one['n']:,} answers, {one['right']:.1%} right"
            for one in answers["bins"]
        ]
    if (below := card.get("out_of_scope")) is not None and below["threshold"] is not None:
        instead = repr(below["label"]) if below["label"] is not None else "no answer"
        line = f"below a confidence of {below['threshold']:.1%}: {instead} ({below['because']})"
        if found is not None:
            above = "none" if found["success_above"] is None else f"{found['success_above']:.1%}"
            line += f"; {found['coverage']:.1%} of dev is answered, with success {above}"
        lines.append(line)
    return [*lines, *(f"note: {note}" for note in card.get("notes", ()) if card.get("kind") == "head")]


def _extremes(by_answer: Mapping[str, float]) -> str:
    """The answers that count most and least."""
    least, most = min(by_answer, key=lambda one: by_answer[one]), max(by_answer, key=lambda one: by_answer[one])
    return f"from {by_answer[least]:g} ({least}) to {by_answer[most]:g} ({most})"


def _plain(figure: Figure) -> dict[str, float | None]:
    return {"value": figure.value, "low": figure.low, "high": figure.high}

"""Field by field: what each approach gets right of an output, and which fields send a document to a person.

A case counts once for a field however often it was repeated: a field of a case is right when it is right in every
repeat, and otherwise what it was most often (of equals the worse: wrong, invented, missing, unscored).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.figures import MEASURED, Figure, Provenance, unknown
from steelyard.measure.intervals import MIN_CASES, effective_n, wilson

VERDICTS = ("right", "wrong", "missing", "invented", "unscored")
_WORSE = ("wrong", "invented", "missing", "unscored", "right")
"""Of verdicts that are equally frequent the first counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldRow:
    """One field of one approach."""

    approach: str
    field: str
    n: int
    """Cases, those without any answer included."""
    accuracy: Figure
    """Share of cases where the field is right; unscored ones are left out and said."""
    wrong: int
    """Cases with another value than expected."""
    missing: int
    """Cases where something was expected and nothing given."""
    invented: int
    """Cases where nothing was expected and something given."""
    unscored: int
    sends_to_review: Figure
    """Share of cases that are not wholly right and in which this field is not right."""
    alone: int
    """Cases that would be wholly right but for this field."""

    def to_json(self) -> dict[str, Any]:
        """One row of `fields` in `score --json`."""
        return {
            "approach": self.approach,
            "field": self.field,
            "n": self.n,
            "accuracy": self.accuracy.to_json(),
            "wrong": self.wrong,
            "missing": self.missing,
            "invented": self.invented,
            "unscored": self.unscored,
            "sends_to_review": self.sends_to_review.to_json(),
            "alone": self.alone,
        }


def field_rows(rows: Iterable[Mapping[str, Any]], *, alpha: float = 0.05) -> tuple[FieldRow, ...]:
    """Count fields.

    Args:
        rows: Mappings with `approach`, `case_id`, `repeat`, `cluster`, `field` and `verdict`, all repeats of a case.
        alpha: One minus the confidence level.

    Returns:
        One row per approach and field, in the order in which they first appear; empty where outcomes have one field,
        which success says already.
    """
    found: dict[str, dict[str, dict[str, list[str]]]] = {}  # approach -> case -> field -> verdicts of its repeats
    clusters: dict[str, str] = {}
    for row in rows:
        case = found.setdefault(row["approach"], {}).setdefault(row["case_id"], {})
        case.setdefault(row["field"], []).append(row["verdict"])
        clusters[row["case_id"]] = row.get("cluster") or f"case {row['case_id']}"
    table: list[FieldRow] = []
    for approach, cases in found.items():
        names = list(dict.fromkeys(name for case in cases.values() for name in case))
        if len(names) < 2:
            continue
        table += _of_approach(approach, names, cases, clusters, alpha=alpha)
    return tuple(table)


# --- private ---------------------------------------------------------------------------------------------------------


def _of_approach(
    approach: str,
    names: list[str],
    cases: Mapping[str, Mapping[str, list[str]]],
    clusters: Mapping[str, str],
    *,
    alpha: float,
) -> list[FieldRow]:
    codes: dict[str, int] = {}
    cluster = np.array([codes.setdefault(clusters[case_id], len(codes)) for case_id in cases], dtype=np.int64)
    verdicts = {
        name: [_verdict(case[name]) if name in case else "missing" for case in cases.values()] for name in names
    }
    not_right = [{name for name in names if verdicts[name][i] not in ("right", "unscored")} for i in range(len(cases))]
    n_reviewed = sum(bool(one) for one in not_right)
    rows = []
    for name in names:
        counts = Counter(verdicts[name])
        sent = np.array([float(name in one) for one in not_right if one])
        sent_cluster = np.unique(cluster[[bool(one) for one in not_right]], return_inverse=True)[1].astype(np.int64)
        rows.append(
            FieldRow(
                approach=approach,
                field=name,
                n=len(cases),
                accuracy=_accuracy(verdicts[name], cluster, alpha=alpha),
                wrong=counts["wrong"],
                missing=counts["missing"],
                invented=counts["invented"],
                unscored=counts["unscored"],
                sends_to_review=_share(sent, sent_cluster, MEASURED, alpha=alpha)
                if n_reviewed
                else unknown("every case is wholly right"),
                alone=sum(one == {name} for one in not_right),
            )
        )
    return rows


def _verdict(repeats: list[str]) -> str:
    if all(one == "right" for one in repeats):
        return "right"
    counts = Counter(one for one in repeats if one != "right")
    return max(_WORSE, key=lambda verdict: (counts[verdict], -_WORSE.index(verdict)))


def _accuracy(verdicts: list[str], cluster: np.ndarray[Any, np.dtype[np.int64]], *, alpha: float) -> Figure:
    scored = np.array([verdict != "unscored" for verdict in verdicts])
    if not scored.any():
        return unknown("no case was scored on this field")
    right = np.array([float(verdict == "right") for verdict in verdicts])[scored]
    left = np.unique(cluster[scored], return_inverse=True)[1].astype(np.int64)
    n_scored = int(scored.sum())
    provenance = (
        MEASURED
        if n_scored == len(verdicts)
        else Provenance(kind="measured", source=f"{n_scored} of {len(verdicts)} cases")
    )
    return _share(right, left, provenance, alpha=alpha)


def _share(
    values: np.ndarray[Any, np.dtype[np.float64]],
    cluster: np.ndarray[Any, np.dtype[np.int64]],
    provenance: Provenance,
    *,
    alpha: float,
) -> Figure:
    n = effective_n(values, cluster, alpha=alpha)
    rate = float(values.mean())
    interval = wilson(rate, n, alpha=alpha) if n >= MIN_CASES else None
    return Figure(
        value=rate,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        provenance=provenance,
    )

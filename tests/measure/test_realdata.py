"""Published per-case results of other people's systems, against figures worked out independently."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from steelyard.measure.comparing import comparisons
from steelyard.measure.results import ApproachResults, from_rows
from steelyard.measure.scoring import scorecard

DATA = Path(__file__).parents[3] / "shared" / "data"
STUDIES = [
    ("results_cfpb_14llm", None),
    ("results_airline_prompt_vs_ft", None),
    ("results_llmdrift", "task"),
]

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not there"),
]


def read(study: str, name: str) -> list[dict[str, str]]:
    with (DATA / study / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def results_by_group(study: str, group_by: str | None) -> dict[str, dict[str, ApproachResults]]:
    rows: dict[str, list[dict[str, object]]] = {}
    for line in read(study, "results.csv"):
        rows.setdefault(line[group_by] if group_by else "all", []).append(
            {
                "approach": line["system"],
                "case_id": line["case_id"],
                "success": int(line["success"]),
                "latency_s": float(line["latency_s"]) if line.get("latency_s") else None,
                "cost_usd": float(line["cost_usd"]) if line.get("cost_usd") else None,
            }
        )
    return {group: from_rows(kept) for group, kept in rows.items()}


@pytest.mark.parametrize(("study", "group_by"), STUDIES)
def test_systems_and_pairs_agree_with_the_reference(study: str, group_by: str | None) -> None:
    """Rates, Wilson ends, paired counts and exact p-values agree to the last digit the reference prints."""
    groups = results_by_group(study, group_by)
    for line in read(study, "reference_systems.csv"):
        results = groups[line["group"]][line["system"]]
        success = scorecard(results).success
        assert results.n == int(line["n"])
        for found, key in ((success.value, "rate"), (success.low, "wilson_lo"), (success.high, "wilson_hi")):
            assert found == pytest.approx(float(line[key]), abs=6e-7)
    for line in read(study, "reference_pairs.csv")[:12]:
        group = groups[line["group"]]
        found_pair = comparisons(group, pairs=[(line["a"], line["b"])])[0]
        assert (found_pair.n, found_pair.a_only, found_pair.b_only) == tuple(
            int(line[key]) for key in ("n", "a_only", "b_only")
        )
        assert found_pair.difference.value == pytest.approx(float(line["diff"]), abs=6e-7)
        assert found_pair.p_mcnemar == pytest.approx(float(line["mcnemar_exact_p"]), rel=1e-5)
        # The reference interval is Wald's, ours Newcombe's: near each other at these sizes, not equal.
        assert found_pair.difference.low == pytest.approx(float(line["ci_lo"]), abs=0.01)

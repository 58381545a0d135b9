"""The `cases:` section of study.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from steelyard.models.spec import Section


class SplitSpec(Section):
    """How cases are divided into train, dev and test."""

    by: Literal["random", "time"] = "random"
    """`random`: stratified by label; `time`: oldest cases train, newest test."""
    train: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Share of cases to learn from."""
    dev: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of cases to choose settings on; the rest is the test split."""
    seed: int = 0
    """Same seed, same split."""

    @model_validator(mode="after")
    def _leaves_a_test_split(self) -> SplitSpec:
        if self.train + self.dev >= 1:
            raise ValueError("train + dev must be below 1, so that something is left to test on")
        return self


class CasesSpec(Section):
    """Where the cases are and how to read them."""

    file: str
    """CSV, JSONL or Parquet file, relative to the study folder."""
    id: str | None = None
    """Column with the case id; left out: `id` where there is one, else the row number."""
    time: str | None = None
    """Column with the time of the case; left out: `time` or `date` where there is one."""
    segment: str | None = None
    """Column to report subgroups by."""
    cluster: str | None = None
    """Column that groups cases which must stay in one split."""
    question: str | None = None
    """Column with a name for what is asked, the same where it is asked as of other days; for freshness."""
    passages: str | None = None
    """Column with the text that holds the answer: a list of objects with `source` (id of a document) and `text`."""
    access: str | None = None
    """Column with the access tags of who asks: a list, or text with commas; left out, nobody has any."""
    split_column: str | None = None
    """Column that already says train, dev or test."""
    near_duplicates: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Cases at least this similar (Jaccard similarity of word 3-grams) are kept in the same split."""
    max_chars: Annotated[int, Field(gt=0)] = 100_000
    """A longer input field is refused when the file is read."""
    split: SplitSpec = SplitSpec()
    """How to divide the cases."""
    distilled: str | None = None
    """JSONL file of labels that `steelyard distill` grew from unlabelled inputs, usually `distilled.jsonl`; only tuning
    learns from them, and none is ever in dev or test."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:  # noqa: ANN401 - anything can stand in a YAML file
        return {"file": value} if isinstance(value, str) else value

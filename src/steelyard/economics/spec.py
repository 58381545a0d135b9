"""The `money:` section of study.yaml: what a ledger needs and no run can measure.

Every field has a default, so that a first verdict needs none of them; a default is shown as assumed, with its name,
until it is written down.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PrivateAttr

from steelyard.figures import Provenance
from steelyard.models.spec import NotNegative, Positive, Section

Share = Annotated[float, Field(ge=0, le=1)]


class AuthoringHours(Section):
    """Hours of a person's work to build an approach, once, by lever."""

    prompt: NotNegative = 4.0
    """Writing and trying the prompt; every approach that asks a model needs it."""
    workflow: NotNegative = 12.0
    """Schema, validation and repair steps."""
    retrieval: NotNegative = 16.0
    """Documents or examples, index, settings."""
    tuning: NotNegative = 16.0
    """Training set, training runs, export."""


class MaintenanceHours(Section):
    """Hours of a person's work to keep an approach going, per month, by lever."""

    prompt: NotNegative = 1.0
    """Prompt upkeep; every approach that asks a model needs it."""
    workflow: NotNegative = 2.0
    """Upkeep of the steps."""
    retrieval: NotNegative = 3.0
    """Upkeep of documents or examples and of the index."""
    tuning: NotNegative = 3.0
    """Watching the tuned model; retraining is counted apart."""


class MoneySpec(Section):
    """Volume, wages and hours behind the cost of one successful task."""

    volume_per_month: Positive = 10_000.0
    """Tasks per month once the approach is in use."""
    wage_per_hour_usd: NotNegative = 40.0
    """What an hour of a person's time costs, all in."""
    review_share: Share = 0.1
    """Share of tasks whose answer a person looks at."""
    review_seconds: NotNegative = 30.0
    """Seconds such a look takes, correcting included; measured reviews replace it."""
    failed_task_usd: NotNegative = 0.0
    """What a wrong or missing answer costs: rework, refund, a lost customer. Worth an estimate: it often decides."""
    horizon_months: Positive = 12.0
    """Months over which one-off work is written off."""
    labelling_seconds_per_case: NotNegative = 20.0
    """Seconds to label one case."""
    authoring_hours: AuthoringHours = AuthoringHours()
    """One-off hours by lever."""
    maintenance_hours_per_month: MaintenanceHours = MaintenanceHours()
    """Monthly hours by lever."""
    retraining_per_year: NotNegative = 2.0
    """How often a tuned approach is trained again."""
    curation_hours_per_retraining: NotNegative = 4.0
    """Hours to collect and clean the data of one retraining."""
    hosting_usd_per_month: NotNegative = 0.0
    """Rent for serving a tuned model of your own; counted for approaches that pull the tuning lever."""
    reindex_per_month: NotNegative = 0.0
    """How often documents or examples are indexed again; counted for approaches that pull the retrieval lever. Left out,
    the index of documents costs what its updates were measured to take."""
    batch_share: Share = 0.0
    """Share of tasks that can wait a day; they get the `batch_discount` of a price, where there is one."""
    assumed_range: Annotated[float, Field(ge=1, le=10)] = 1.5
    """Assumed inputs may be off by this factor either way; widens break-even volumes and paybacks, and weighs what a verdict hinges on."""
    stale_after_days: Annotated[int, Field(ge=1)] = 90
    """A price older than this is called out in the verdict."""

    _file: str = PrivateAttr(default="study.yaml")

    def written_in(self, file: str) -> MoneySpec:
        """The same section, whose figures say that they stand in another file than study.yaml."""
        copy = self.model_copy()
        copy._file = file
        return copy

    @property
    def file(self) -> str:
        """The file this section stands in."""
        return self._file


def source_of(money: MoneySpec, field: str) -> Provenance:
    """Provenance of a field, dotted for the hours: written in the user's file, or a default nobody confirmed.

    >>> str(source_of(MoneySpec(), "volume_per_month"))
    'assumed (default of money.volume_per_month)'
    """
    section: Section = money
    *parents, last = field.split(".")
    is_written = True
    for parent in parents:
        is_written = is_written and parent in section.model_fields_set
        section = getattr(section, parent)
    is_written = is_written and last in section.model_fields_set
    place = f"{money.file}: money.{field}" if is_written else f"default of money.{field}"
    return Provenance(kind="assumed", source=place)

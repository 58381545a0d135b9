"""The `cascade:` section of an approach, and what makes a set of cascades sound."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from steelyard.models.spec import Section

if TYPE_CHECKING:
    from steelyard.approaches.spec import ApproachSpec

Share = Annotated[float, Field(ge=0, le=1)]


class CascadeSpec(Section):
    """One approach answers first, another one where the first is not sure enough."""

    first: str
    """Name of the approach that answers first: the cheaper one. It has to say how sure it is: a tuned head, a vote, or a
    prompt with `confidence: true`."""
    then: str
    """Name of the approach that is asked where the first is not sure enough, or gives no valid answer."""
    below: Literal["auto"] | Share = "auto"
    """Calibrated confidence below which a case goes on: 0 lets the first answer everything, 1 nothing. `auto` takes the
    cheapest that reaches the wanted success on dev."""
    success: Share | None = None
    """`below: auto`: the success that dev has to show, at the lower end of its interval. Left out, at least what `then`
    alone reaches on the same dev cases."""
    dev_cases: Annotated[int, Field(ge=20, le=5000)] = 300
    """How many labelled dev cases both are asked at most, a seeded sample; for calibration and for `auto`."""

    @model_validator(mode="after")
    def _two_of_them(self) -> CascadeSpec:
        if self.first == self.then:
            raise ValueError(f"first and then are both {self.first!r}: name two approaches")
        if self.success is not None and self.below != "auto":
            raise ValueError(
                "success belongs to below: auto; with a number of your own the threshold is chosen already"
            )
        return self


def refuse_unsound(approaches: Mapping[str, ApproachSpec]) -> None:
    """Refuse cascades that cannot work.

    Raises:
        ValueError: A cascade names an approach that is not there, a ceiling, or itself by a detour; or what answers
            first cannot say how sure it is.
    """
    cascades = {name: spec.cascade for name, spec in approaches.items() if spec.cascade is not None}
    for name, cascade in cascades.items():
        for place, member in (("first", cascade.first), ("then", cascade.then)):
            if member not in approaches:
                near = difflib.get_close_matches(member, list(approaches), n=1)
                others = ", ".join(one for one in approaches if one != name)
                hint = f"did you mean {near[0]!r}?" if near else f"there is: {others}"
                raise ValueError(f"approaches.{name}.cascade.{place}: there is no approach {member!r}; {hint}")
            if approaches[member].is_ceiling:
                raise ValueError(
                    f"approaches.{name}.cascade.{place}: {member!r} is shown the gold passages, which nobody has in"
                    " production; name an approach that searches for them"
                )
        seen = [name]
        while (following := cascades.get(seen[-1])) is not None:
            if following.then in seen:
                circle = " -> ".join((*seen[seen.index(following.then) :], following.then))
                raise ValueError(f"approaches.{name}.cascade: cascades go on to each other in a circle: {circle}")
            seen.append(following.then)
        _refuse_unsure(name, cascade.first, approaches[cascade.first])


def in_order(cascades: Mapping[str, CascadeSpec]) -> list[str]:
    """Names, each after the cascade it goes on to."""
    ordered: list[str] = []
    for name in cascades:
        chain = [name]
        while cascades[chain[-1]].then in cascades:
            chain.append(cascades[chain[-1]].then)
        ordered += [one for one in reversed(chain) if one not in ordered]
    return ordered


def members_of(name: str, approaches: Mapping[str, ApproachSpec]) -> tuple[str, ...]:
    """The approaches a cascade asks in the end, and the cascades it goes on to; none of any other approach."""
    cascade = approaches[name].cascade
    if cascade is None:
        return ()
    return (cascade.first, cascade.then, *members_of(cascade.then, approaches))


# ---- private --------------------------------------------------------------------------------------------------------


def _refuse_unsure(name: str, first: str, spec: ApproachSpec) -> None:
    where = f"approaches.{name}.cascade.first: {first!r}"
    if spec.cascade is not None:
        raise ValueError(f"{where} is a cascade itself; let this one go on to it: then: {first}")
    if spec.tuning is not None and spec.tuning.method == "head":
        return
    if spec.model == "none":
        if spec.retrieval is not None and spec.retrieval.examples < 2:
            raise ValueError(
                f"{where} takes the nearest example, which says nothing of how sure it is; give"
                f" approaches.{first}.retrieval.examples: 5, and their vote does"
            )
        return
    steps = spec.workflow.steps if spec.workflow is not None else None
    if spec.workflow is not None and spec.workflow.split is not None:
        raise ValueError(
            f"{where} puts its answer together from several calls, none of which says how sure the whole is; let an"
            " approach without workflow.split answer first"
        )
    asked = [step for step in (steps or {}).values() if step.prompt is not None]
    says = [step.vote > 1 or (step.prompt is not None and step.prompt.confidence) for step in asked]
    if any(says) or (steps is None and spec.prompt.confidence):
        return
    place = "the prompt of its last step" if steps is not None else f"approaches.{first}.prompt"
    raise ValueError(
        f"{where} does not say how sure it is; give {place} confidence: true (the endpoint has to give"
        " log-probabilities), or let a tuned head answer first"
    )

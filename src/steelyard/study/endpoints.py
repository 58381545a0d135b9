"""The endpoints of a study, as its file declares them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from steelyard.approaches.spec import ApproachSpec
from steelyard.engine.budget import Budget, check_prices
from steelyard.engine.limits import ManagedEndpoint, managed
from steelyard.models.http import HttpEndpoint, hosted
from steelyard.models.spec import EndpointSpec
from steelyard.study import local_model
from steelyard.study.file import StudyFile
from steelyard.study.marking import judges_of
from steelyard.task.task import Task


def hosted_endpoints(
    file: StudyFile, task: Task, specs: Mapping[str, ApproachSpec], budget: Budget, *, also: Collection[str] = ()
) -> dict[str, ManagedEndpoint]:
    """The endpoints that these approaches and the judges of the task ask, and `also` these; the local model apart.

    Raises:
        InputError: A key is missing, or a budget in money meets a judge, an embedder or a reranker without a price.
    """
    uses = [one.knowledge for one in specs.values() if one.knowledge is not None]
    rerankers = {use.rerank for use in uses if use.rerank}
    embedder = file.knowledge.embeddings if file.knowledge is not None and uses else None
    judges = judges_of(task).union(also)
    beside = {*judges, *rerankers, embedder}
    found = {
        name: managed(hosted(name, spec, where=f"study.yaml:models.endpoints.{name}"), spec)
        for name, spec in file.models.endpoints.items()
        if name in beside or any(approach.model == name for approach in specs.values())
    }
    check_prices(budget, [found[name] for name in judges if name in found])
    check_prices(budget, [found[name] for name in rerankers if name in found], operation="rerank")
    check_prices(budget, [found[name] for name in found if name == embedder], operation="embed")
    return found


def unsent_endpoints(file: StudyFile, folder: Path) -> dict[str, ManagedEndpoint]:
    """All endpoints of a study without keys: good for estimates, never for a call."""
    endpoints = {name: managed(unsent(name, spec), spec) for name, spec in file.models.endpoints.items()}
    endpoints["local"] = local_model.unstarted(file.models.local, folder)
    return endpoints


def unsent(name: str, spec: EndpointSpec) -> HttpEndpoint:
    """The endpoint without its key: good for its identity and price, never for a call."""
    bare = spec.model_copy(update={"api_key_env": None})
    return hosted(name, bare, where=f"study.yaml:models.endpoints.{name}")

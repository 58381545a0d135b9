"""A stub model for the tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steelyard.models.stub_server import StubServer
from tests.cli.tickets import serving, steelyard, write_study


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """A model that says `billing` to everything."""
    with serving(reply="billing", retry_after="0.01") as server:
        yield server


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in which three approaches on two models were run; to be read only."""
    folder = tmp_path_factory.mktemp("finished") / "study"
    with serving(reply="billing") as billing, serving(reply='{"label": "delivery"}') as delivery:
        write_study(
            folder,
            billing.url,
            others=[f"other: {{base_url: '{delivery.url}', model: m2}}"],
            approaches=(
                "zero-shot: {model: stub}",
                "few-shot: {model: stub, prompt: {examples: 4}}",
                "workflow: {model: other, prompt: {enforce_schema: true}, workflow: {repair: 1}}",
            ),
        )
        ran = steelyard("run", folder, "--quiet")
    assert ran.code == 0, ran.err
    return folder

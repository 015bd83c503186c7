"""Shared by the tests of what is shown: empty folders of results, and the committed ones."""

import pytest

from focalrepro.evidence.difference import Evidence
from focalrepro.show.speakers import PLACES
from focalrepro.study.study import Study


@pytest.fixture(scope="session")
def evidence():
    """The committed studies that README.md speaks of, by profile."""
    return {name: Evidence(Study.committed(name)) for name in PLACES}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Empty folders for data and results."""
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"

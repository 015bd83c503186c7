"""Shared by the tests of what is shown: empty folders of results."""

import pytest


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Empty folders for data and results."""
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"

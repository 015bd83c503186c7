"""Shared by the tests of data."""

import pytest
from made import Made


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)

"""Shared by the tests of rare events: a small data set, its rows, made-up rows and a table of frauds."""

import numpy as np
import pandas as pd
import pytest

from focalrepro.rare import data, models, verdicts


@pytest.fixture(scope="session")
def fast():
    return models.RareSettings(hidden=8, steps=25, batch=64, rounds=10)


@pytest.fixture(scope="session")
def small():
    return data.overlapping(negatives=1500, positives=300, dimensions=5)


@pytest.fixture(scope="session")
def frame(small, fast):
    return models.run_rare([small], (10, 30), 2, fast)


@pytest.fixture
def made_up():
    """Cross entropy, and four methods: better, worse, neither, and its very scores."""
    shifts = {"better": [0.1, 0.11, 0.12], "worse": [-0.1, -0.11, -0.12], "neither": [-0.1, 0.1, 0.02]}
    base = np.array([0.5, 0.6, 0.4])
    values = {models.CE.name: base, models.MOVED: base} | {
        name: base + shift for name, shift in shifts.items()
    }
    rows = [
        {"dataset": "X", "rate": 1000.0, "method": name, "seed": seed, "train_positives": 5}
        | {"train_negatives": 5000, "test_positives": 9}
        | dict.fromkeys(verdicts.METRICS, value)
        for name, found in values.items()
        for seed, value in enumerate(found)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    n = 400
    fraud = np.where(np.arange(n) % 10 == 0, "yes", "no")
    amount = rng.normal(0, 1, n) + 2.5 * (fraud == "yes")
    amount[::9] = np.nan
    country = rng.choice(["AT", "CH", "DE"], n).astype(object)
    country[::13] = None
    return pd.DataFrame(
        {
            "amount": amount,
            "country": country,
            "night": rng.random(n) < 0.5,
            "name": [f"row {i}" for i in range(n)],
            "constant": 1,
            "fraud": fraud,
        }
    )

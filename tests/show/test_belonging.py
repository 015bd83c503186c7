"""Records and files that lie among results and are not of them."""

import pytest
from made_up import record, runs

from focalrepro.config import TRAINING_VERSION
from focalrepro.show.verify import strangers
from focalrepro.study.profiles import PROFILES
from focalrepro.study.store import Store
from focalrepro.study.study import Study

BASE = PROFILES["quick"].base


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Committed results of whole tables, and of a cell that no table has."""
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path))
    for r in runs(lambda c: 30.0, profile="quick", seeds=1):
        Store.committed("quick").put(r)
    Store.committed("quick").put(record(BASE.replace(gamma=1.7)))
    return Store.committed("quick")


def told(store):
    return strangers(Study.committed("quick"))


def test_whole_results_have_none(store):
    assert told(store) == []


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (record(BASE.replace(seed=9), protocol="0" * 12), "made under protocol 000000000000, results/PROT"),
        (record(BASE.replace(seed=9), protocol=""), "made under protocol none, results/PROTOCOL.md is"),
        (record(BASE.replace(seed=9, dataset="mine")), "made on dataset mine, this profile is of synthetic"),
        (
            record(BASE.replace(seed=9), version=TRAINING_VERSION + 1),
            f"made by version {TRAINING_VERSION + 1} of the training code, which here is {TRAINING_VERSION}",
        ),
    ],
)
def test_a_record_of_other_terms_is_named(store, other, why):
    store.put(other)
    (line,) = told(store)
    assert line.startswith(f"runs/{other.run_id}.json: {why}")


def test_a_stray_file_is_named(store, capsys):
    (store.folder / "._x.json").write_text("{")
    assert told(store) == ["runs/._x.json: no run has such a name; remove it"]

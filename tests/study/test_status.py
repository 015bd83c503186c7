"""What `focalrepro status` says of the time that is left."""

from made_up import record

from focalrepro.study.profiles import PROFILES
from focalrepro.study.status import time_left
from focalrepro.study.store import Store


def test_the_time_left_is_by_runs_of_the_same_length(tmp_path, monkeypatch):
    monkeypatch.setattr("focalrepro.hardware.cores", lambda: 2)
    profile, store = PROFILES["quick"], Store(tmp_path)
    assert "a guess: none was run here" in time_left(10, store, profile)
    for seed in range(3):
        short = profile.base.replace(steps=20, warmup=1, seed=seed)
        store.put(record(short, seconds={"total": 6.0}))
    assert time_left(100, store, profile) == "about 5 min on this machine, by its own runs"
    store.put(record(profile.base, seconds={"total": 60.0}))
    assert time_left(100, store, profile) == "about 50 min on this machine, by its own runs"

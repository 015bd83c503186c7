"""What `focalrepro status` says of the time that is left."""

import torch
from made_up import record

from focalrepro.study.ablations import plan
from focalrepro.study.campaign import with_ids
from focalrepro.study.profiles import PROFILES
from focalrepro.study.status import print_status, time_left
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


def test_a_failed_run_is_named_with_its_seed(data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("focalrepro.study.status.Store.local", lambda name: Store(tmp_path))
    job = with_ids(plan(PROFILES["smoke"], ["1b"], 1))[0]
    Store(tmp_path).put_error(job.run_id, "a traceback")
    assert print_status("smoke", ("1b",), 1) == 0
    assert f"failed: {job.title}; see {tmp_path}/errors/{job.run_id}.txt" in capsys.readouterr().out
    assert job.title.endswith(", seed 0")


def test_hours_of_a_gpu_are_counted_by_its_own_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("focalrepro.hardware.pick_device", lambda *_: torch.device("cuda"))
    profile, store = PROFILES["coco256"], Store(tmp_path)
    store.put(record(profile.base, seconds={"total": 36.0}))
    assert time_left(50, store, profile) == "about 30 min (0.5 GPU-hours) on this machine, by its own runs"

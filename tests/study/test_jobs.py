"""What the terminal says of a campaign."""

import torch
from made_up import changed, record

from focalrepro.hardware import has_bf16
from focalrepro.study.ablations import Planned
from focalrepro.study.jobs import of_other_machines
from focalrepro.study.profiles import get_profile
from focalrepro.study.store import Store


def test_finished_runs_of_another_kind_of_machine_are_said(tmp_path):
    store, base, cpu = Store(tmp_path), get_profile("smoke").base, torch.device("cpu")
    records = [record(base.replace(seed=seed)) for seed in range(3)]
    jobs = [Planned(r.config, (), r.run_id) for r in records]
    own = {"hardware": {"precision": None if has_bf16(cpu) else "fp32"}}
    store.put(changed(records[0], **own))
    assert of_other_machines(store, jobs, cpu) == ""
    store.put(changed(records[1], hardware={"device": "cuda", "gpu": "a GPU"}))
    said = of_other_machines(store, jobs, cpu)
    assert said.startswith("1 of these were made on another kind of machine (cuda; here: cpu")
    assert "FOCALREPRO_BF16" not in said, "no switch makes a GPU of this"


def test_how_to_join_the_runs_of_a_machine_without_bf16(tmp_path, monkeypatch):
    store, cpu = Store(tmp_path), torch.device("cpu")
    made = record(get_profile("smoke").base)
    store.put(changed(made, hardware={"precision": "fp32"}))
    jobs = [Planned(made.config, (), made.run_id)]
    monkeypatch.setattr("focalrepro.study.jobs.has_bf16", lambda device: True)
    said = of_other_machines(store, jobs, cpu)
    assert said.endswith("; with FOCALREPRO_BF16=0 in the environment they are of that kind")
    monkeypatch.setattr("focalrepro.study.jobs.has_bf16", lambda device: False)
    assert of_other_machines(store, jobs, cpu) == ""

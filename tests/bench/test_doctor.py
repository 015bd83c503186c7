"""The checks of a device pass where it computes right, and fail where it does not."""

import os
import re
import time

import pytest
import torch
from made_up import record

from focalrepro.bench import doctor
from focalrepro.detector.group_norm import GroupNormReLU
from focalrepro.study.ablations import plan
from focalrepro.study.profiles import PROFILES
from focalrepro.study.store import Store
from focalrepro.training.step import Step

CPU = torch.device("cpu")
QUICK = [name for name in doctor.CHECKS if name != "a captured step is an eager one"]


@pytest.mark.parametrize("name", QUICK)
def test_the_cpu_passes(name, data_root):
    assert doctor.CHECKS[name](CPU)


def test_pairs_cover_every_loss_and_both_detectors():
    configs = list(doctor.pairs())
    assert {c.loss for c in configs} == set(doctor.LOSSES)
    assert {c.normalizer for c in configs} == set(doctor.NORMALIZERS)
    assert {(c.backbone, c.optimizer) for c in configs} >= {("small", "sgd"), ("resnet50v2", "adamw")}
    assert any(c.views == 4 for c in configs)


def test_a_norm_that_is_wrong_is_found(monkeypatch):
    plain = GroupNormReLU.forward
    monkeypatch.setattr(GroupNormReLU, "forward", lambda self, x: plain(self, x) * 1.2)
    with pytest.raises(AssertionError):
        doctor.norms_are_torchs(CPU)


def test_a_parameters_gradient_that_is_wrong_is_found(monkeypatch):
    plain = GroupNormReLU.forward

    def wrong(self, x):
        return plain(self, x) + 0 * self.bias.sum() + (self.bias - self.bias.detach()).sum()

    monkeypatch.setattr(GroupNormReLU, "forward", wrong)
    with pytest.raises(AssertionError):
        doctor.norms_are_torchs(CPU)


def test_a_pair_agrees_and_a_broken_one_is_named(tiny, monkeypatch):
    config = doctor.SMALL.replace(loss="hinge", steps=2)
    doctor.same_losses(config, tiny[0], CPU)
    plain = Step.__call__

    def broken(self, *given):
        plain(self, *given)
        self.losses.mul_(1 + isinstance(self.dials.alpha, torch.Tensor))

    monkeypatch.setattr(Step, "__call__", broken)
    with pytest.raises(AssertionError, match="hinge, positives, adamw, small"):
        doctor.same_losses(config, tiny[0], CPU)


def fine(device):
    return f"fine in {os.getpid()}"


def fails(device):
    raise RuntimeError  # without a text, as some of torch's


def dies(device):
    os._exit(1)  # as a driver's abort does


def test_a_failed_check_is_said_and_spoils_no_other(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "ensure", lambda dataset: None)  # it would redraw the tests' small dataset
    checks = {"first": fine, "bad": fails, "second": fine, "worse": dies, "third": fine}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    assert doctor.doctor("cpu") == 1
    said = capsys.readouterr().out
    assert "bad: FAILED: RuntimeError: " in said and "worse: FAILED: BrokenProcessPool: " in said
    assert "cpu: 2 checks failed" in said
    processes = re.findall(r"fine in (\d+)", said)
    assert len(set(processes)) == 3, "what failed may have left its process's device in pieces"


def hangs(device):
    time.sleep(600)


def test_a_gpus_check_that_hangs_costs_its_own_time_alone(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "ensure", lambda dataset: None)
    monkeypatch.setattr(doctor, "CHECKS", {"slow": hangs, "next": fine})
    monkeypatch.setattr(doctor, "LONGEST", 20.0)
    monkeypatch.setattr(doctor, "machine", list)
    monkeypatch.setattr(doctor.hardware, "pick_device", lambda name: torch.device("cuda"))
    began = time.monotonic()
    assert doctor.doctor("cpu") == 1  # the checks' own processes see a CPU
    said = capsys.readouterr().out
    assert "slow: FAILED: TimeoutError" in said and "next: fine in" in said
    assert time.monotonic() - began < 120


def test_all_pairs_that_differ_are_named(tiny, monkeypatch):
    configs = [doctor.SMALL.replace(loss=loss, steps=2) for loss in ("hinge", "focal", "quality")]
    monkeypatch.setattr(doctor, "pairs", lambda: iter(configs))
    monkeypatch.setattr(doctor, "load_splits", lambda config: tiny)
    plain = Step.__call__

    def broken(self, *given):
        plain(self, *given)
        wrong = isinstance(self.dials.alpha, torch.Tensor) and self.config.loss != "focal"
        self.losses.mul_(1 + wrong)

    monkeypatch.setattr(Step, "__call__", broken)
    with pytest.raises(AssertionError, match=r"2 of 3 differ: hinge, .*; quality, "):
        doctor.captured_is_eager(CPU)


def test_what_the_machine_has_is_said(data_root):
    said = list(doctor.machine())
    assert any("cores" in line for line in said)
    quick = next(line for line in said if line.split()[0] == "quick")
    assert "runs to make" in quick and "min" in quick


def test_the_disk_is_known_before_the_data_root_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "not" / "yet"))
    assert any("GB of disk free; prepared: nothing yet" in line for line in doctor.machine())


def test_only_runs_of_the_plan_count_as_made(tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    profile, store = PROFILES["smoke"], Store.local("smoke")
    planned = plan(profile, list(profile.ablations))
    store.put(record(planned[0].config))
    for lr in (0.011, 0.012):  # of a search, say
        store.put(record(profile.base.replace(lr=lr)))
    said = next(line for line in doctor.machine() if line.split()[0] == "smoke")
    assert said.split()[1:4] == [str(len(planned) - 1), "of", str(len(planned))]

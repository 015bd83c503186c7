"""The checks of a device pass where it computes right, and fail where it does not."""

import pytest
import torch

from focalrepro.bench import doctor
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


def test_a_failed_check_is_said_and_makes_the_exit_status(monkeypatch, capsys):
    def fails(device):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(doctor, "ensure", lambda dataset: None)  # it would redraw the tests' small dataset
    monkeypatch.setattr(doctor, "CHECKS", {"good": lambda device: "fine", "bad": fails})
    assert doctor.doctor("cpu") == 1
    said = capsys.readouterr().out
    assert (
        "good: fine" in said and "bad: FAILED: RuntimeError: no kernel" in said and "1 checks failed" in said
    )


def test_what_the_machine_has_is_said(data_root):
    said = list(doctor.machine())
    assert any("cores" in line for line in said)
    quick = next(line for line in said if line.split()[0] == "quick")
    assert "runs to make" in quick and "min" in quick

"""Loss distributions, on cases whose answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from focalrepro.evaluation import diagnostics
from focalrepro.evaluation.diagnostics import GAMMAS, SHARES, first_images, loss_distribution, positions
from focalrepro.runs import load_splits
from focalrepro.study.profiles import PROFILES
from focalrepro.training import batches

CONFIG = PROFILES["smoke"].base.replace(precision="fp32")


class Constant(nn.Module):
    """A detector that gives every anchor and class the same logit, but one class of the background more."""

    def __init__(self, logit, hard):
        super().__init__()
        self.logit, self.hard = logit, hard

    def forward(self, images):
        logits = torch.full((len(images), 12_096, 10), self.logit)
        logits[:, :, 0] = self.hard
        return logits, torch.zeros(len(images), 12_096, 4)


def test_equal_losses_lie_on_the_diagonal(data_root):
    _, val = load_splits(CONFIG)
    found = loss_distribution(Constant(-2.0, -2.0), CONFIG, val, torch.device("cpu"), images=2)
    for kind in ("foreground", "background"):
        for gamma in GAMMAS:
            np.testing.assert_allclose(found[kind][f"{gamma:g}"], SHARES, atol=0.02)
    assert found["background"]["windows"] > 200_000 > 1_000 > found["foreground"]["windows"] > 0


def test_of_many_classes_fewer_images_are_sorted(data_root, monkeypatch):
    train, _ = load_splits(CONFIG)
    for images, seen in ((24, 24), (20, 16)):
        monkeypatch.setattr(diagnostics, "MOST", images * 12_096 * 10)
        found = loss_distribution(Constant(-2.0, -2.0), CONFIG, train, torch.device("cpu"), images=64)
        assert len(train) == 24 and found["images"] == seen


def test_gamma_moves_the_loss_to_the_hard_background(data_root):
    _, val = load_splits(CONFIG)
    found = loss_distribution(Constant(-3.0, 3.0), CONFIG, val, torch.device("cpu"), images=2)["background"]
    at = SHARES.index(0.89)  # nine windows in ten are easy
    easy, hard = np.log1p(np.exp(-3.0)), np.log1p(np.exp(3.0))
    for gamma in GAMMAS:
        p = 1 / (1 + np.exp(3.0))
        a, b = p**gamma * easy * 9, (1 - p) ** gamma * hard
        assert found[f"{gamma:g}"][at] == pytest.approx(a / (a + b) * 0.89 / 0.9, rel=0.02, abs=1e-3)


@pytest.mark.parametrize("windows", [0, 7, 2**24 + 1, 62_404_767])  # the last: 64 images of 80 classes
def test_shares_end_within_the_windows(windows):
    at = positions(windows)
    assert at[0] == 0 and at[-1] == windows and (at.diff() >= 0).all()


def test_a_split_is_cut_once_for_all_runs_and_stays_what_it_was(tiny):
    train, val = tiny
    device, kept = torch.device("cpu"), batches._targets(train, 1, torch.device("cpu"))
    for _ in range(3):  # runs that go on with the step of the one before ask for the cut split alone
        cut = first_images(val, 2)
        assert cut is first_images(val, 2) and len(cut) == 2 and (cut.boxes == val.boxes[:2]).all()
        batches._targets(cut, 1, device)
    assert batches._targets(train, 1, device)[0] is kept[0], "what is trained on is still there"

"""Whether the background drowns the objects: the share of the loss on anchors that are assigned to one."""

import pytest
import torch

from focalrepro.config import RunConfig
from focalrepro.evaluation.on_objects import divided_by, on_objects, share_on_objects
from focalrepro.study.profiles import get_profile
from focalrepro.training.engines import new_step
from focalrepro.training.initial import initial_model

CPU = torch.device("cpu")
CONFIG = get_profile("smoke").base.replace(precision="fp32", gamma=0.0, alpha=0.5)


class Fixed(torch.nn.Module):
    """A model whose logits are all the same."""

    def __init__(self, logit: float, classes: int = 10) -> None:
        super().__init__()
        self.logit, self.classes = logit, classes

    def forward(self, inputs):
        return torch.full((*inputs.shape[:1], self.anchors, self.classes), self.logit), None


@pytest.fixture
def source(tiny):
    return new_step(CONFIG, tiny[0], CPU).source


def test_shares_of_known_logits(source):
    """With p on every logit, cross entropy of the share s of (anchor, class) pairs that are objects'."""
    model = Fixed(-2.0)
    model.anchors = len(source.anchors.boxes)
    match = source.match[0, :8]
    objects, counted = int((match >= 0).sum()), int((match != -2).sum())
    p = torch.sigmoid(torch.tensor(-2.0)).item()
    right, wrong = objects, counted * 10 - objects  # pairs whose target is 1, and 0
    on = objects * 9  # an object's anchor has nine other classes
    loss, slope = (
        (right * a + on * b) / (right * a + wrong * b)
        for a, b in ((-torch.log(torch.tensor(p)).item(), -torch.log(torch.tensor(1 - p)).item()), (1 - p, p))
    )
    found = share_on_objects(model, CONFIG, source, images=8)
    assert found[:2] == pytest.approx((loss, slope), rel=1e-4)
    assert model.training, "it is left as it was"


def test_shares_as_a_training_divides_them(source):
    """One image a batch: each has its own divisor. All images in every batch: the shares are the sums'."""
    model = Fixed(-2.0)
    model.anchors = len(source.anchors.boxes)
    p, match = torch.sigmoid(torch.tensor(-2.0)), source.match[0, :8]
    objects, windows = (match >= 0).sum(1), (match != -2).sum(1) * 10
    whole = -(objects * p.log() + (windows - objects) * (1 - p).log())
    on = -objects * (p.log() + 9 * (1 - p).log())
    divisor = objects.clamp(min=1)
    alone = share_on_objects(model, CONFIG.replace(batch_size=1), source, images=8)
    assert alone.divided_loss == pytest.approx(
        float((on / divisor).sum() / (whole / divisor).sum()), rel=1e-4
    )
    assert alone.divided_loss != pytest.approx(alone.loss, rel=1e-2)
    together = share_on_objects(model, CONFIG.replace(batch_size=8), source, images=8)
    assert together.divided_loss == pytest.approx(together.loss)
    assert together.divided_gradient == pytest.approx(together.gradient)


def test_an_image_weighs_the_more_the_fewer_objects_its_batches_hold():
    assigned = torch.tensor([0, 10, 30])
    weight = {
        name: divided_by(assigned, CONFIG.replace(normalizer=name, batch_size=1)).tolist()
        for name in ("positives", "plus_images", "image", "moving")
    }
    ratios = {name: [w / of[1] for w in of] for name, of in weight.items()}
    assert ratios["positives"] == pytest.approx([10, 1, 1 / 3])
    assert ratios["plus_images"] == pytest.approx([11, 1, 11 / 31])
    assert ratios["image"] == pytest.approx([10, 1, 1 / 3])
    assert ratios["moving"] == [1, 1, 1]
    pairs = divided_by(torch.cat([assigned, assigned]), CONFIG.replace(batch_size=6))
    assert (pairs == pairs[0]).all()
    pairs = divided_by(torch.tensor([0, 0, 10, 10]), CONFIG.replace(batch_size=2))
    expected = [1 / 3 + 2 / 3 / 10, 1 / 3 + 2 / 3 / 10, 1 / 3 / 20 + 2 / 3 / 10, 1 / 3 / 20 + 2 / 3 / 10]
    assert (pairs / pairs.sum()).tolist() == pytest.approx([e / sum(expected) for e in expected], rel=0.1)


def test_looks_before_the_first_steps_and_at_the_end(tiny):
    config = CONFIG.replace(steps=60, warmup=5)
    model = initial_model(config, tiny[0])
    found = on_objects(model, config, tiny[0], CPU, images=8)
    assert found["step"] == [0, 5, 60], "those within the first tenth, and the end"
    assert found["loss"][0] == found["loss"][2], "the model that is given stands for the trained one"
    assert all(0 < share < 1 for share in found["loss"] + found["gradient"])
    assert found["loss"][1] != found["loss"][0]


@pytest.mark.parametrize(
    "changes", [{"loss": "ohem"}, {"detector": "faster_rcnn"}, {"gamma": 2.0, "gamma_object": 0.0}]
)
def test_of_other_losses_nothing_is_said(changes, tiny):
    config: RunConfig = CONFIG.replace(**changes)
    assert on_objects(torch.nn.Identity(), config, tiny[0], CPU) is None


def test_focal_loss_lies_on_objects_from_the_start(tiny):
    plain, focal = (
        on_objects(initial_model(c, tiny[0]), c, tiny[0], CPU, images=8)["loss"][0]
        for c in (CONFIG, CONFIG.replace(gamma=2.0, alpha=0.25))
    )
    assert plain < 0.5 < focal

"""Numbers of a loss as tensors, as a GPU's captured step has them, give what floats give."""

import pytest
import torch

from focalrepro.study.profiles import PROFILES
from focalrepro.training.criteria import LOSSES
from focalrepro.training.dials import NUMBERS, Dials
from focalrepro.training.engines import new_step

SMALL = PROFILES["smoke"].base.replace(precision="fp32")
CPU = torch.device("cpu")


@pytest.mark.parametrize("normalizer", ["positives", "plus_images", "anchors", "moving", "image", "picked"])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_takes_tensors(loss, normalizer, tiny):
    try:
        config = SMALL.replace(loss=loss, normalizer=normalizer, epsilon=0.5, gamma_object=1.0)
    except ValueError as error:
        pytest.skip(str(error))
    found = []
    for as_tensors in (False, True):
        step = new_step(config, tiny[0], CPU)
        if as_tensors:
            step.dials = step.dials.on(CPU)
            assert all(isinstance(getattr(step.dials, name), torch.Tensor) for name in NUMBERS)
        step(torch.arange(4), torch.zeros(4, dtype=torch.long), 1e-3)
        found.append(step.losses)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_set_fills_tensors_in_place():
    dials = Dials.of(SMALL).on(CPU)
    alpha = dials.alpha
    dials.set(SMALL.replace(alpha=0.75, gamma=1.0))
    assert dials.alpha is alpha and float(alpha) == 0.75
    assert float(dials.gamma) == float(dials.gamma_object) == 1.0  # none of its own: gamma's

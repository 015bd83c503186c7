"""The crops that the small backbones learned on, and the weights that they learned."""

import numpy as np
import pytest
import torch

from focalrepro.data import synthetic
from focalrepro.detector.backbones import make_backbone
from focalrepro.training import pretrain
from focalrepro.training.pretrain import CROP, JITTER, NONE, draw_crops, pretrained_weights


def test_a_crop_has_its_glyph_in_its_middle():
    crops, classes, boxes = draw_crops(12)
    side = CROP + JITTER
    assert crops.shape == (len(classes), 3, side, side) and crops.dtype == np.uint8
    assert set(classes) <= set(range(NONE + 1)) and (classes == NONE).any() and (classes < NONE).any()
    there = ~np.isnan(boxes).any(1)
    middles = boxes[there].reshape(-1, 2, 2).mean(1)
    assert np.abs(middles - side / 2).max() <= 1 and (classes[~there] == NONE).all()
    assert (classes[there] == NONE).any(), "what only looks like a digit has a box, too"
    for a, b in zip((crops, classes, boxes), draw_crops(12), strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_sample_of_a_validation_scene_is_in_a_crop(monkeypatch):
    samples = synthetic.split_digits()
    seen = []
    monkeypatch.setattr(pretrain, "Glyphs", lambda *of: seen.append(of) or synthetic.Glyphs(*of))
    draw_crops(1)
    (drawn,) = seen
    assert np.array_equal(drawn[0], samples["train"][0])
    kept_out = {s.tobytes() for s in samples["val"][0]} - {s.tobytes() for s in samples["train"][0]}
    assert kept_out and not kept_out & {s.tobytes() for s in drawn[0]}


def test_learning_is_repeatable_and_fits_the_backbone():
    first, second = (pretrain.pretrain("small", scenes=3, steps=3) for _ in range(2))
    fresh = make_backbone("small").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in fresh)
    assert not torch.equal(first["stages.0.0.0.weight"], fresh["stages.0.0.0.weight"])


@pytest.mark.parametrize("name", ["small", "small_deep"])
def test_the_package_has_what_was_learned(name):
    state = make_backbone(name, str(pretrained_weights(name))).state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())
    assert state["stages.0.0.1.num_batches_tracked"] == pretrain.STEPS


def test_a_backbone_that_never_saw_digits_is_named():
    with pytest.raises(ValueError, match=r"'resnet18' never saw the digits; .* there for small, small_deep"):
        pretrained_weights("resnet18")


def test_its_features_tell_a_digit_from_one_with_a_flaw():
    """Of scenes and samples that the backbone never saw, a least-squares reading of its coarsest map at the
    glyph is right far more often than guessing, though cut and crossed digits are among them."""
    crops, classes, _ = _of_validation(60)
    backbone = make_backbone("small", str(pretrained_weights("small"))).eval()
    with torch.no_grad():
        normalised = pretrain.Normalise()(torch.from_numpy(crops[:, :, 4:-4, 4:-4].copy()))
        x = backbone(normalised)[4][..., 1:2, 1:2].flatten(1).double().numpy()
    x, y = np.c_[x, np.ones(len(x))], (classes < NONE) * 2.0 - 1
    half = len(x) // 2
    weights = np.linalg.solve(x[:half].T @ x[:half] + 10 * np.eye(x.shape[1]), x[:half].T @ y[:half])
    assert np.mean(np.sign(x[half:] @ weights) == y[half:]) > 0.85


def _of_validation(scenes):
    with pytest.MonkeyPatch.context() as patch:
        samples = synthetic.split_digits()
        patch.setattr(pretrain, "split_digits", lambda: {"train": samples["val"]})
        patch.setattr(pretrain, "STREAM", 3)
        return draw_crops(scenes)

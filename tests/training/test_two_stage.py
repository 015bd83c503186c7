"""The two-stage detector: its targets, its anchors, that it learns,
and that a run of it is a run like any other.
"""

import json

import numpy as np
import pytest
import torch

from focalrepro.data.registry import DESCRIPTOR
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.evaluation.detect import detect, milliseconds_per_image
from focalrepro.runs import load_splits, run
from focalrepro.study.profiles import PROFILES
from focalrepro.training.batches import SplitData, TrainData, batches
from focalrepro.training.initial import backbone_weights, initial_model
from focalrepro.training.loop import train
from focalrepro.training.two_stage import TwoStage, TwoStageStep, as_targets, rpn_anchors

CPU = torch.device("cpu")
SMALL = PROFILES["smoke"].base.replace(detector="faster_rcnn", precision="fp32")


@pytest.fixture(scope="module")
def data(data_root):
    return load_splits(SMALL)


def test_labels_start_at_1_and_padding_is_left_out():
    boxes = torch.arange(24.0).view(2, 3, 4)
    first, second = as_targets(boxes, torch.tensor([[4, 0, -1], [-1, -1, -1]]))
    assert first["labels"].tolist() == [5, 1]
    assert torch.equal(first["boxes"], boxes[0, :2])
    assert second["boxes"].shape == (0, 4) and second["labels"].dtype == torch.int64


def test_anchors_have_one_size_a_level_in_the_middle_of_retinanets():
    config = SMALL.replace(anchor_size=4.0, anchor_scales=3)
    grid = rpn_anchors(config)
    start = 0
    for level, count in zip(grid.levels, grid.per_level, strict=True):
        boxes = grid.boxes[start : start + count]
        start += count
        sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
        torch.testing.assert_close(sides, torch.full_like(sides, 4 * 2**level * 2 ** (1 / 3)))
    assert grid.shapes == 3


def test_both_detectors_start_from_the_same_backbone_and_pyramid(data):
    models = []
    for kind in (RetinaNet, TwoStage):
        torch.manual_seed(0)
        models.append(kind(SMALL, 10).state_dict())
    ours, theirs = models
    shared = [name for name in ours if name.startswith(("backbone", "fpn"))]
    assert shared and all(torch.equal(ours[name], theirs[name]) for name in shared)
    assert not any("class_head" in name for name in theirs)


def test_the_first_run_of_a_process_draws_the_numbers_of_any_other(data):
    backbone_weights.cache_clear()
    drawn = []
    for _ in range(2):
        initial_model(SMALL.replace(weights="digits"), data[0])
        drawn.append(torch.rand(1))  # as the regions are
    assert drawn[0] == drawn[1]


def test_it_reads_what_retinanet_reads(data):
    index, flips = batches(len(data[0]), SMALL.replace(steps=1))
    flips[0, 0] = 1
    inputs, boxes, _ = SplitData(SMALL, data[0], CPU).read(index[0], flips[0])
    theirs, labels, targets, positive = TrainData(SMALL, data[0], CPU).batch(index[0], flips[0])
    assert torch.equal(inputs, theirs)
    first = targets[0][positive[0]][0]
    assert (boxes[0] == first).all(1).any() and labels[0][positive[0]].min() >= 0


def overfitted(data):
    """A detector that has seen two images again and again."""
    config = SMALL.replace(steps=60, batch_size=2)
    torch.manual_seed(0)
    model = TwoStage(config, 10).train()
    source = SplitData(config, data, CPU)
    step = TwoStageStep(model, source, config, CPU)
    index, flip = torch.arange(2), torch.zeros(2, dtype=torch.long)
    losses = []
    for _ in range(config.steps):
        step(index, flip, 2e-3)
        losses.append(step.losses.clone())
    return model, config, torch.stack(losses), bool(step.finite)


def test_it_learns_two_images_by_heart(data):
    train_data = data[0]
    model, config, losses, finite = overfitted(train_data)
    assert finite and losses[-5:, 0].mean() < 0.35 * losses[:2, 0].mean()
    with torch.inference_mode():
        found = model.eval().find(model.features(torch.from_numpy(train_data.images[:2].copy())))
    right, objects = 0, 0
    for (boxes, scores, labels), truth, classes in zip(
        found, train_data.boxes, train_data.labels, strict=False
    ):
        assert (scores[:-1] >= scores[1:]).all() and (scores >= config.score_threshold).all()
        assert len(boxes) <= config.max_detections
        for box, label in zip(torch.from_numpy(truth), classes, strict=True):
            if label < 0:
                continue
            objects += 1
            mine = boxes[labels == label]
            if len(mine):
                low, high = torch.maximum(mine[:, :2], box[:2]), torch.minimum(mine[:, 2:], box[2:])
                both = (high - low).clamp(min=0).prod(1)
                area = lambda b: (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])  # noqa: E731
                right += bool((both / (area(mine) + area(box) - both) > 0.5).any())
    assert right / objects > 0.7, f"{right} of {objects}"


def test_a_run_of_it_has_a_whole_record(data):
    record = run(SMALL, CPU)
    assert not record.diverged and record.loss_distribution is None
    assert record.anchors.per_image == len(rpn_anchors(SMALL).boxes)
    assert 0 < record.anchors.positive_per_image < record.anchors.per_image
    assert record.inference_ms > 0 and record.config.detector == "faster_rcnn"
    assert len(record.history["loss"]) == SMALL.steps
    assert record.run_id != run(SMALL.replace(detector="retinanet"), CPU).run_id
    again = run(SMALL, CPU)
    assert again.metrics == record.metrics and again.history == record.history
    json.dumps(record.as_json())


def test_what_is_not_finite_ends_as_diverged(data):
    result = train(SMALL.replace(lr=1e18, steps=30, warmup=0, optimizer="sgd"), data[0], CPU)
    assert result.status == "diverged" and result.history["step"][-1] < 30


def test_cached_features_give_what_the_images_give(data, data_root, monkeypatch):
    """A frozen backbone whose maps are read back from disk finds the same as one that sees the images."""
    weights = data_root / "frozen.safetensors"
    from safetensors.torch import save_file

    from focalrepro.detector.backbones import make_backbone

    torch.manual_seed(5)  # weights of its own: whoever has the same would share the features
    save_file({k: v.contiguous() for k, v in make_backbone("small").state_dict().items()}, weights)
    frozen = SMALL.replace(
        frozen="backbone", weights=str(weights), flip=False, precision="bf16", score_threshold=0.01
    )
    assert (data_root / "synthetic" / DESCRIPTOR).is_file()
    result = train(frozen.replace(steps=10), data[0], CPU)
    assert result.status == "done"
    cached, _ = detect(result.model, frozen, data[1], CPU)
    seen, _ = detect(result.model, frozen.replace(frozen="stage1"), data[1], CPU)
    assert len(cached) == len(seen) > 0
    np.testing.assert_allclose(cached.scores, seen.scores, atol=2e-3)
    np.testing.assert_allclose(cached.boxes, seen.boxes, atol=0.2)
    both = {name: (result.model, frozen, data[1]) for name in ("a", "b")}
    taken = milliseconds_per_image(both, CPU, images=3)
    assert set(taken) == {"a", "b"} and min(taken.values()) > 0

"""What only a GPU can show; skipped without one."""

import pytest
import torch

from focalrepro.detector.anchors import AnchorGrid
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.evaluation.detect import select
from focalrepro.runs import load_splits
from focalrepro.study.profiles import PROFILES
from focalrepro.training.batches import TrainData, batches, config_anchors
from focalrepro.training.focal_sum import detection_focal_loss
from focalrepro.training.loop import Engines, train
from focalrepro.training.step import Step, learning_rate

CONFIG = PROFILES["smoke"].base.replace(lr=1e-3, steps=12, warmup=2)
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def losses(device, captured, steps=12):
    torch.manual_seed(0)
    train_data, _ = load_splits(CONFIG)
    model = (
        RetinaNet(CONFIG, len(train_data.categories)).to(device, memory_format=torch.channels_last).train()
    )
    source = TrainData(CONFIG, train_data, device)
    step = Step(model, source, CONFIG, device)
    step.captures = captured
    index, flips = (t.to(device) for t in batches(len(source), CONFIG))
    history = []
    for i in range(steps):
        step(index[i], flips[i], learning_rate(i, CONFIG))
        history.append(step.losses.clone())
    assert (step.graph is not None) == captured
    return torch.stack(history).cpu()


@cuda
def test_a_captured_step_trains_as_an_eager_one(data_root):
    device = torch.device("cuda")
    torch.testing.assert_close(losses(device, True), losses(device, False), rtol=0.02, atol=0.02)


@cuda
def test_no_step_waits_for_the_device(data_root):
    device = torch.device("cuda")
    train_data, _ = load_splits(CONFIG)
    model = (
        RetinaNet(CONFIG, len(train_data.categories)).to(device, memory_format=torch.channels_last).train()
    )
    source = TrainData(CONFIG, train_data, device)
    step = Step(model, source, CONFIG, device)
    index, flips = (t.to(device) for t in batches(len(source), CONFIG))
    step(index[0], flips[0], 1e-3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for i in range(1, 8):
            step(index[i], flips[i], 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@cuda
def test_a_captured_step_serves_another_alpha_and_gamma(data_root):
    train_data, _ = load_splits(CONFIG)
    device, engines = torch.device("cuda"), Engines()
    other = CONFIG.replace(gamma=0.0, alpha=0.75, seed=1)
    train(CONFIG, train_data, device, engines=engines)
    graph = engines.kept[1].graph
    again = train(other, train_data, device, engines=engines)
    assert engines.kept[1].graph is graph is not None
    alone = train(other, train_data, device)
    for name in ("class_loss", "box_loss"):
        assert again.history[name] == pytest.approx(alone.history[name], rel=0.02, abs=0.02)


@cuda
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_loss_is_the_cpus(gamma):
    torch.manual_seed(0)
    logits = torch.randn(2, 500, 10) * 4 - 3
    labels = torch.randint(-2, 10, (2, 500))
    here = logits.clone().requires_grad_()
    there = logits.cuda().requires_grad_()
    a = detection_focal_loss(here, labels, 0.25, gamma)
    b = detection_focal_loss(there, labels.cuda(), 0.25, gamma)
    a.backward()
    b.backward()
    torch.testing.assert_close(a, b.cpu(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(here.grad, there.grad.cpu(), rtol=1e-4, atol=1e-5)


@cuda
def test_selection_on_the_device_is_the_cpus():
    torch.manual_seed(0)
    grid = config_anchors(CONFIG)
    logits, offsets = torch.randn(2, len(grid.boxes), 10) - 4.0, torch.randn(2, len(grid.boxes), 4) * 0.3
    there = AnchorGrid(grid.boxes.cuda(), grid.per_level, grid.levels, grid.shapes)
    for x, box in zip(logits, offsets, strict=True):
        found = select(x.cuda(), box.cuda(), there, CONFIG)
        for mine, other in zip(found, select(x, box, grid, CONFIG), strict=True):
            torch.testing.assert_close(mine.cpu(), other, rtol=1e-4, atol=1e-3)

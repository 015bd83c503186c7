"""Training: it learns, repeats, follows the schedule, and a divergence is a result."""

import dataclasses
import math
import textwrap

import numpy as np
import pytest
import torch

from focalrepro.config import RunConfig
from focalrepro.data import load
from focalrepro.detector.boxes import pairwise_iou
from focalrepro.detector.matching import IGNORED
from focalrepro.evaluation.coco_ap import evaluate_coco
from focalrepro.evaluation.detect import detect
from focalrepro.evaluation.record import Record
from focalrepro.runs import load_splits, run
from focalrepro.study.store import Store
from focalrepro.training import criteria
from focalrepro.training.batches import TrainData, batches
from focalrepro.training.criteria import box_loss, dense_box_loss, get_loss, smooth_l1
from focalrepro.training.dials import Dials
from focalrepro.training.engines import new_step
from focalrepro.training.focal_sum import detection_focal_loss
from focalrepro.training.loop import CHECK_EVERY, step_seconds, train
from focalrepro.training.step import Step, learning_rate

CPU = torch.device("cpu")
SMALL = RunConfig(
    **{
        "dataset": "synthetic",
        "image_size": 128,
        "backbone": "small",
        "weights": "none",
        "frozen": "nothing",
    },
    **{"fpn_channels": 16, "head_convs": 1, "head_norm": "group", "first_level": 2, "last_level": 4},
    **{"anchor_size": 2.5, "optimizer": "adamw", "schedule": "cosine", "batch_size": 4, "precision": "fp32"},
    **{"steps": 3, "warmup": 1, "lr": 4e-3},
)


def test_it_overfits_four_images(data_root):
    data = load("synthetic", "train", 128, limit=4)
    config = SMALL.replace(fpn_channels=32, lr=1.6e-2, weight_decay=0.0, steps=120, warmup=12, flip=False)
    result = train(config, data, CPU)
    detections, _ = detect(result.model, config, data, CPU)
    assert result.status == "done"
    assert result.history["loss"][0] > 0.5 > 0.01 > result.history["loss"][-1]
    assert evaluate_coco(data.coco, data.image_ids, detections).metrics["AP"] > 90


def test_the_same_config_gives_the_same_numbers(tiny):
    train_data, val_data = tiny
    config = SMALL.replace(lr=0.05, score_threshold=0.001)
    first, second, other = (train(c, train_data, CPU) for c in (config, config, config.replace(seed=1)))
    assert first.history == second.history
    assert first.history["loss"] != other.history["loss"]
    a, b = (detect(r.model, config, val_data, CPU)[0] for r in (first, second))
    assert len(a) > 0
    for field in dataclasses.fields(a):
        assert np.array_equal(getattr(a, field.name), getattr(b, field.name))


def test_the_seed_alone_sets_the_initialisation(tiny):
    """Whatever was drawn before in the process."""
    torch.manual_seed(99)
    first = train(SMALL.replace(steps=1), tiny[0], CPU).history
    torch.rand(17)
    assert train(SMALL.replace(steps=1), tiny[0], CPU).history == first


def test_history_holds_the_losses(tiny):
    config = SMALL.replace(steps=7, box_weight=0.5)
    seen = []
    history = train(config, tiny[0], CPU, on_step=lambda done, total: seen.append((done, total))).history
    assert seen == [(7, 7)] and history["step"] == list(range(1, 8))
    total = np.array(history["class_loss"]) + 0.5 * np.array(history["box_loss"])
    assert np.allclose(history["loss"], total, rtol=0, atol=2e-5)  # five digits are kept
    assert history["loss"] == history["last_loss"] and min(history["class_loss"]) > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_divergence_is_a_result(data_root, tmp_path, precision):
    config = SMALL.replace(optimizer="sgd", lr=1e12, steps=30, warmup=0, precision=precision)
    record = run(config, "cpu")
    assert record.diverged and record.AP == 0 and record.detections.test == 0
    assert record.history["step"][-1] < 30, "it stops early"
    last = record.history["last_loss"][-1]
    assert last is None or last > 1e6, "JSON has no NaN; null is a loss that was not finite"
    store = Store(tmp_path)
    store.put(record)
    assert store.get(record.run_id).as_json() == record.as_json()


@pytest.mark.parametrize(
    ("changes", "timed"), [({}, True), ({"gamma": 0.0}, False), ({"loss": "hinge"}, False)]
)
def test_only_focal_loss_is_timed_beside_cross_entropy(tiny, changes, timed):
    taken = step_seconds(SMALL.replace(**changes), tiny[0], CPU, pairs=2)
    assert (taken is not None) == timed
    assert not timed or (set(taken) == {"own", "cross_entropy"} and min(taken.values()) > 0)


# ---- which anchors teach what


def test_ignored_anchors_teach_nothing(tiny):
    source = TrainData(SMALL, tiny[0], CPU)
    index = torch.arange(4)
    _, labels, boxes, positive = source.batch(index, torch.zeros(4, dtype=torch.int64))
    assert (labels == IGNORED).any() and positive.any()
    assert torch.equal(positive, labels >= 0)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(*labels.shape, 10, generator=generator).requires_grad_()
    offsets = torch.randn(*labels.shape, 4, generator=generator).requires_grad_()
    loss = get_loss("focal")(logits, labels, Dials.of(SMALL))
    loss = loss + box_loss(offsets, source.anchors.boxes, boxes, positive, SMALL)
    loss.backward()
    assert (logits.grad[labels == IGNORED] == 0).all() and (logits.grad[labels != IGNORED] != 0).all()
    assert (offsets.grad[~positive] == 0).all() and (offsets.grad[positive].abs().sum(-1) > 0).all()


def test_the_focal_criterion_reads_the_config():
    logits, labels = torch.randn(1, 6, 2), torch.tensor([[0, 1, -1, -1, -2, -1]])
    for alpha, gamma in ((0.75, 0.0), (0.25, 2.0)):
        value = get_loss("focal")(logits, labels, Dials.of(SMALL.replace(alpha=alpha, gamma=gamma)))
        assert value == detection_focal_loss(logits, labels, alpha, gamma)
    with pytest.raises(ValueError, match=r"RunConfig\.loss is 'nope'; there are .*focal"):
        get_loss("nope")


def test_a_loss_of_your_own_trains_as_its_manual_says(data_root, tmp_path, monkeypatch):
    """The example at the top of criteria.py, as it stands there."""
    example = criteria.__doc__.split("::\n\n")[1].split("\n\n`RunConfig")[0]
    monkeypatch.setattr(criteria, "LOSSES", dict(criteria.LOSSES))
    exec(textwrap.dedent(example), vars(criteria).copy())
    config = SMALL.replace(loss="with_slope", beta=0.5)
    store = Store(tmp_path)
    store.put(Record.model_validate(run(config, "cpu")))
    (record,) = store.records()
    assert not record.diverged and record.config.loss == "with_slope"
    digests = [part.digest for part in load_splits(SMALL)]
    assert record.run_id != SMALL.replace(beta=0.5).run_id(*digests)
    assert record.history["step"] == [1, 2, 3] and min(record.history["class_loss"]) > 0
    logits, labels = torch.randn(1, 6, 2), torch.tensor([[0, 1, -1, -1, -2, -1]])
    plain = get_loss("with_slope")(logits, labels, Dials.of(config.replace(beta=0.0)))
    torch.testing.assert_close(plain, detection_focal_loss(logits, labels, config.alpha, 0.0))


def test_sparse_and_dense_box_loss_agree(tiny):
    """The CPU picks the positive anchors, a GPU computes all: the same value and gradient."""
    source = TrainData(SMALL, tiny[0], CPU)
    _, labels, boxes, positive = source.batch(torch.arange(6), torch.ones(6, dtype=torch.int64))
    results = []
    for function in (box_loss, dense_box_loss):
        offsets = torch.randn(*labels.shape, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        value = function(offsets, source.anchors.boxes, boxes, positive, SMALL)
        value.backward()
        results.append((value.detach(), offsets.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)
    assert results[0][0] > 1


def test_smooth_l1_is_torchs():
    x = torch.linspace(-2, 2, 81, dtype=torch.float64)
    for beta in (0.11, 1.0):
        reference = torch.nn.functional.smooth_l1_loss(x, torch.zeros_like(x), reduction="none", beta=beta)
        torch.testing.assert_close(smooth_l1(x, beta), reference)


def test_mirrored_images_come_with_mirrored_boxes(tiny):
    data = tiny[0]
    source = TrainData(SMALL, data, CPU)
    index = torch.tensor([5, 5, 9, 9])
    images, labels, boxes, positive = source.batch(index, torch.tensor([0, 1, 0, 1]))
    assert torch.equal(images[1], images[0].flip(-1)) and not torch.equal(images[1], images[0])
    assert torch.equal(images[2], torch.from_numpy(np.array(data.images[9])))
    for plain, mirrored, row in ((0, 1, 5), (2, 3, 9)):
        truth = data.boxes[row][data.labels[row] >= 0]
        assert {tuple(b) for b in boxes[plain][positive[plain]].tolist()} <= {
            tuple(b) for b in truth.tolist()
        }
        turned = truth[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [128, 0, 128, 0]
        assert {tuple(b) for b in boxes[mirrored][positive[mirrored]].tolist()} <= {
            tuple(b) for b in turned.tolist()
        }
        assert set(labels[plain][positive[plain]].tolist()) == set(
            labels[mirrored][positive[mirrored]].tolist()
        )
    # Every positive anchor fits the box that it learns, by the floor of the forced matches.
    for i in range(4):
        mine, target = source.anchors.boxes[positive[i]], boxes[i][positive[i]]
        iou = pairwise_iou(mine.unsqueeze(1), target.unsqueeze(1)).flatten()
        assert len(iou) and (iou >= SMALL.best_iou - 1e-6).all()


def test_the_digits_are_where_the_boxes_say(tiny):
    """Pixels of the mirrored batch inside a target box are the original's, mirrored:
    nothing is off by one.
    """
    data = tiny[0]
    source = TrainData(SMALL, data, CPU)
    images, _, boxes, positive = source.batch(torch.tensor([5]), torch.tensor([1]))
    x1, y1, x2, y2 = boxes[0][positive[0]][0].round().int().tolist()
    original = torch.from_numpy(np.array(data.images[5]))[:, y1:y2, 128 - x2 : 128 - x1]
    assert original.numel() and torch.equal(images[0][:, y1:y2, x1:x2], original.flip(-1))


# ---- order and rate


def test_batches_are_permutations_of_epochs():
    config = SMALL.replace(steps=10, batch_size=4)
    index, flips = batches(10, config)
    assert index.shape == flips.shape == (10, 4)
    for epoch in index.flatten().reshape(4, 10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert not torch.equal(index.flatten()[:10], index.flatten()[10:20])
    assert set(flips.flatten().tolist()) == {0, 1}
    again, other = batches(10, config), batches(10, config.replace(seed=1))
    assert torch.equal(index, again[0]) and torch.equal(flips, again[1])
    assert not torch.equal(index, other[0])
    plain = batches(10, config.replace(flip=False))
    assert (plain[1] == 0).all() and torch.equal(plain[0], index)


def test_batches_of_more_than_the_dataset():
    index, _ = batches(3, SMALL.replace(steps=2, batch_size=8))
    assert index.shape == (2, 8)
    assert np.bincount(index.flatten().numpy()).tolist() in ([6, 5, 5], [5, 6, 5], [5, 5, 6])


def test_the_papers_schedule():
    """90k steps of 16 images: .01 after 500 steps of warm-up, ÷ 10 at 60k and 80k."""
    paper = RunConfig()
    rates = {
        step: learning_rate(step, paper) for step in (0, 250, 500, 59_999, 60_000, 79_999, 80_000, 89_999)
    }
    expected = [0.01 / 3, 0.02 / 3, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    assert list(rates.values()) == pytest.approx(expected, rel=1e-12)


def test_the_rate_follows_the_batch_and_the_cosine():
    base = RunConfig(schedule="cosine", steps=1000, warmup=0, lr=0.01)
    assert learning_rate(0, base) == pytest.approx(0.01)
    assert learning_rate(500, base) == pytest.approx(0.005)
    assert learning_rate(250, base) == pytest.approx(0.01 * (1 + math.sqrt(0.5)) / 2)
    assert learning_rate(999, base) == pytest.approx(0.0, abs=1e-7)
    for batch in (2, 64):
        assert learning_rate(500, base.replace(batch_size=batch)) == pytest.approx(0.005 * batch / 16)
    assert learning_rate(5, base.replace(warmup=10)) == pytest.approx(2 / 3 * learning_rate(5, base))


def test_a_slow_start_is_no_part_of_images_per_second(tiny, monkeypatch):
    """A GPU's first steps capture a graph, and a CPU's map its files."""
    clock, plain = [0.0], Step.__call__

    def slow_at_first(self, *given):
        clock[0] += 0.5 if self.calls else 60.0
        plain(self, *given)

    monkeypatch.setattr(Step, "__call__", slow_at_first)
    monkeypatch.setattr("focalrepro.training.loop.time.perf_counter", lambda: clock[0])
    result = train(SMALL.replace(steps=2 * CHECK_EVERY), tiny[0], CPU)
    assert result.images_per_second == pytest.approx(SMALL.batch_size / 0.5)
    assert result.seconds == pytest.approx(60 + 0.5 * (2 * CHECK_EVERY - 1))


def test_on_a_cpu_the_runs_of_a_machine_share_the_images_in_their_file(tiny):
    (images,), *_ = new_step(SMALL, tiny[0], CPU).source.inputs
    assert np.shares_memory(images.numpy(), tiny[0].images)

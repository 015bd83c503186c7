"""Which steps are captured as a CUDA graph, on which stream, and what a failed capture leaves: on a stand-in
for CUDA, so without a GPU."""

from contextlib import contextmanager, nullcontext

import pytest
import torch

from focalrepro.study.profiles import PROFILES
from focalrepro.training import step as module
from focalrepro.training.engines import new_step

BASE = PROFILES["smoke"].base.replace(precision="fp32", steps=8)
CPU = torch.device("cpu")


class Stream:
    def wait_stream(self, other):
        pass


class Graph:
    """Counts its replays; the step that a capture runs is computed at once."""

    replays = 0

    def replay(self):
        self.replays += 1


class Cuda:
    """What a step uses of torch.cuda; `fails`: the capture breaks."""

    def __init__(self, fails=False):
        self.fails, self.used, self.captured_on = fails, [], []

    def stream(self, stream):
        self.used.append(stream)
        return nullcontext()

    @contextmanager
    def graph(self, graph, stream):
        self.captured_on.append(stream)
        yield
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")


def step_on(cuda, config, data, monkeypatch):
    """A step that takes the CPU for a GPU."""
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    step = new_step(config, data, CPU)
    step.on_gpu, step.captures, step.side = True, step.may_capture(True), Stream()
    step.optimizer = module.make_optimizer(step.model, config, captured=True)
    return step


def turns(step, count):
    index = torch.arange(step.config.batch_size)
    for _ in range(count):
        step(index, torch.zeros_like(index), 1e-3)


def test_some_eager_steps_then_one_capture_then_replays(tiny, monkeypatch):
    cuda = Cuda()
    step = step_on(cuda, BASE, tiny[0], monkeypatch)
    turns(step, 6)
    assert cuda.used == [step.side] * step.EAGER_STEPS, "one stream: the allocator keeps what each has used"
    assert cuda.captured_on == [step.side] and step.graph.replays == 3


def test_a_failed_capture_is_not_kept(tiny, monkeypatch):
    step = step_on(Cuda(fails=True), BASE, tiny[0], monkeypatch)
    with pytest.raises(RuntimeError, match="capturing"):
        turns(step, 4)
    assert step.graph is None


@pytest.mark.parametrize(
    ("loss", "value", "captured"), [("focal", "0", True), ("focal", "1", False), ("ohem", "", False)]
)
def test_what_is_captured(loss, value, captured, tiny, monkeypatch):
    monkeypatch.setenv(module.EAGER, value)
    cuda = Cuda()
    step = step_on(cuda, BASE.replace(loss=loss), tiny[0], monkeypatch)
    turns(step, 5)
    assert (step.graph is not None) == captured
    assert len(cuda.used) == (3 if captured else 5)

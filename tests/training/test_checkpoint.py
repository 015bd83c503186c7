"""A training that was killed goes on where it stood, with the numbers of one that was not."""

import errno
import subprocess
import sys
import time

import pytest
import torch
from test_loop import CPU, SMALL

from focalrepro.data import load
from focalrepro.training import loop
from focalrepro.training.loop import Checkpoint, train

CONFIG = SMALL.replace(steps=60, normalizer="moving")
VICTIM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoint import CONFIG, CPU, Checkpoint, load, torch, train
torch.set_num_threads(1)
data = load("synthetic", "train", 128, limit=4)
train(CONFIG, data, CPU, checkpoint=Checkpoint(Path(sys.argv[1]), every=0))
"""


class Stop(Exception):
    pass


def stop_at(step):
    def on_step(done, total):
        if done > step:
            raise Stop

    return on_step


def same(a, b):
    weights = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return a.history == b.history and all(torch.equal(x, y) for x, y in weights)


def test_the_counts_of_ghm_go_on(data_root, tmp_path):
    torch.set_num_threads(1)
    data, path = load("synthetic", "train", 128, limit=4), tmp_path / "run.pt"
    config = CONFIG.replace(loss="ghm")
    with pytest.raises(Stop):
        train(config, data, CPU, stop_at(30), checkpoint=Checkpoint(path, every=0))
    assert torch.load(path)["average"].shape == (30,)
    assert same(train(config, data, CPU, checkpoint=Checkpoint(path)), train(config, data, CPU))


def test_after_kill_9_it_ends_with_the_same_numbers(data_root, tmp_path):
    torch.set_num_threads(1)
    data, path = load("synthetic", "train", 128, limit=4), tmp_path / "run.pt"
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, path, str(__file__).rsplit("/", 1)[0]])
    until = time.monotonic() + 120
    while not path.exists() and victim.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    victim.kill()
    victim.wait()
    assert torch.load(path)["done"] in range(10, 60, 10)
    resumed = train(CONFIG, data, CPU, checkpoint=Checkpoint(path))
    assert same(resumed, train(CONFIG, data, CPU))
    assert 0 < resumed.resumed < resumed.seconds


@pytest.mark.parametrize(
    "changes", [{"optimizer": "sgd"}, {"detector": "faster_rcnn", "normalizer": "positives"}]
)
def test_other_optimizers_and_detectors_go_on_too(data_root, tmp_path, changes):
    data = load("synthetic", "train", 128, limit=4)
    config, checkpoint = CONFIG.replace(steps=40, **changes), Checkpoint(tmp_path / "run.pt", every=0)
    torch.manual_seed(0)
    whole = train(config, data, CPU)
    torch.manual_seed(0)
    with pytest.raises(Stop):
        train(config, data, CPU, stop_at(20), checkpoint=checkpoint)
    torch.rand(7)  # the process that goes on has drawn otherwise
    assert same(train(config, data, CPU, checkpoint=checkpoint), whole)


@pytest.mark.parametrize("harm", ["cut short", "another torch", "empty", "noise", "a list"])
def test_what_is_no_use_begins_anew(data_root, tmp_path, harm):
    data, path = load("synthetic", "train", 128, limit=4), tmp_path / "run.pt"
    with pytest.raises(Stop):
        train(CONFIG, data, CPU, stop_at(20), checkpoint=Checkpoint(path, every=0))
    if harm == "another torch":
        torch.save(torch.load(path) | {"made": ["1.0", "cpu", "True"]}, path)
    elif harm == "a list":
        torch.save([1, 2], path)
    else:
        path.write_bytes({"cut short": path.read_bytes()[:1000], "empty": b"", "noise": b"abc" * 100}[harm])
    steps = []
    found = train(CONFIG, data, CPU, lambda done, total: steps.append(done), checkpoint=Checkpoint(path))
    assert steps[0] == 10 and found.resumed == 0


def test_a_short_training_writes_nothing(data_root, tmp_path):
    data = load("synthetic", "train", 128, limit=4)
    train(CONFIG, data, CPU, checkpoint=Checkpoint(tmp_path / "run.pt"))
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_for_it_costs_no_training(data_root, tmp_path, monkeypatch, capsys):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(loop, "write_atomic", full)
    config, data = CONFIG.replace(steps=20), load("synthetic", "train", 128, limit=4)
    result = train(config, data, CPU, checkpoint=Checkpoint(tmp_path / "run.pt", every=0))
    assert result.status == "done" and same(result, train(config, data, CPU))
    assert "no checkpoint, the training goes on without" in capsys.readouterr().err

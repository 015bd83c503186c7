"""Two processes that train one model together: the numbers are those of one process."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_loop import CPU, SMALL

from focalrepro.config import RunConfig
from focalrepro.data import load
from focalrepro.study.store import Store
from focalrepro.training.loop import train
from focalrepro.training.ranks import Ranks

BASE = SMALL.replace(steps=6, image_size=96, backbone="resnet18", optimizer="sgd", first_level=3)
CONFIGS = {
    "focal": {},
    "guided": {"gamma": 0.0, "alpha": 0.5, "guided": True},
    "hard negatives": {"loss": "hard_negatives", "ohem_ratio": 3.0},
    "by image": {"normalizer": "image"},
    "by anchors": {"normalizer": "anchors", "lr": 0.04},  # small gradients: a rate that shows them
    "moving": {"normalizer": "moving"},
    "one more for each image": {"normalizer": "plus_images"},
}
TOGETHER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_ranks import BASE, CONFIGS, CPU, Ranks, load, torch, train
torch.set_num_threads(1)
ranks, device = Ranks.join(CPU)
data, found = load("synthetic", "train", 96, limit=6), {}
for name, changes in CONFIGS.items():
    result = train(BASE.replace(**changes), data, device, ranks=ranks)
    weights = torch.cat([p.detach().flatten() for p in result.model.parameters()])
    found[name] = [result.history["last_loss"], weights]
if not ranks.rank:
    torch.save(found, sys.argv[1])
"""


TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def torchrun(*arguments, **options):
    command = [*TORCHRUN, "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, **options)


def two_machines(*arguments):
    """What torchrun's two agents, with a process each, say and end with."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        where = f"localhost:{free.getsockname()[1]}"
    command = [
        *TORCHRUN,
        "--nnodes",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        where,
        "--rdzv-id",
        "two",
    ]
    command += ["--nproc-per-node", "1", *map(str, arguments)]
    agents = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        said = [agent.communicate(timeout=240)[1] for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()  # with its process
    return [agent.returncode for agent in agents], "\n".join(said)


def test_two_ranks_train_as_one(data_root, tmp_path):
    data = load("synthetic", "train", 96, limit=6)
    (tmp_path / "together.py").write_text(TOGETHER)
    done = torchrun(tmp_path / "together.py", tmp_path / "found.pt", Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt")
    for name, changes in CONFIGS.items():
        alone = train(BASE.replace(**changes), data, CPU)
        losses, weights = found[name]
        assert losses == pytest.approx(alone.history["last_loss"], rel=1e-4, abs=1e-5), name
        mine = torch.cat([p.detach().flatten() for p in alone.model.parameters()])
        torch.testing.assert_close(weights, mine, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "ghm"}, "loss 'ghm' needs whole batches"),
        ({"loss": "mine@0123456789ab"}, "needs whole batches"),
        ({"loss": "ohem", "normalizer": "picked"}, "normalizer 'picked'"),
        ({"detector": "faster_rcnn"}, "detector 'faster_rcnn'"),
        ({"batch_size": 5}, "batch_size 5 has no 2 equal shares"),
    ],
)
def test_what_cannot_be_shared_is_said(changes, said):
    config = RunConfig().replace(**changes)
    Ranks().check(config)
    with pytest.raises(ValueError, match=said):
        Ranks(0, 2).check(config)


CAMPAIGN = """
import sys
sys.path.insert(0, sys.argv[1])
from test_ranks import BASE, Store
from focalrepro.study.ablations import Planned
from focalrepro.study.campaign import run_planned
small = BASE.replace(steps=3, train_images=8, val_images=8)
planned = [Planned(small.replace(seed=seed), (("made", "row"),)) for seed in range(2)]
failed = run_planned(planned, Store.local("made"), "cpu")
sys.exit(failed or run_planned(planned, Store.local("made"), "cpu"))  # nothing is left to do
"""


def test_a_campaign_by_two_ranks(data_root, tmp_path):
    (tmp_path / "campaign.py").write_text(CAMPAIGN)
    done = torchrun(tmp_path / "campaign.py", Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": done, AP") == 2
    assert "2 runs, 0 done already" in done.stdout and "2 runs, 2 done already" in done.stdout
    records = Store.local("made").records()
    assert len(records) == 2 and all(r.hardware.processes == 2 for r in records)
    assert not list((Store.local("made").folder / "checkpoints").glob("*"))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_ranks import CPU, LONG, Ranks, load, torch, train
from focalrepro.training.loop import Checkpoint
torch.set_num_threads(1)
ranks, device = Ranks.join(CPU)
life, fallen = os.environ["TORCHELASTIC_RESTART_COUNT"], Path(sys.argv[1] + ".fallen")

def on_step(done, total):
    if (ranks.rank, done) == (1, 20) and not fallen.exists():
        fallen.touch()
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint = Checkpoint(Path(sys.argv[1] + ".checkpoint"), every=0.0)
data = load("synthetic", "train", 96, limit=6)
result = train(LONG, data, device, on_step, checkpoint=checkpoint, ranks=ranks)
if not ranks.rank:
    weights = torch.cat([p.detach().flatten() for p in result.model.parameters()])
    torch.save([life, result.resumed, result.history["last_loss"], weights], sys.argv[1])
"""
LONG = BASE.replace(steps=30, warmup=3, batch_size=2)


def test_after_a_killed_rank_torchrun_goes_on_from_the_checkpoint(data_root, tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    arguments = ["--max-restarts", "2", tmp_path / "killed.py", tmp_path / "found.pt", Path(__file__).parent]
    done = torchrun(*arguments, timeout=240)
    assert done.returncode == 0, done.stderr
    assert as_if_alone(tmp_path / "found.pt") == "1"


def test_after_a_killed_rank_two_machines_go_on_together(data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    (tmp_path / "killed.py").write_text(KILLED)
    arguments = ["--max-restarts", "2", tmp_path / "killed.py", tmp_path / "found.pt", Path(__file__).parent]
    codes, said = two_machines(*arguments)
    assert codes == [0, 0], said
    as_if_alone(tmp_path / "found.pt")  # only the killed rank's machine counts a restart


def test_machines_that_could_not_start_again_together_do_not_begin(monkeypatch):
    for name, value in {"WORLD_SIZE": 2, "GROUP_WORLD_SIZE": 2, "TORCHELASTIC_USE_AGENT_STORE": True}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ValueError, match="set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        Ranks.join(CPU)


def as_if_alone(path):
    """Which life ended the training that was cut, after the comparison with one that was not."""
    life, resumed, losses, weights = torch.load(path)
    assert resumed > 0
    alone = train(LONG, load("synthetic", "train", 96, limit=6), CPU)
    assert losses == pytest.approx(alone.history["last_loss"], rel=1e-3, abs=1e-4)
    mine = torch.cat([p.detach().flatten() for p in alone.model.parameters()])
    torch.testing.assert_close(weights, mine, rtol=1e-3, atol=1e-4)
    return life

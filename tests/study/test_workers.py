"""Worker processes: what they are given, and whose Ctrl-C is."""

import signal
import sys
from pathlib import Path

import pytest
import torch

from focalrepro.study import campaign
from focalrepro.study.ablations import Planned
from focalrepro.study.campaign import run_missing
from focalrepro.study.profiles import get_profile
from focalrepro.study.store import Store


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ctrl_c_is_the_campaigns_to_answer_from_a_workers_first_moment_on(tmp_path):
    worker = campaign.Worker(Store(tmp_path), "cpu", 1)
    try:
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
    finally:
        worker.end()
    blocked = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")), 16)
    assert blocked >> (signal.SIGINT - 1) & 1
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ()), "it still ends the campaign"


@pytest.mark.parametrize(("kind", "workers", "threads"), [("cpu", 2, 1), ("cuda", 4, 4), ("cuda", 32, 1)])
def test_a_gpus_workers_share_the_cores_that_evaluate(monkeypatch, tmp_path, kind, workers, threads):
    config = get_profile("smoke").base
    jobs = [Planned(config.replace(seed=n), (), f"{n:012x}") for n in range(40)]

    class Hired(Exception):
        """With so many threads."""

    def hire(store, device, threads):
        raise Hired(threads)

    monkeypatch.setattr(campaign.hardware, "pick_device", lambda name: torch.device(kind))
    monkeypatch.setattr(campaign.hardware, "cores", lambda: 16)
    monkeypatch.setattr(campaign, "prepare", lambda jobs, device: None)
    monkeypatch.setattr(campaign, "Worker", hire)
    with pytest.raises(Hired, match=rf"^{threads}$"):
        run_missing(jobs, Store(tmp_path), kind, workers)

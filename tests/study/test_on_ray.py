"""A campaign on a Ray cluster: of this machine, with two workers, one of which is killed on the way."""

import os
import threading

import psutil
import pytest
from test_campaign import wait_for

from focalrepro import cli
from focalrepro.study import on_ray
from focalrepro.study.ablations import Planned
from focalrepro.study.campaign import run_missing, run_planned, with_ids
from focalrepro.study.profiles import get_profile
from focalrepro.study.store import Store

ray = pytest.importorskip("ray")
SMOKE = get_profile("smoke").base.replace(train_images=16, val_images=8, steps=20)


@pytest.fixture(scope="module")
def cluster(data_root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else its workers wait for whatever else runs here
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def planned(*configs):
    return [Planned(c, (("made", f"row {c.gamma:g}"),)) for c in configs]


def kill_one():
    """Kills a worker at its first run, as the kernel does where memory runs out."""

    def at_work():
        found = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::run_one")]
        return found or [
            p for p in psutil.process_iter(["name"]) if (p.info["name"] or "").startswith("ray::run_one")
        ]

    def kill():
        wait_for(at_work, 120, "a worker of Ray's")
        victim = at_work()[0]
        killed.append(victim.pid)
        victim.kill()

    killed = []
    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return killed, thread


def test_its_records_are_those_of_this_machine_though_a_worker_is_killed(cluster, tmp_path, capsys):
    configs = [SMOKE.replace(gamma=g) for g in (0.0, 1.0, 2.0)]
    killed, thread = kill_one()
    there, here = Store(tmp_path / "ray"), Store(tmp_path / "local")
    assert run_planned(planned(*configs), there, "cpu", on="ray") == 0
    thread.join()
    assert len(killed) == 1
    assert run_missing(with_ids(planned(*configs)), here, "cpu", 1) == 0
    for mine, theirs in zip(here.records(), there.records(), strict=True):
        assert (mine.run_id, mine.metrics, mine.history) == (theirs.run_id, theirs.metrics, theirs.history)
    assert "3/3" in capsys.readouterr().out


def test_a_run_that_fails_is_named_and_the_others_go_on(cluster, tmp_path, capsys):
    store = Store(tmp_path)
    bad = SMOKE.replace(loss="absent@0123456789ab", steps=3)
    assert run_planned(planned(bad, SMOKE.replace(steps=3)), store, "cpu", on="ray") == 1
    assert len(store.records()) == 1 and len(list(tmp_path.glob("errors/*.txt"))) == 1
    assert "failed" in capsys.readouterr().out


def test_the_runs_end_though_what_tells_of_them_is_gone(cluster, tmp_path, monkeypatch):
    """As where the machine is lost on which it was."""
    asked = tmp_path / "asked"

    class Gone(on_ray.Board):  # here, so that it is sent whole
        def take(self):
            asked.touch()
            os._exit(1)

    monkeypatch.setattr(on_ray, "Board", Gone)
    store = Store(tmp_path / "runs")
    assert run_planned(planned(SMOKE.replace(steps=3)), store, "cpu", on="ray") == 0
    assert len(store.records()) == 1 and asked.exists()


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_what_is_no_share_of_gpus_is_said(share):
    with pytest.raises(ValueError, match=rf"--gpus-per-run is {share:g}; it must lie above 0"):
        cli.run(("1b",), profile="smoke", gpus_per_run=share)


def test_wrong_ways_are_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"--on is 'cloud'; there are local, ray"):
        cli.run(("1b",), profile="smoke", on="cloud")
    with pytest.raises(ValueError, match="--keep-weights"):
        run_planned(planned(SMOKE), Store(tmp_path, weights=True), "cpu", on="ray")
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install '.\[ray\]'"):
        cli.run(("1b",), profile="smoke", on="ray")

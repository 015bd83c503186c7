"""Campaigns with real worker processes: nothing twice, nothing lost, nothing left behind."""

import dataclasses
import json
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_up import record, sealed
from psutil import pid_exists
from safetensors.torch import save_file

from focalrepro.detector import frozen_features as features
from focalrepro.detector.backbones import BACKBONES
from focalrepro.evaluation.record import RunFileError
from focalrepro.runs import load_splits, run
from focalrepro.study import campaign
from focalrepro.study.ablations import Planned, plan
from focalrepro.study.campaign import prepare, run_missing, take_over, with_ids
from focalrepro.study.profiles import get_profile
from focalrepro.study.status import state_of
from focalrepro.study.store import Store

SMOKE = get_profile("smoke").base.replace(weights="none", steps=2, fpn_channels=8)
PROFILE = dataclasses.replace(get_profile("smoke"), base=SMOKE)

SCRIPT = """
import json, sys
from pathlib import Path
from focalrepro.study.ablations import Planned
from focalrepro.study.campaign import run_missing, with_ids
from focalrepro.config import from_dict
from focalrepro.study.store import Store

if __name__ == "__main__":
    folder, config, seeds = sys.argv[1:]
    base, store = from_dict(json.loads(config)), Store(Path(folder))
    with store.lock():
        planned = [Planned(base.replace(seed=s), (("made", "row"),)) for s in range(int(seeds))]
        sys.exit(run_missing(with_ids(planned), store, "cpu", workers=2))
"""


def jobs_of(base, seeds):
    return with_ids([Planned(base.replace(seed=s), (("made", "row"),)) for s in seeds])


def times(store):
    return {p.name: p.stat().st_mtime_ns for p in store.folder.glob("*.json")}


def test_ids_are_those_of_single_runs(data_root):
    jobs = with_ids(plan(PROFILE, ["1a", "1b"], seeds=1))
    assert len({job.run_id for job in jobs}) == len(jobs) == 13
    train_data, val_data = load_splits(jobs[0].config)
    assert (len(train_data), len(val_data)) == (24, 12)
    assert jobs[3].run_id == jobs[3].config.run_id(train_data.digest, val_data.digest)


def test_what_is_missing_is_trained_and_what_fails_is_told(data_root, tmp_path, monkeypatch):
    store = Store(tmp_path)
    good, (bad,) = jobs_of(SMOKE, range(3)), jobs_of(SMOKE.replace(loss="nope"), [0])
    assert run_missing([good[0], bad, *good[1:]], store, "cpu", workers=2) == 1
    assert {r.run_id for r in store.records()} == {job.run_id for job in good}
    error = store.error_path(bad.run_id)
    assert "Traceback" in error.read_text() and "'nope'" in error.read_text()

    # The worker's numbers are those of a run of one's own, with one thread.
    mine, theirs = run(good[1].config, "cpu"), store.get(good[1].run_id)
    assert theirs.hardware.threads == 1
    for part in ("run_id", "status", "config", "metrics", "history", "bootstrap", "data"):
        assert mine.as_json()[part] == theirs.as_json()[part], part

    # A failed run is tried again; the finished ones are not.
    before = times(store)
    error.write_text("old")
    assert run_missing([*good, bad], store, "cpu", workers=2) == 1
    assert "'nope'" in error.read_text() and times(store) == before

    def no_process(*args):
        raise AssertionError("a process was started though nothing is missing")

    monkeypatch.setattr(multiprocessing, "get_context", no_process)
    assert run_missing(good, store, "cpu", workers=2) == 0
    assert times(store) == before


def children(parent):
    """Process ids whose parent is `parent`, from /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = path.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if int(ppid) == parent and state != "Z":
            found.append(int(path.parent.name))
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"
        time.sleep(0.02)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc; PR_SET_PDEATHSIG is Linux's")
def test_killed_in_the_middle_it_goes_on(data_root, tmp_path):
    script, store = tmp_path / "campaign.py", Store(tmp_path / "runs")
    script.write_text(SCRIPT)
    config = SMOKE.replace(steps=12)
    command = [sys.executable, script, store.folder, json.dumps(config.as_dict()), "5"]
    process = subprocess.Popen(list(map(str, command)))
    try:
        wait_for(lambda: times(store) or process.poll() is not None, 300, "a first finished run")
        workers = children(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(workers) >= 2, "it was to be killed at work"
    wait_for(lambda: not any(alive(pid) for pid in workers), 5, "workers gone with the campaign")

    kept = times(store)
    assert 1 <= len(kept) < 5 and len(store.records()) == len(kept), "whole records only"
    with store.lock():
        assert run_missing(jobs_of(config, range(5)), store, "cpu", workers=1) == 0
    assert len(store.records()) == 5
    assert {name: stamp for name, stamp in times(store).items() if name in kept} == kept, (
        "none was made again"
    )


def test_a_folder_to_reuse_that_is_not_there_is_said_before_anything_is_made(data_root, tmp_path):
    store = Store(tmp_path / "runs")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder of results to reuse"):
        campaign.run_planned([Planned(SMOKE, ())], store, "cpu", reuse=tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def made_up_jobs(count):
    configs = [SMOKE.replace(seed=n) for n in range(count)]
    return [Planned(c, (("1b", f"row {c.seed}"),), record(c).run_id) for c in configs]


def kill_workers(times):
    """Kills this process's workers, as the kernel does where memory runs out: so many, at their work."""

    def kill():
        for _ in range(times):
            wait_for(lambda: multiprocessing.active_children(), 60, "a worker")
            victim = multiprocessing.active_children()[0]
            victim.kill()
            wait_for(lambda pid=victim.pid: not pid_exists(pid), 60, "its end")  # its parent reaps it, not we

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_the_run_of_a_killed_worker_is_tried_once_more(data_root, tmp_path, capsys):
    killer = kill_workers(1)
    assert run_missing(jobs_of(SMOKE, range(3)), Store(tmp_path), "cpu", workers=1) == 0
    killer.join()
    assert len(Store(tmp_path).records()) == 3 and not list(tmp_path.glob("errors/*"))
    said = capsys.readouterr()
    assert "seed 0: its worker process died (exit code -9" in said.out + said.err


def test_a_run_that_kills_its_worker_twice_is_named_and_the_others_go_on(data_root, tmp_path):
    store, jobs = Store(tmp_path), jobs_of(SMOKE, range(3))
    killer = kill_workers(2)
    assert run_missing(jobs, store, "cpu", workers=1) == 1
    killer.join()
    assert [state_of(job, store, store) for job in jobs] == ["failed", "done", "done"]
    assert "made: row, seed 0: its worker process died" in store.error_path(jobs[0].run_id).read_text()


def test_a_worker_that_is_killed_after_its_record_lost_nothing(tmp_path, monkeypatch):
    store, jobs = Store(tmp_path), made_up_jobs(2)

    class Dies(campaign.Worker):
        """Puts a record and dies before it says so."""

        def __init__(self, store, device, threads):
            self.pipe, self.theirs = multiprocessing.Pipe()
            self.process = SimpleNamespace(is_alive=lambda: False)

        def take(self, job):
            self.job = job
            store.put(record(job.config, 1.0))
            self.theirs.close()

        def news(self):
            return "died", 0.0, "gone"

        def end(self):
            self.pipe.close()

    monkeypatch.setattr(campaign, "Worker", Dies)
    monkeypatch.setattr(campaign, "prepare", lambda *args: None)
    assert run_missing(jobs, store, "cpu", workers=1) == 0
    assert len(store.records()) == 2 and not list(tmp_path.glob("errors/*"))


def test_a_number_of_workers_below_zero_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"--workers is -2; it must be 1 … 1000, or 0 for"):
        run_missing(made_up_jobs(1), Store(tmp_path), "cpu", workers=-2)


def test_take_over_copies_what_is_wanted_and_lacking(tmp_path):
    source, target = Store(tmp_path / "committed"), Store(tmp_path / "local")
    wanted, there, unwanted, nowhere = made_up_jobs(4)
    for job in (wanted, there, unwanted):
        source.put(record(job.config, 1.0))
    target.put(record(there.config, 2.0))
    assert take_over([wanted, there, nowhere], source, target) == 1
    assert {r.run_id: r.AP for r in target.records()} == {wanted.run_id: 1.0, there.run_id: 2.0}
    assert target.get(wanted.run_id).reused and not source.get(wanted.run_id).reused
    assert take_over([wanted, there, nowhere], source, target) == 0


def test_the_record_of_another_row_is_not_taken_over(tmp_path):
    source, target = Store(tmp_path / "committed"), Store(tmp_path / "local")
    job, other = made_up_jobs(2)
    theirs = record(other.config, 99.0).as_json()
    source.put(record(job.config, 1.0))  # its file then holds the other's, with and without this run's id
    for values in (theirs, sealed(theirs, {"run_id": job.run_id})):
        source.path(job.run_id).write_text(json.dumps(values))
        with pytest.raises(RunFileError, match=rf"{job.run_id}\.json: run_id is "):
            take_over([job], source, target)
    assert target.records() == []


def test_a_frozen_backbones_maps_are_computed_once(data_root, tmp_path):
    torch.manual_seed(3)
    save_file(BACKBONES["small"]().state_dict(), tmp_path / "small.safetensors")
    config = SMOKE.replace(
        frozen="backbone", flip=False, weights=str(tmp_path / "small.safetensors"), precision="bf16"
    )
    jobs = jobs_of(config, range(3))
    before = set((data_root / "cache").glob("features-*/view-*"))
    prepare(jobs, "cpu")
    made = set((data_root / "cache").glob("features-*/view-*")) - before
    assert len(made) == 2 and all((folder / "done").exists() for folder in made), (
        "train and val, for all seeds"
    )
    stamps = {p: p.stat().st_mtime_ns for folder in made for p in folder.iterdir()}
    record = run(jobs[0].config, "cpu")
    assert record.status == "done" and json.dumps(record.as_json(), allow_nan=False)
    assert stamps == {p: p.stat().st_mtime_ns for folder in made for p in folder.iterdir()}


# ---- what runs share


class Broken:
    """A model that fails at its second batch."""

    used = (3,)
    calls = 0
    training = True

    def to(self, *args, **more):
        return self

    def eval(self):
        return self

    def train(self, mode):
        return self

    def features(self, images):
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("no memory")
        return [torch.zeros(len(images), 4, 2, 2)]


class Whole(Broken):
    def features(self, images):
        return [torch.ones(len(images), 4, 2, 2)]


def compute(model, tiny, folder, batch=8):
    features._compute(model, tiny[0], 0, folder, torch.device("cpu"), batch=batch)


def test_a_crash_leaves_no_half_of_the_features(tiny, tmp_path):
    with pytest.raises(RuntimeError, match="no memory"):
        compute(Broken(), tiny, tmp_path / "cache" / "features-0")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_second_of_two_processes_throws_its_features_away(tiny, tmp_path):
    folder = tmp_path / "features-0"

    class Slow(Whole):
        def features(self, images):
            if not folder.exists():
                compute(Whole(), tiny, folder)  # the other process, quicker
                (folder / "first").touch()
            return super().features(images)

    compute(Slow(), tiny, folder)
    assert {p.name for p in folder.iterdir()} == {"C3.npy", "done", "first"}
    assert list(tmp_path.iterdir()) == [folder]


def test_features_without_their_end_are_made_again(tiny, tmp_path):
    folder = tmp_path / "features-0"
    folder.mkdir()
    (folder / "C3.npy").write_bytes(b"half")
    compute(Whole(), tiny, folder)
    assert (folder / "done").exists() and np.load(folder / "C3.npy").shape == (24, 2, 2, 4)

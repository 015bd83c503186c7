"""A full disk, too little memory and a second process: the row ends with its reason, the next goes on."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from made_up import record

from focalrepro import cli
from focalrepro.config import RunConfig
from focalrepro.study.ablations import Planned
from focalrepro.study.campaign import run_missing, with_ids
from focalrepro.study.profiles import get_profile
from focalrepro.study.status import state_of
from focalrepro.study.store import Store

SMOKE = get_profile("smoke").base.replace(weights="none", steps=2, fpn_channels=8)
PATH = os.pathsep.join(p for p in sys.path if p)


def jobs_of(*configs):
    return with_ids([Planned(c, (("made", f"row {n}"),)) for n, c in enumerate(configs)])


# ---- a full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB; skipped where none may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no small file system can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    """Leaves no byte free; the file that holds them."""
    with suppress(OSError), open(folder / "ballast", "wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    return folder / "ballast"


def test_a_record_that_finds_the_disk_full_leaves_the_others_whole(small_disk):
    store, kept = Store(small_disk / "runs"), record(ap=30.0)
    store.put(kept)
    ballast = fill(small_disk)
    with pytest.raises(OSError, match=rf"No space left on device: '{small_disk}/runs/\w+\.json'"):
        store.put(record(RunConfig(seed=1), 31.0, [30.0] * 2000))
    with pytest.raises(OSError, match="No space left on device"):
        store.put(record(ap=31.0, replicates=[30.0] * 2000))
    store.put_error(kept.run_id, "x" * 10_000)  # its own failure hides nothing
    assert [r.AP for r in store.records()] == [30.0]
    assert [p.name for p in store.folder.iterdir() if p.is_file()] == [f"{kept.run_id}.json"], (
        "no partial file"
    )
    ballast.unlink()
    store.put(record(RunConfig(seed=1), 31.0))
    assert len(store.records()) == 2


def test_runs_on_a_full_disk_are_named(data_root, small_disk, capfd):
    store, jobs = Store(small_disk / "runs"), jobs_of(SMOKE, SMOKE.replace(seed=1))
    store.folder.mkdir()
    fill(small_disk)
    assert run_missing(jobs, store, "cpu", workers=1) == 2
    said = "".join(capfd.readouterr())
    for n in range(2):
        assert f"made: row {n}, seed {n}: failed, OSError: [Errno 28] No space left on device" in said
    assert store.records() == [] and "Traceback" not in said


def test_pixels_that_find_no_room_are_one_line_of_a_command(small_disk, monkeypatch, capsys):
    monkeypatch.setenv("FOCALREPRO_DATA", str(small_disk))
    monkeypatch.setattr(sys, "argv", ["focalrepro", "run", "1a", "--profile", "smoke"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    said = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and said[-1].startswith(f"focalrepro: {small_disk}")
    assert "No space left on device" in said[-1] and "FOCALREPRO_DATA" in said[-1]
    assert "Traceback" not in "".join(said)
    assert sum(p.stat().st_size for p in small_disk.rglob("*") if p.is_file()) < 500_000, (
        "nothing half is left"
    )


# ---- too little memory


LIMITED = """
import json, resource, sys
from pathlib import Path
from focalrepro.config import from_dict
from focalrepro.study.ablations import Planned
from focalrepro.study.campaign import run_missing, with_ids
from focalrepro.study.store import Store

if __name__ == "__main__":
    planned = [Planned(from_dict(c), (("made", f"row {n}"),)) for n, c in enumerate(json.loads(sys.argv[2]))]
    resource.setrlimit(resource.RLIMIT_AS, (20 * 2**30,) * 2)  # of addresses; inherited by the workers
    sys.exit(run_missing(with_ids(planned), Store(Path(sys.argv[1])), "cpu", workers=1))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS binds on Linux")
def test_a_run_beyond_memory_is_named_and_the_others_go_on(data_root, tmp_path):
    script, store = tmp_path / "limited.py", Store(tmp_path / "runs")
    script.write_text(LIMITED)
    configs = [SMOKE.replace(batch_size=3_000_000), SMOKE, SMOKE.replace(fpn_channels=120_000)]
    command = [sys.executable, script, store.folder, json.dumps([c.as_dict() for c in configs])]
    env = os.environ | {"PYTHONPATH": PATH}
    done = subprocess.run(
        list(map(str, command)), env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 2, done.stdout + done.stderr
    jobs = jobs_of(*configs)
    assert [state_of(job, store, store) for job in jobs] == ["failed", "done", "failed"]
    for n in (0, 2):
        (line,) = [x for x in (done.stdout + done.stderr).splitlines() if f"row {n}" in x]
        assert "failed, " in line and "allocate" in line
        assert "allocate" in store.error_path(jobs[n].run_id).read_text()


# ---- two processes on one store

HOLDER = """
import sys, time
from pathlib import Path
from focalrepro.study.store import Store
with Store(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(600)
"""
WRITER = """
import itertools, sys
from pathlib import Path
from made_up import record
from focalrepro.config import RunConfig
from focalrepro.study.store import Store
store = Store(Path(sys.argv[1]))
for n in itertools.count():
    store.put(record(RunConfig(seed=n % 5), float(n % 100), [1.0] * 500))
    if n == 5:
        print("begun", flush=True)
"""


@pytest.fixture
def other(tmp_path):
    """other(code, folder): a process of that code, once it has said its first line;
    it is ended with the test.
    """
    begun = []

    def begin(code, folder):
        command = [sys.executable, "-c", code, str(folder)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join([PATH, str(Path(__file__).parents[1])])}
        begun.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
        assert begun[-1].stdout.readline()
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_process_is_told_and_a_killed_one_holds_nothing(data_root, other):
    store = Store.local("smoke")
    holder = other(HOLDER, store.folder)
    with pytest.raises(RuntimeError, match=f"another process writes into {store.folder}"):
        cli.run(("1a",), profile="smoke", device="cpu")
    holder.kill()
    holder.wait()
    with store.lock():
        pass


def test_a_reader_finds_whole_records_at_any_moment(tmp_path, other):
    store = Store(tmp_path / "runs")
    writer = other(WRITER, store.folder)
    reads, end = 0, time.monotonic() + 2
    while time.monotonic() < end:
        found = store.records()
        assert len(found) == 5 and {r.seed for r in found} == set(range(5))
        reads += 1
    assert reads > 5 and writer.poll() is None
    writer.kill()
    writer.wait()
    assert len(store.records()) == 5
    for seed in range(5):  # the next writing of each takes away what the kill left of it
        store.put(record(RunConfig(seed=seed)))
    assert {p.suffix for p in store.folder.iterdir()} == {".json"}

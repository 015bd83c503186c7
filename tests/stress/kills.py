"""Campaigns that are killed again and again, and what is left compared with one that nobody disturbed.

Each campaign is a forked process, whose workers are forked too, so that torch is imported once and a kill
finds them at work, not at their start. Every flush to the disk takes a while, so that kills meet writing as
well.
"""

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from focalrepro import files
from focalrepro.evaluation.record import Record, RunFileError
from focalrepro.study import campaign
from focalrepro.study.ablations import Planned
from focalrepro.study.campaign import run_missing, with_ids
from focalrepro.study.profiles import get_profile
from focalrepro.study.store import Store

BASE = get_profile("smoke").base.replace(weights="none", steps=2, fpn_channels=8)
TIMED = {"seconds", "images_per_second", "step_seconds", "inference_ms", "finished", "digest", "hardware"}
FLUSH = 0.1  # seconds


def start(folder: Path, runs: int) -> int:
    """The process id of a campaign of so many runs by two workers."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setpgid(0, 0)
        fork, flush = multiprocessing.get_context("fork"), os.fsync
        campaign.multiprocessing.get_context = lambda _: fork
        files.os.fsync = lambda fd: (time.sleep(FLUSH), flush(fd))
        planned = [Planned(BASE.replace(seed=s), (("made", "row"),)) for s in range(runs)]
        store = Store(folder)
        with store.lock():
            code = run_missing(with_ids(planned), store, "cpu", workers=2)
    finally:
        os._exit(code)


def workers(parent: int) -> list[int]:
    """The processes whose parent is `parent`, from /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, ppid = path.read_text().rsplit(")", 1)[1].split()[:2]
            if int(ppid) == parent and state != "Z":
                found.append(int(path.parent.name))
    return found


def ended(pid: int, seconds: float) -> int | None:
    """The exit status of a child process, or None where it still runs after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def whole(folder: Path, runs: int, seconds: float = 120) -> list[Record]:
    """The records of a campaign that nobody disturbs, from whatever a killed one left.

    Errors: RuntimeError where it does not end well; RunFileError for a damaged record.
    """
    pid = start(folder, runs)
    status = ended(pid, seconds)
    if status is None:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if status != 0:
        raise RuntimeError(f"a campaign in {folder} ended with {status}")
    return Store(folder).records()


def same(mine: list[Record], theirs: list[Record]) -> list[str]:
    """The ids of runs that one of two campaigns lacks, or that differ in more than their times."""
    a, b = ({r.run_id: _content(r) for r in found} for found in (mine, theirs))
    return sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))


def _content(record: Record) -> dict[str, Any]:
    return {k: v for k, v in record.as_json().items() if k not in TIMED}


def kill(folder: Path, runs: int, rng: random.Random, longest: float) -> str:
    """Kills a campaign, or (one time in three) a worker of it, at a random moment;
    what was killed, or "nothing".
    """
    pid = start(folder, runs)
    if ended(pid, rng.uniform(0, longest)) is not None:
        return "nothing"  # it was done before
    victims = workers(pid) if rng.random() < 1 / 3 else []
    if victims:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(victims), signal.SIGKILL)
        if ended(pid, rng.uniform(0, longest)) is not None:
            return "a worker"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    end = time.monotonic() + 10
    while time.monotonic() < end and _group_lives(pid):
        time.sleep(0.01)
    if _group_lives(pid):
        os.killpg(pid, signal.SIGKILL)
        return "a campaign whose workers outlived it"
    return "a worker and the campaign" if victims else "a campaign"


def _group_lives(group: int) -> bool:
    """Whether a process of the group runs (one that ended and is not waited for does not)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its = path.read_text().rsplit(")", 1)[1].split()[:3]
            if int(its) == group and state != "Z":
                return True
    return False


def kills(count: int, runs: int, seed: int, folder: Path, end: float) -> Iterator[dict[str, Any]]:
    """An entry for each of `count` kills (fewer where time.monotonic() passes `end`),
    then one for each campaign.

    A campaign is killed until it is whole, then the next begins in a new folder. Of a kill: "killed", and
    "lost" where the store is not readable after it. Of a campaign: "campaign", and "lost": runs that it lacks
    or that differ from the undisturbed one's.
    """
    rng, done, campaigns = random.Random(seed), 0, 0
    started = time.monotonic()
    reference = whole(folder / "undisturbed", runs)
    longest = time.monotonic() - started
    while done < count and time.monotonic() < end:
        here, campaigns = folder / f"killed-{campaigns}", campaigns + 1
        while done < count and time.monotonic() < end:
            killed = kill(here, runs, rng, longest)
            if killed == "nothing":
                break
            done += 1
            yield {"killed": killed, "lost": _unreadable(here) + ["a worker"] * ("outlived" in killed)}
        try:
            yield {"campaign": campaigns, "lost": same(whole(here, runs), reference)}
        except (RuntimeError, RunFileError) as error:
            yield {"campaign": campaigns, "lost": [str(error)]}
        shutil.rmtree(here)


def _unreadable(folder: Path) -> list[str]:
    try:
        Store(folder).records()
    except RunFileError as error:
        return [str(error)]
    return []

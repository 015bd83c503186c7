"""`focalrepro status`: what is done, missing, diverged or failed, and how long the missing runs will take."""

import shlex
from collections import Counter
from dataclasses import replace

import numpy as np

from focalrepro import hardware
from focalrepro.data import DatasetError
from focalrepro.study.ablations import Planned, plan
from focalrepro.study.campaign import with_ids
from focalrepro.study.profiles import Profile, get_profile
from focalrepro.study.store import Store


def state_of(job: Planned, store: Store, committed: Store) -> str:
    """done, diverged, committed (in results/, taken over with --reuse), failed or missing."""
    record = store.get(job.run_id)
    if record:
        return record.status
    if committed.get(job.run_id):
        return "committed"
    return "failed" if store.error_path(job.run_id).exists() else "missing"


def time_left(missing: int, store: Store, profile: Profile) -> str:
    """An estimate for so many runs: from this machine's own, else the profile's guess for its hardware."""
    mine = [r for r in store.records() if not r.reused]
    like = [r for r in mine if r.config.steps == profile.base.steps] or mine  # a recipe may have been another
    own = [r.seconds.total for r in like]
    on_gpu = hardware.pick_device().type == "cuda"
    if own:
        workers, seconds = 1 if on_gpu else hardware.cores(), float(np.median(own))
        where = "on this machine, by its own runs"
    else:
        workers, seconds = 1 if profile.gpus else 2, profile.seconds_per_run
        where = f"on {profile.hardware.split(',')[0]} (a guess: none was run here)"
    minutes = seconds * missing / max(1, min(workers, missing)) / 60
    gpus = on_gpu if own else profile.gpus
    spent = f" ({minutes * gpus / 60:,.1f} GPU-hours)" if gpus else ""
    time = f"{minutes:.0f} min" if minutes < 600 else f"{minutes / 60:.0f} h"
    return f"about {time}{spent} {where}"


def print_status(profile_name: str, ablations: tuple[str, ...], seeds: int) -> int:
    """Prints a line per ablation and the total; returns 0. Without its data all counts as missing."""
    profile = get_profile(profile_name)
    store, committed = Store.local(profile_name), Store.committed(profile_name)
    names = ablations or profile.ablations
    planned = plan(profile, list(names), seeds)
    try:
        jobs = with_ids(planned)
    except DatasetError as error:
        jobs = [replace(p, run_id=f"run {number}") for number, p in enumerate(planned)]
        print(f"its data is not here: {error}")
    states = {job.run_id: state_of(job, store, committed) for job in jobs}
    own = f"{seeds} seed{'s'[: seeds > 1]}" if seeds else "as many seeds as each table has"
    print(f"profile {profile.name}: {profile.what}; {own}")
    for name in names:
        mine = [job for job in jobs if any(by == name for by, _ in job.wanted_by)]
        counts = Counter(states[job.run_id] for job in mine)
        said = ", ".join(f"{n} {state}" for state, n in counts.most_common())
        if counts["missing"] and profile.gpus:
            said += f"; {time_left(counts['missing'], store, profile)}"
        print(f"  {name:6} {len(mine):4} runs: {said}")
    missing = sum(state in ("missing", "failed") for state in states.values())
    for job in jobs:
        if states[job.run_id] == "failed":
            print(f"  failed: {job.title}; see {store.error_path(job.run_id)}")
    if missing:
        print(f"{missing} of {len(jobs)} runs are missing: {time_left(missing, store, profile)}")
        words = ["focalrepro", "run", *ablations, "--profile", profile_name]
        print("  " + shlex.join([*words, *(["--seeds", str(seeds)] if seeds else [])]))
    else:
        taken = sum(state == "committed" for state in states.values())
        print(f"all {len(jobs)} runs are there" + f", {taken} as committed results" * bool(taken))
    return 0

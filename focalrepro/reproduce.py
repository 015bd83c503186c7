"""`make reproduce`, step by step: data, missing runs, notebooks, report, comparison."""

import time
from collections.abc import Sequence
from pathlib import Path

from focalrepro import hardware
from focalrepro.data.prepare import ensure
from focalrepro.expected import compare
from focalrepro.files import results_root
from focalrepro.results import load_records
from focalrepro.study.ablations import plan
from focalrepro.study.campaign import check_count, run_missing, take_over, with_ids
from focalrepro.study.profiles import get_profile
from focalrepro.study.records import Store


def run_ablations(
    profile_name: str,
    ablations: Sequence[str] = (),
    seeds: int = 0,
    device: str = "auto",
    workers: int = 0,
    recipe: str = "fast",
    dataset: str = "",
    reuse: Path | None = None,
    limit: int = 0,
    trial: bool = False,
) -> int:
    """Trains the missing runs of a profile's ablations; 1 if a run failed, else 0.

    Errors: ValueError or RuntimeError that names an option which is wrong, before anything is made.
    """
    check_count("--seeds", seeds, "the profile's own number")
    check_count("--workers", workers, "as many as cores on a CPU, one on a GPU")
    check_count("--limit", limit, "all")
    hardware.pick_device(device)
    profile = get_profile(profile_name)
    names = list(ablations or profile.ablations)
    changes = {"dataset": dataset} if dataset else {}
    if trial:
        changes |= {"steps": 3, "warmup": 1, "batch_size": 4, "train_images": 16, "val_images": 16}
    planned = plan(profile, names, seeds, recipe, **changes)
    ensure(planned[0].config.dataset)
    store = Store.local(f"{profile_name}-trial" if trial else profile_name, dataset)
    with store.lock():
        jobs = with_ids(planned)
        if reuse:
            runs = reuse / "runs" if (reuse / "runs").is_dir() else reuse
            if not runs.is_dir():
                raise FileNotFoundError(f"{reuse}: no such folder of results to reuse")
            print(f"{take_over(jobs, Store(runs), store)} finished runs taken from {runs}")
        missing = [job for job in jobs if store.get(job.run_id) is None]
        print(
            f"{profile_name}: {len(jobs)} runs for {', '.join(names)}; {len(jobs) - len(missing)} done already"
        )
        failed = run_missing(missing[:limit] if limit else missing, store, device, workers)
    if failed:
        print(f"{failed} runs failed; their errors are in {store.folder / 'errors'}")
    return 1 if failed else 0


def reproduce(profile_name: str, seeds: int = 0, device: str = "auto", reuse: bool = False) -> int:
    """The whole reproduction of a profile; returns the exit status."""
    started = time.perf_counter()
    profile = get_profile(profile_name)
    print(f"profile {profile.name}: {profile.what}\nmeant for {profile.hardware}; here: {_machine(device)}")
    failed = run_ablations(
        profile_name, (), seeds, device, reuse=results_root(profile_name) if reuse else None
    )
    if failed:
        return 1
    from focalrepro.notebooks import execute_all
    from focalrepro.report import export, write_report

    export(profile_name)
    execute_all(profile_name)
    readme = write_report(profile_name)
    print(agreement(profile_name))
    minutes = (time.perf_counter() - started) / 60
    print(f"Done in {minutes:.1f} min. Read {_shown(readme)} (tables, figures) and the notebooks beside it.")
    return 0


def agreement(profile_name: str) -> str:
    """One paragraph: how this reproduction's numbers agree with the committed ones."""
    found = compare(profile_name, load_records(profile_name))
    if found is None:
        return f"No committed results of {profile_name} to compare with."
    off, compared = found
    text = (
        f"{compared - len(off)} of {compared} rows are within the range expected from the committed results."
    )
    return "\n".join([text, *(f"  outside: {line}" for line in off)])


def _machine(device: str) -> str:
    info = hardware.describe(hardware.pick_device(device).type)
    return f"{info.get('gpu', info['cpu'])}, {info['cores']} cores"


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

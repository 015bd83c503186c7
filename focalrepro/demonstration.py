"""One training inside a notebook: a budget that suits a notebook, progress bars, and what came out of it."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from tqdm import tqdm

from focalrepro import hardware, results
from focalrepro.config import RunConfig, from_dict
from focalrepro.narrate import interval_text
from focalrepro.study.profiles import get_profile


def short_config(profile: str, steps: int = 0) -> RunConfig:
    """The profile's baseline for one training inside a notebook.

    steps 0 is the profile's own number on the embedded dataset and on a GPU. Where a CPU would otherwise train
    on photos for minutes or hours it is 60, or 10 where the backbone is trained as well; a shortened run on
    photos also takes fewer of them.
    """
    config = get_profile(profile).base
    slow = config.dataset != "synthetic" and hardware.pick_device("auto").type == "cpu"
    steps = steps or ((60 if config.frozen == "backbone" else 10) if slow else config.steps)
    if steps >= config.steps:
        return config
    changes = {"steps": steps, "warmup": min(config.warmup, steps // 10)}
    if slow:
        batch = 16 if config.frozen == "backbone" else 4
        changes |= {"train_images": 120, "val_images": 60, "batch_size": min(config.batch_size, batch)}
    return config.replace(**changes)


def baseline_record(profile: str) -> Mapping[str, Any] | None:
    """The kept record of the profile's baseline itself, if there is one."""
    base = get_profile(profile).base
    return next((r for r in results.records_or_committed(profile) if from_dict(r["config"]) == base), None)


def verdict(record: Mapping[str, Any], profile: str) -> str:
    """What one run in a notebook reached, and how that compares with the kept record of the baseline."""
    low, high = record["AP_interval"]
    steps, seconds = record["config"]["steps"], record["seconds"]["total"]
    ap = record["metrics"]["AP"]
    if record["status"] == "diverged":
        lines = [f"The training **diverged** after {record['history']['step'][-1]} steps."]
    else:
        lines = [
            f"AP **{ap:.1f} %** ({interval_text(low, high)}) after {steps} steps; {seconds:.0f} seconds in all."
        ]
    if steps < 20:
        lines.append("So few steps only show that the path works.")
    kept = baseline_record(profile)
    if kept is None:
        lines.append(
            f"There is no kept run of this baseline yet (`focalrepro run 1b --profile {profile}` makes it)."
        )
    elif kept["run_id"] == record["run_id"]:
        lines.append(
            f"The kept record of the same run, `{kept['run_id']}`, has AP {kept['metrics']['AP']:.1f}."
        )
    else:
        lines.append(
            f"With its full {kept['config']['steps']} steps the baseline reaches {kept['metrics']['AP']:.1f}."
        )
    return " ".join(lines)


def progress_bars() -> Callable[[str, int, int], None]:
    """A `report` for `focalrepro.runs.run`: one plain bar with the remaining time for each phase."""
    bars: dict[str, tqdm] = {}

    def report(phase: str, done: int, total: int) -> None:
        if phase not in bars:
            unit = {"train": "step", "evaluate": "image"}.get(phase, "it")
            bars[phase] = tqdm(
                total=total, desc=phase, unit=unit, mininterval=2.0, ascii=True, ncols=88, file=sys.stdout
            )
        bars[phase].update(done - bars[phase].n)
        if done >= total:
            bars[phase].close()

    return report

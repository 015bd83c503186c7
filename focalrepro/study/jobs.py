"""What the terminal says of the runs that a campaign makes."""

import sys
import time
from collections.abc import Iterable

import torch

from focalrepro.hardware import has_bf16
from focalrepro.progress import bar as progress_bar
from focalrepro.study.ablations import Planned
from focalrepro.study.store import Store

RETRIES = 1  # of a run whose worker died
EVALUATION_SHARE = 0.15  # of a run's time; only for the estimate


class Progress:
    """A bar over all runs with the time left; a line for each run that ends."""

    def __init__(self, jobs: list[Planned]) -> None:
        self.part = {job.run_id: 0.0 for job in jobs}
        self.ended, self.terminal = 0, sys.stderr.isatty()
        form = "{desc} {percentage:3.0f}% |{bar:20}| {elapsed} gone, {remaining} left"
        self.bar = progress_bar(total=float(len(jobs)), bar_format=form, disable=not self.terminal)
        self.bar.set_description_str(f"0/{len(jobs)} runs")
        self.started = time.perf_counter()

    def close(self) -> None:
        self.bar.close()

    def say(self, line: str) -> None:
        self.bar.write(line)

    def update(self, job: Planned, phase: str, done: float, text: str) -> None:
        """One message of a run's worker; "again": from its start."""
        before, total = self.part[job.run_id], len(self.part)
        shares = {"train": done * (1 - EVALUATION_SHARE), "evaluate": 1 - EVALUATION_SHARE * (1 - done)}
        now = self.part[job.run_id] = shares.get(phase, float(phase != "again"))
        if phase in ("done", "diverged", "failed"):
            self.ended += 1
            gone = time.perf_counter() - self.started
            left = gone * (total / sum(self.part.values()) - 1)
            clock = self.bar.format_interval
            line = f"{self.ended:3}/{total}  {job.title}: {phase}, {text}"
            self.say(line if self.terminal else f"{line}   [{clock(gone)} gone, {clock(left)} left]")
            self.bar.set_description_str(f"{self.ended}/{total} runs", refresh=False)
        self.bar.update(max(0.0, now - before))


def of_other_machines(store: Store, ended: Iterable[Planned], device: torch.device) -> str:
    """One line where runs that have ended were made on another kind of machine than a device (`Record.kind`):
    a difference pairs runs of one kind alone. "" where all are of its kind."""
    mine = device.type, "" if has_bf16(device) else "fp32"
    kinds = [record.kind for job in ended if (record := store.get(job.run_id))]
    others = {" in ".join(filter(None, kind)) for kind in kinds if kind != mine}
    if not others:
        return ""
    count, own = sum(kind != mine for kind in kinds), " in ".join(filter(None, mine))
    what = f"{count} of these were made on another kind of machine ({', '.join(sorted(others))}; here: {own})"
    join = not mine[1] and {kind for kind in kinds if kind != mine} == {(device.type, "fp32")}
    how = "; with FOCALREPRO_BF16=0 in the environment they are of that kind" if join else ""
    return f"{what}: new runs are compared with runs of their own kind alone{how}"

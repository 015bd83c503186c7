"""Timing: the two sides in turn, medians with their spread, and the ratio of the medians."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of n measurements."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Row:
    """One comparison. Both sides in `unit`; ratio says how many times better ours is; goal is what it aims at.

    share: the share of this machine's limit that ours reaches, with the limit's name, where that makes sense.
    """

    what: str
    against: str
    unit: str
    ours: Spread
    theirs: Spread
    more_is_better: bool
    goal: float
    note: str = ""
    share: float | None = None
    limit: str = ""

    @property
    def ratio(self) -> float:
        a, b = self.ours.median, self.theirs.median
        return a / b if self.more_is_better else b / a

    def as_dict(self) -> dict[str, Any]:
        values = {k: v for k, v in self.__dict__.items() if k not in ("ours", "theirs")}
        return values | {"ours": vars(self.ours), "theirs": vars(self.theirs), "ratio": self.ratio}


def seconds(function: Callable[[], Any], device: torch.device) -> float:
    """Wall seconds of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def in_turn(
    ours: Callable[[], Any], theirs: Callable[[], Any], device: torch.device, repeats: int
) -> tuple[Spread, Spread]:
    """Seconds of both, measured A B A B … after one call of each to warm up."""
    ours(), theirs()
    pairs = [(seconds(ours, device), seconds(theirs, device)) for _ in range(repeats)]
    return Spread.of([a for a, _ in pairs]), Spread.of([b for _, b in pairs])

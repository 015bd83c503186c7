"""Runs that were made twice, on unlike machines: how far a machine and its precision move a run's AP."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from focalrepro.evaluation.record import Record
from focalrepro.evidence.difference import student
from focalrepro.study.store import Store
from focalrepro.study.study import Study


@dataclass(frozen=True)
class MadeTwice:
    """Pairs of one run each: the record that the tables count, and the one that another machine made."""

    pairs: Sequence[tuple[Record, Record]]

    @property
    def differences(self) -> np.ndarray:
        """AP of the tables' record less the other's, float64 [P]."""
        return np.array([here.AP - there.AP for here, there in self.pairs])

    @property
    def interval(self) -> tuple[float, float, float]:
        """The mean difference in AP with its 95 % interval, Student's over the pairs."""
        d = self.differences
        return float(d.mean()), *student(d.mean(), d.std(ddof=1) / len(d) ** 0.5, len(d) - 1)

    @property
    def machines(self) -> tuple[str, str]:
        """What the tables' records were made on, and the others."""
        sides = [{r.hardware.name for r in side} for side in zip(*self.pairs, strict=True)]
        return tuple(", ".join(sorted(side)) for side in sides)


def made_twice(study: Study) -> MadeTwice | None:
    """The runs of a study whose other record lies in `again/` of its results; None below two of them.

    Errors: RunFileError for a damaged record.
    """
    there = {r.run_id: r for r in Store(study.folder / "again").records()}
    pairs = [(r, other) for r in study.records if (other := there.get(r.run_id)) and r.pair != other.pair]
    return MadeTwice(pairs) if len(pairs) > 1 else None

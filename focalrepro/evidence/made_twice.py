"""Runs that were made twice, on unlike machines: how far a machine and its precision move a run's AP."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from focalrepro.evaluation.record import Record
from focalrepro.evidence.difference import LEVEL, MARGIN, Evidence, mean_interval, shared
from focalrepro.study.study import Rows, Study

LEAST = 8  # runs that both have made, before rows may hold runs of both


class Lead(NamedTuple):
    """AP of one row less that of another over seeds that were made twice: the mean with its 95 % interval,
    over the seeds alone, of the records that the tables count and of the others."""

    ahead: str
    behind: str
    seeds: int
    here: tuple[float, float, float]
    there: tuple[float, float, float]


@dataclass(frozen=True)
class MadeTwice:
    """Pairs of one run each: the record that the tables count, and the one that another machine made."""

    pairs: Sequence[tuple[Record, Record]]

    @property
    def differences(self) -> np.ndarray:
        """AP of the tables' record less the other's, float64 [P]."""
        return np.array([here.AP - there.AP for here, there in self.pairs])

    @property
    def farthest(self) -> float:
        """The largest difference of a single run, in AP."""
        return float(np.abs(self.differences).max())

    @property
    def interval(self) -> tuple[float, float, float]:
        """The mean difference in AP with its 95 % interval, Student's over the pairs."""
        return mean_interval(self.differences)

    @property
    def agree(self) -> bool:
        """Whether at least LEAST runs hold the mean difference within ±MARGIN, by two one-sided tests."""
        _, low, high = mean_interval(self.differences, 1 - 2 * LEVEL)
        return len(self.pairs) >= LEAST and low > -MARGIN and high < MARGIN

    def lead(self, rows: Rows) -> Lead | None:
        """How far one of these rows is ahead of another, on either side; None unless two rows, and no more,
        share seeds that were made twice."""
        aps = {here.run_id: (here.AP, there.AP) for here, there in self.pairs}
        found = {k: {r.seed: aps[r.run_id] for r in of if r.run_id in aps} for k, of in rows.items()}
        found = {k: of for k, of in found.items() if of}
        seeds = sorted(set.intersection(*map(set, found.values()))) if len(found) == 2 else []
        if len(seeds) < 2:
            return None
        (one, ones), (other, others) = found.items()
        gaps = np.array([np.subtract(ones[seed], others[seed]) for seed in seeds])  # [S, 2], here and there
        if gaps[:, 0].mean() < 0:
            one, other, gaps = other, one, -gaps
        return Lead(one, other, len(seeds), *map(mean_interval, gaps.T))

    @property
    def kinds(self) -> frozenset[tuple[str, str]]:
        """The kinds of machine (`Record.kind`), two, or one where the machines differ in their CPU alone."""
        return frozenset(r.kind for r in self.pairs[0])

    @property
    def machines(self) -> tuple[str, str]:
        """What the tables' records were made on, and the others."""
        sides = [{r.hardware.name for r in side} for side in zip(*self.pairs, strict=True)]
        return tuple(", ".join(sorted(side)) for side in sides)


def made_twice(study: Study) -> list[MadeTwice]:
    """The runs of a study whose other record lies in a folder `again*` of its results, by the two machines;
    those of which there are two at least.

    Errors: RunFileError for a damaged record.
    """
    of_machines = defaultdict[tuple, list](list)
    for records in study.again.values():
        there = {r.run_id: r for r in records}
        for r in study.records:
            if (other := there.get(r.run_id)) and r.hardware.name != other.hardware.name:
                of_machines[r.hardware.name, other.hardware.name].append((r, other))
    return [MadeTwice(pairs) for pairs in of_machines.values() if len(pairs) > 1]


def mixed(study: Study) -> list[str]:
    """A line for each row that holds runs of unlike machines (`Record.kind`) which are not known to agree.

    A difference pairs like with like, but a row's mean is over all its runs.
    """
    known = {twice.kinds for twice in made_twice(study) if twice.agree}
    off, e = [], Evidence(study)
    for name in study.ablations:
        for row, records in study.rows(name).items():
            kinds = frozenset(r.kind for r in records)
            if len(kinds) > 1 and kinds not in known:
                said = " and ".join(sorted(" ".join(filter(None, kind)) for kind in kinds))
                off.append(f"{name}, row {row!r}: runs of {said} in one mean, which are not known to agree")
        rows = e.every(name)
        if not study.ablation(name).search and any(rows.values()) and not any(shared(rows).values()):
            off.append(f"{name}: no seed has runs of like machines in every row, so its rows do not compare")
    return off

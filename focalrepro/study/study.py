"""A study: a profile with its records, resolved once, so that nothing else asks for them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Self

from focalrepro.config import TRAINING_VERSION, RunConfig
from focalrepro.evaluation.record import Record
from focalrepro.files import results_root
from focalrepro.runs import data_of
from focalrepro.study import own
from focalrepro.study.ablations import (
    ABLATIONS,
    SEARCH_SEED,
    Ablation,
    Planned,
    Row,
    check_count,
    get_ablation,
    plan,
)
from focalrepro.study.campaign import run_planned, with_ids
from focalrepro.study.profiles import Profile, get_profile
from focalrepro.study.store import Store
from focalrepro.training.dials import Dials
from focalrepro.training.own_loss import adopt, check

Rows = dict[str, list[Record]]  # by the row's label, ordered by seed; empty where a row has no run


class Study:
    """A profile with its records; `focalrepro.Study` adds tables, figures and claims to it.

    profile: its name, or that of a registered dataset. reuse: a folder of results, such as results/coco-cpu,
    whose finished runs `run` takes instead of training them. keep_weights: beside the records of what is
    trained. records: in place of those that are kept.
    Otherwise they are the local store's; where that has none, the committed ones, so that a notebook opens on
    a clone; and of what a profile leaves to the one that runs the whole paper, that one's committed ones.
    Errors: ValueError for an unknown profile.
    """

    def __init__(
        self,
        profile: str,
        reuse: str | Path | None = None,
        records: Sequence[Record] | None = None,
        keep_weights: bool = False,
    ) -> None:
        self.profile: Profile = get_profile(profile)
        self.reuse, self.base, self.keep_weights = reuse, self.profile.base, keep_weights
        self._records = None if records is None else self._of_newest_data(records)
        self._trains = records is None
        self._mixed = records is None and bool(self.profile.whole)
        self._rows: dict[str, Rows] = {}
        self._given: dict[str, Ablation] = {}

    @classmethod
    def committed(cls, profile: str) -> Self:
        """The study of the committed results alone."""
        return cls(profile, records=_committed(profile))

    @property
    def name(self) -> str:
        """The profile's name, as its folder of results has it."""
        return self.profile.name

    @property
    def folder(self) -> Path:
        """Where the results of this study lie."""
        return results_root(self.name)

    @property
    def again(self) -> dict[str, list[Record]]:
        """Records of runs that another machine made, too, by their folder `again*` of the results."""
        return {folder.name: _kept(folder) for folder in sorted(self.folder.glob("again*"))}

    def file(self, record: Record) -> str:
        """Where a record lies in the folder of the results."""
        again = (name for name, records in self.again.items() if any(r is record for r in records))
        return f"{next(again, 'runs')}/{record.run_id}.json"

    @property
    def records(self) -> list[Record]:
        """All records, read once."""
        if self._records is None:
            self._records = self._own() + self._left_to_the_whole()
        return self._records

    def _own(self) -> list[Record]:
        return self._of_newest_data(Store.local(self.name).records() or _committed(self.name))

    def _of_newest_data(self, records: Sequence[Record]) -> list[Record]:
        """Of one's own data, which may have been mended since, those of its state at the last run: runs of
        two states cannot stand in one table. Of a built-in dataset all."""
        if not self.profile.own:
            return list(records)
        newest = {data_of(r.config): r.data for r in sorted(records, key=lambda r: r.finished)}
        return [r for r in records if r.data == newest[data_of(r.config)]]

    def alone(self) -> Self:
        """The same study without what it takes from the profile's `whole`: what its own page has."""
        return type(self)(self.name, records=self._own()) if self._mixed else self

    def _left_to_the_whole(self) -> list[Record]:
        """Committed records of the profile's `whole` that belong to none of this profile's own ablations."""
        if not self.profile.whole:
            return []
        whole = Study(self.name, records=_committed(self.profile.whole))
        rows = [rows for name in self.profile.ablations for rows in whole.rows(name).values()]
        mine = {r.run_id for records in rows for r in records}
        return [record for record in whole.records if record.run_id not in mine]

    @property
    def ablations(self) -> dict[str, Ablation]:
        """Every ablation by its name: built in, of own losses that have records, or given to `run`."""
        return ABLATIONS | own.of_records(self.records, self.base) | self._given

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate of each loss, the user's own with them."""
        return self.profile.rates | own.rates_of(self.records, self.base)

    def seeds_of(self, ablation: str) -> int:
        """How many seeds an ablation's rows get unless told."""
        return self.ablation(ablation).seeds or self.profile.seeds_of(ablation)

    def ablation(self, name: str) -> Ablation:
        """The ablation of that name; ValueError lists those there are."""
        return ABLATIONS[name] if name in ABLATIONS else get_ablation(name, self.ablations)

    def rows(self, ablation: str) -> Rows:
        """The records of each row of an ablation, ordered by seed.

        Of a seed that was run under two versions of the training code the newer one counts.
        Errors: ValueError for an unknown ablation, and where runs of a row were made on different data.
        """
        if ablation not in self._rows:
            self._rows[ablation] = self._select(self.ablation(ablation))
        return self._rows[ablation]

    def _select(self, ablation: Ablation) -> Rows:
        by_config: dict[RunConfig, list[Record]] = {}
        for record in self.records:
            by_config.setdefault(record.row, []).append(record)
        found = {}
        for label, config in ablation.row_configs(self.base, self.rates).items():
            same = sorted(by_config.get(config, ()), key=lambda r: r.training_version)
            seeds = {r.seed: r for r in same if (r.seed >= SEARCH_SEED) == ablation.search}
            digests = {(r.data.train.digest, r.data.val.digest): r.run_id for r in seeds.values()}
            if len(digests) > 1:  # they cannot be averaged or paired by image
                mend = "remove the records of the data that you no longer have from the store's folder"
                runs = ", ".join(digests.values())
                raise ValueError(f"row {label!r}: the runs {runs} were made on different data; {mend}")
            found[label] = [seeds[seed] for seed in sorted(seeds)]
        return found

    def label(self, ablation: str, **changes: object) -> str:
        """The label of the ablation's first row with these changes; KeyError where there is no such row."""
        for row in self.ablation(ablation).rows_for(self.base):
            if changes.items() <= row.changes.items():
                return row.label
        raise KeyError(f"ablation {ablation} has no row with {changes}")

    def shown(self) -> list[str]:
        """The ablations that a report shows: the profile's own that have any run, others that are complete.

        Rows are shared, so every run of Table 1b is also a piece of ablations that nobody has asked for.
        """
        mine, rest = self.profile.ablations, [n for n in self.ablations if n not in self.profile.ablations]
        shown = [name for name in mine if any(self.rows(name).values())]
        return shown + [name for name in rest if (rows := self.rows(name)) and all(rows.values())]

    def typical(self) -> Record | None:
        """The first record of the baseline's detector and anchors, which ablations change, else the first."""
        data = {"dataset", "classes", "image_size", "detector", "first_level", "last_level"}
        fields = data | {"anchor_size", "anchor_scales", "anchor_ratios"}
        alike = (r for r in self.records if not r.config.differences(self.base).keys() & fields)
        return next(alike, self.records[0] if self.records else None)

    def run(self, *ablations: str | Ablation, seeds: int = 0, device: str = "auto", workers: int = 0) -> Self:
        """Trains what these ablations (none: all of the profile's) lack, with progress; the study itself.

        ablations: names, or Ablations of one's own, which the study then knows by theirs. seeds: of every
        row; 0: as many as the profile has. Errors: ValueError for an unknown ablation or option; RuntimeError
        where a run failed, with its error's place.
        """
        given = {a.name: a for a in ablations if isinstance(a, Ablation)}
        if taken := sorted(given.keys() & ABLATIONS.keys()):
            raise ValueError(f"an Ablation's name is {taken[0]!r}, which is built in; give it another")
        self._given |= given
        profile = replace(self.profile, rates=self.rates)
        asked = [a if isinstance(a, Ablation) else self.ablation(a) for a in ablations or profile.ablations]
        self._run(plan(profile, asked, seeds), device, workers)
        return self

    def train_loss(self, spec: str, seeds: int = 0, device: str = "auto", workers: int = 0) -> str:
        """Searches the rate of a loss of one's own, FILE.py:FUNCTION, and trains it at its best beside cross
        entropy and focal loss; the name of the ablation that has them.

        Errors: as `own_loss.adopt`, `own_loss.check` and `run`.
        """
        check_count("--seeds", seeds, "the profile's own number")
        loss = adopt(spec)
        config = self.base.replace(loss=loss.name, **loss.numbers)
        dials = Dials.of(config)
        print(check(loss, {name: getattr(dials, name) for name in loss.parameters}))
        search, compare = own.ablations_of(config)
        self.run(search, device=device, workers=workers)
        self.run(compare, seeds=seeds, device=device, workers=workers)
        return compare.name

    def _run(self, planned: list[Planned], device: str = "auto", workers: int = 0) -> None:
        store, reuse = Store.local(self.name, self.keep_weights), Path(self.reuse) if self.reuse else None
        there = [*store.records(), *self._left_to_the_whole()] if self._trains else self.records
        done = {r.config for r in there if r.training_version == TRAINING_VERSION}
        missing = [p for p in planned if self.keep_weights or p.config not in done]
        if self.profile.own:  # one's own data may be other than it was when they were done
            missing = [p for p in with_ids(planned) if store.lacks(p.run_id)]
        if missing and not self._trains:
            raise ValueError(
                f"{len(missing)} runs are missing among the records that this study was given; "
                f"Study({self.name!r}) trains what it lacks"
            )
        if missing and (failed := run_planned(missing, store, device, workers, reuse)):
            raise RuntimeError(f"{failed} runs failed; their errors are in {store.folder / 'errors'}")
        self._rows = {}
        if self._trains:  # another process may have trained some of them, too
            self._records = None
        vars(self).pop("evidence", None)

    def cells(
        self, gammas: Sequence[float], alphas: Sequence[float], seeds: int = 1
    ) -> dict[tuple[float, float], list[Record]]:
        """Records of the baseline at every (γ, α), missing ones trained; by (γ, α), ordered by seed.

        seeds: of every cell; 0: as many as the profile has. Errors: ValueError for what are no numbers.
        """
        check_count("seeds", seeds, "the profile's own number")
        sides = _numbers("gammas", gammas), _numbers("alphas", alphas)
        plane = [{"gamma": g, "alpha": a} for g in sides[0] for a in sides[1]]
        rows = tuple(Row("γ = {gamma:g}, α = {alpha:g}".format(**changes), changes) for changes in plane)
        asked, seeds = Ablation("cells", "a plane of γ and α", "", rows), seeds or self.profile.seeds
        configs = asked.configs(self.base, range(seeds), self.rates)
        self._run([Planned(c, (("cells", label),)) for (label, _), c in configs.items()])
        found = self._select(asked)
        return {
            (row.changes["gamma"], row.changes["alpha"]): [r for r in found[row.label] if r.seed < seeds]
            for row in rows
        }


def _numbers(name: str, values: Sequence[float]) -> list[float]:
    """Each once; ValueError unless they are a list of numbers, at least one."""
    try:
        found = [] if isinstance(values, str) else list(dict.fromkeys(map(float, values)))
    except (TypeError, ValueError):
        found = []
    if not found:
        raise ValueError(f"{name} is {values!r}; give a list of numbers, as [0, 1, 2]")
    return found


def _committed(profile: str) -> list[Record]:
    return _kept(Store.committed(profile).folder)


def _kept(folder: Path) -> list[Record]:
    """A folder's records, read once as long as no file of it comes or goes."""
    return list(_read(folder, folder.stat().st_mtime_ns)) if folder.is_dir() else []


@cache
def _read(folder: Path, changed: int) -> tuple[Record, ...]:
    return tuple(Store(folder).records())

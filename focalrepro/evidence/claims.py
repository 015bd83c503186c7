"""The claims of `claims.toml`, and their verdicts by results/PROTOCOL.md."""

import tomllib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from focalrepro.config import RunConfig
from focalrepro.evidence import rates
from focalrepro.evidence.difference import LEVEL, MEASURES, Estimate, Evidence, Records, holm, shared
from focalrepro.evidence.statistics import STATISTICS
from focalrepro.evidence.tables import mean
from focalrepro.evidence.verdict import JUDGED, NOT_YET, Verdict, verdict_of
from focalrepro.study.ablations import get_ablation
from focalrepro.study.study import Study

FAMILY = ("fl-tuned-ce", "fl-hard-negatives", "fl-sampling-free", "ridge")  # the protocol's primary one
SEEDS = 3  # of any other claim, before it is judged
# Why no more runs would judge a claim.
NEVER = "does not apply to this data"
UNLIKE = "cannot be judged, as no seed of like machines is on both sides"
NOTHING = "cannot be judged, as a run diverged or found nothing"
MADE = (NEVER, UNLIKE, NOTHING)
# Values of a field, as claims.toml has them.
BASELINE = {"the baseline's": 1, "2 × the baseline's": 2, "¼ of the baseline's": 0.25}


class Side(BaseModel):
    """One side of a difference: a row of an ablation, or one picked of those that match.

    What is not declared here are fields of the config, or `label`: a value or a list of such.
    """

    model_config = ConfigDict(frozen=True, extra="allow", validate_by_name=True)
    ablation: str = Field(alias="in")
    pick: Literal["", "last", "best", "best at .05", "worst", "farthest", "tuned"] = ""

    def labels(self, base: RunConfig) -> list[str]:
        """The rows over a baseline that match."""
        wanted = {}
        for key, value in self.model_extra.items():
            if isinstance(value, str) and value in BASELINE:
                value = BASELINE[value] * (own := getattr(base, key))
                value = round(value) if isinstance(own, int) else value  # as `Ablation.rows_for` has it
            wanted[key] = value if isinstance(value, list) else [value]
        rows = get_ablation(self.ablation).rows_for(base)
        fields = {row.label: base.replace(**row.changes).as_dict() | {"label": row.label} for row in rows}
        return [k for k, mine in fields.items() if all(mine[key] in values for key, values in wanted.items())]

    def records(self, e: Evidence, other: Records = ()) -> tuple[Records, str] | None:
        """The side's records, of every seed, and which row was picked, if any; None where a run is missing.

        A row is picked on the tune images, over the seeds that all rows share. other: the other side, from
        which `farthest` is counted.
        """
        labels = self.labels(e.study.base)
        if self.pick == "tuned":  # at its own rate; none before the searches of rates are done
            searched = rates.best(e, "lr")
            done = searched.keys() >= set(labels)
            labels = [max(labels, key=lambda label: searched[label][1])] if done else []
        elif self.pick in ("", "last"):
            labels = labels[-1:] if self.pick else labels[:1]
        found = e.comparable(self.ablation) if len(labels) > 1 else e.rows(self.ablation)
        rows = {label: found[label] for label in labels}
        if not rows or not all(rows.values()):  # the best of some rows is not the best of all
            return None
        at = "AP_at_05" if self.pick == "best at .05" else "AP"
        of = {name: mean(getattr(r.tune, at) for r in records) for name, records in rows.items()}
        if any(np.isnan(ap) for ap in of.values()):  # no tune image has an object
            return None
        if self.pick == "farthest":
            pairs = {r.pair for records in rows.values() for r in records}
            level = mean(r.tune_AP for r in other if r.pair in pairs)
            label = max(of, key=lambda name: abs(of[name] - level))
        else:
            label = (min if self.pick == "worst" else max)(of, key=of.__getitem__)
        how = f"{'best' if self.pick == 'tuned' else self.pick} on tune images"
        remark = "" if self.pick in ("", "last") else f"the {how} is {label}"
        return e.every(self.ablation)[label], remark

    def paper(self, base: RunConfig) -> float:
        """The paper's AP of the same side, picked by the paper's numbers; NaN where it has none."""
        theirs = {r.label: r.paper.AP for r in get_ablation(self.ablation).rows_for(base) if r.paper}
        aps = [theirs[label] for label in self.labels(base) if label in theirs]
        if not aps or self.pick in ("farthest", "tuned"):
            return float("nan")
        return {"": aps[0], "last": aps[-1], "worst": min(aps)}.get(self.pick, max(aps))

    def luck(self, e: Evidence) -> float | None:
        """AP of the row that is picked, less what each seed has where the other seeds pick its row.

        Both on images that judge, picked on tune images (leave-one-out cross-fitting). Above 0 where the
        trainings that choose are favoured by choosing; the other seeds are one fewer, so it is no less than
        that. Seeds of the picked row beside those that all rows have took no part in the pick, and dilute its
        luck. None where no counted training picks, with fewer than two seeds, and without tune images.
        """
        if self.pick not in ("best", "best at .05"):
            return None
        at = "AP_at_05" if self.pick == "best at .05" else "AP"
        labels = self.labels(e.study.base)
        rows = [{r.pair: r for r in e.rows(self.ablation)[label]} for label in labels]
        pairs = sorted(set().union(*rows))
        if len(pairs) < 2 or any(len(row) < len(pairs) for row in rows):
            return None
        tune = np.array([[getattr(row[pair].tune, at) for pair in pairs] for row in rows], float)
        if np.isnan(tune).any():
            return None
        judged = np.array([[getattr(row[pair], at) for pair in pairs] for row in rows])
        others = tune.sum(axis=1, keepdims=True) - tune  # [rows, seeds]: over all seeds but one
        fitted = judged[others.argmax(axis=0), np.arange(len(pairs))]
        picked = int(tune.mean(axis=1).argmax())
        judges = e.every(self.ablation)[labels[picked]]
        return float(judged[picked].mean() - fitted.mean()) * len(pairs) / len(judges)


class Claim(BaseModel):
    """A sentence with its source and question: a less b is above 0 ("more"), 0 ("equal"), or just "measured",
    without a verdict; or `statistic`.

    id: the same for all time. short: its name in a forest plot; against: b in words. measure: of
    `difference.MEASURES`. scale: of a. needs: the ablations that it reads, derived for a difference.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    question: str
    sentence: str
    source: str
    short: str = ""
    against: str = ""
    a: Side | None = None
    b: Side | None = None
    kind: Literal["more", "equal", "measured"] = "more"
    measure: Literal[*MEASURES] = "AP"
    scale: float = 1.0
    statistic: Literal["", *STATISTICS] = ""
    of: dict[str, Any] = {}
    needs: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, values: dict[str, Any]) -> dict[str, Any]:
        sides = [values[side] for side in ("a", "b") if side in values]
        if len(sides) != (0 if "statistic" in values else 2):
            raise ValueError("a claim has either a and b or a statistic")
        search = ["lr"] if any(side.get("pick") == "tuned" for side in sides) else []
        return {"needs": tuple(dict.fromkeys([*search, *(side["in"] for side in sides)]))} | values

    def primary(self, study: Study) -> bool:
        """Whether it is one of the protocol's primary family; all others are exploratory."""
        return self.id in FAMILY and has_family(study)

    def difference(self, e: Evidence, by_seed: bool = False) -> Estimate | None:
        """a less b; None where runs or a measure are missing. The remark names a row that was picked.

        by_seed: with the seeds paired, too (`Evidence.contrast`).
        """
        b = self.b.records(e)
        a = b and self.a.records(e, b[0])
        gap = a and e.contrast((a[0], b[0]), (self.scale, -1.0), MEASURES[self.measure], by_seed)
        if not gap:
            return None
        picked = "; against it ".join(filter(None, (a[1], b[1])))
        remark = "; ".join(filter(None, (picked, self._parts(gap, a[0], b[0]))))
        counted = e.every(self.a.ablation) is e.study.rows(self.a.ablation)
        return replace(gap, remark=remark, machine="" if counted else a[0][0].hardware.name)

    def _parts(self, gap: Estimate, a: Records, b: Records) -> str:
        """What the number is made of, where it is no plain difference."""
        if self.scale != 1:
            other, own = gap.levels
            kept = f", {100 * own / other:.0f} % of {other:.1f}" if other else ""
            return f"AP {own:.1f}{kept}; judged: {self.scale:g} of {other:.1f} less {own:.1f}"
        if self.measure != "threshold":
            return ""
        a, b = shared({"a": a, "b": b}).values()
        lost = mean(r.AP_at_05 for r in b) - mean(r.AP_at_05 for r in a)
        stays = mean(r.AP for r in b) - mean(r.AP for r in a)
        where = "behind" if stays > 0 else "ahead"
        digits = 2 if max(gap.levels) < 10 else 1
        told = f"{lost:.{digits}f} AP behind at .05, {abs(stays):.{digits}f} {where} without a threshold"
        return f"{told}; judged: the first less twice the second"

    def judge(self, e: Evidence) -> Verdict | None:
        """Its verdict, before the family's adjustment; None where runs are missing."""
        if self.statistic:
            return STATISTICS[self.statistic](e, **self.of)
        gap = self.difference(e)
        return gap and verdict_of(gap, self.kind)


CLAIMS: dict[str, Claim] = {
    name: Claim(id=name, question=question, **fields)
    for question, claims in tomllib.loads(Path(__file__).with_name("claims.toml").read_text("utf-8")).items()
    for name, fields in claims.items()
}


def judge_all(e: Evidence, *ablations: str) -> list[tuple[Claim, Verdict]]:
    """Claims with their verdicts, "not run" without runs; ablations: only claims that read one of these.

    Claims that only the profile's `whole` can judge are left to it.
    """
    return [(c, v) for c, v in _judged(e.own) if not ablations or set(ablations) & set(c.needs)]


@lru_cache(maxsize=4)  # each place of a page or notebook asks for a few of them
def _judged(e: Evidence) -> list[tuple[Claim, Verdict]]:
    p = e.study.profile
    claims = [c for c in CLAIMS.values() if not p.whole or set(c.needs) <= set(p.ablations)]
    verdicts = {c.id: c.judge(e) or Verdict("not run", how=why_not(c, e)) for c in claims}
    primary = []
    if has_family(e.study):
        primary = [i for i in FAMILY if i in verdicts and verdicts[i].p is not None]
        for i, p_value in zip(primary, holm([verdicts[i].p for i in primary], len(FAMILY)), strict=True):
            verdicts[i] = in_family(verdicts[i], p_value, p.seeds_of(CLAIMS[i].needs[-1]))
    for i in verdicts.keys() - set(primary):
        declared = min((p.seeds_of(name) for name in CLAIMS[i].needs if name != "lr"), default=SEEDS)
        verdicts[i] = _exploratory(verdicts[i], [verdicts[name] for name in primary], declared)
    return [(c, verdicts[c.id]) for c in claims]


def why_not(c: Claim, e: Evidence) -> str:
    """Why a claim has no verdict: one of `MADE`, or what it needs."""
    tables = [e.study.rows(name) for name in c.needs]
    if not all(tables):
        return NEVER
    if not all(records for rows in tables for records in rows.values()):
        return f"needs {', '.join(c.needs)}"
    judging = [e.comparable(name) for name in c.needs if not e.study.ablation(name).search]
    pairs = [{r.pair for records in rows.values() for r in records} for rows in judging]
    if pairs and not set.intersection(*pairs):
        return UNLIKE
    found = [r.metrics.AP50 for rows in tables for records in rows.values() for r in records]
    return NOTHING if 0 in found else NEVER


def has_family(study: Study) -> bool:
    """Whether the protocol's primary family is judged on a profile; elsewhere every claim is exploratory."""
    return "primary" in study.profile.ablations


def in_family(v: Verdict, p: float, wanted: int) -> Verdict:
    """A verdict of the primary family by its adjusted p value, with the interval of that level; none until it
    has the seeds that the protocol wants."""
    clear = "confirmed" if v.direction > 0 else "refuted"
    word = NOT_YET if v.seeds < wanted else clear if p < LEVEL else "undecided"
    changes: dict[str, Any] = {"word": word, "p": p, "primary": True, "wanted": wanted}
    if v.estimate:
        factor = p / v.p if v.p and p < 1 else len(FAMILY)
        changes["low"], changes["high"] = v.estimate.interval(1 - LEVEL / np.clip(factor, 1, len(FAMILY)))
    return replace(v, **changes)


def _exploratory(v: Verdict, primary: list[Verdict], declared: int) -> Verdict:
    """A verdict of any other claim, none until it has the seeds that the protocol wants and those that were
    declared for its rows: who looks in between often finds something. One that turns out to ask the same of
    the same runs as a primary one has that one's: a question has one answer."""
    for other in primary:
        if v.word in JUDGED and v.estimate and other.estimate and v.estimate.of == other.estimate.of:
            how = f"{other.how}; the runs of a primary claim, and its verdict"
            return replace(other, remark=v.remark, how=how)
    wanted = max(SEEDS, declared)
    return replace(v, word=NOT_YET, wanted=wanted) if v.word in JUDGED and v.seeds < wanted else v

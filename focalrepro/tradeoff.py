"""Accuracy against speed (Table 1e, Figure 2) in words: image size, depth, one stage or two; from the run records."""

import pandas as pd

from focalrepro.evidence import Evidence
from focalrepro.results import select, table
from focalrepro.study.paper import TABLES

NAME = "1e"


def reading(records: list[dict], profile: str) -> str:
    """What the rows of `1e` say beside the paper's; differences carry the interval of `Evidence.difference`."""
    frame = table(records, profile, NAME)
    judge = _Judge(records, profile)
    one_stage = frame[frame["detector"] == "retinanet"]
    lines = []
    for _, rows in one_stage.groupby("backbone", sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        lines.append(f"- **Larger images**: {judge.compare(last, first)}")
    backbones = list(one_stage["backbone"].unique())
    if len(backbones) > 1:
        for _, rows in one_stage.groupby("image_size", sort=False):
            shallow, deep = rows.iloc[0], rows.iloc[1]
            lines.append(f"- **A deeper backbone**: {judge.compare(deep, shallow)}")
    else:
        lines.append(f"- A deeper backbone: {backbones[0]} is the only one with weights at hand here.")
    lines.append(_paper())
    for two in frame[frame["detector"] == "faster_rcnn"].itertuples(index=False):
        same = (one_stage["backbone"] == two.backbone) & (one_stage["image_size"] == two.image_size)
        one = one_stage[same].iloc[0]
        lines.append(f"- **One stage instead of two**: {judge.compare(one, two)}")
    lines.append(_paper_two_stage())
    lines.append(_front(frame))
    return "\n".join(line for line in lines if line)


class _Judge:
    """Differences between two rows of the table, with their intervals, and ratios of their times."""

    def __init__(self, records: list[dict], profile: str) -> None:
        self.found, self.evidence = select(records, profile, NAME), Evidence(records, profile)

    def compare(self, a: pd.Series, b: pd.Series) -> str:
        """AP of row a less that of row b, and how many times as long its image takes."""
        if not (a.seeds and b.seeds):
            missing = " and ".join(row.row for row in (a, b) if not row.seeds)
            return f"not run: {missing}."
        estimate = self.evidence.difference(self.found[a.row], self.found[b.row])
        if estimate is None:
            return f"{a.row} and {b.row} share no seed."
        clear = "clear" if estimate.low > 0 or estimate.high < 0 else "not clear"
        text = f"{a.row} against {b.row}: {estimate}, {clear}"
        if pd.notna(a.inference_ms) and pd.notna(b.inference_ms):
            text += (
                f"; {a.inference_ms / b.inference_ms:.2f} × the time of an image "
                f"({a.inference_ms:.1f} and {b.inference_ms:.1f} ms)"
            )
        return text + "."


def _paper() -> str:
    rows = {(r.fields["depth"], r.fields["scale"]): r for r in TABLES[NAME]}
    scales = sorted({scale for _, scale in rows})
    low, high = rows[50, scales[0]], rows[50, scales[-1]]
    deeper = [rows[101, s].AP - rows[50, s].AP for s in scales]
    longer = [rows[101, s].ms / rows[50, s].ms for s in scales]
    return (
        f"- In the paper {high.label} against {low.label} is {high.AP - low.AP:+.1f} AP at {high.ms / low.ms:.2f} × "
        f"the time, and ResNet-101 against ResNet-50 {min(deeper):+.1f} to {max(deeper):+.1f} AP at "
        f"{min(longer):.2f} to {max(longer):.2f} × the time."
    )


def _paper_two_stage() -> str:
    """Table 2, in which only the detectors on the same backbone are of one kind."""
    rows = {(r.label, r.fields["backbone"]): r for r in TABLES["2"]}
    ours = rows["RetinaNet", "ResNet-101-FPN"]
    theirs = rows["Faster R-CNN w FPN", "ResNet-101-FPN"]
    return (
        f"- In the paper (Table 2, test-dev, both with ResNet-101-FPN) RetinaNet has {ours.AP:.1f} AP and Faster R-CNN "
        f"with FPN {theirs.AP:.1f}, {ours.AP - theirs.AP:+.1f}; RetinaNet was trained longer for that row, with "
        "images of several sizes, and its table gives no times."
    )


def _front(frame: pd.DataFrame) -> str:
    """The rows that no other row beats in both AP and time."""
    known = frame.dropna(subset=["AP", "inference_ms"])
    if len(known) < 2 or known["AP"].max() <= 0.05:
        return ""
    best = [
        row.row
        for row in known.itertuples()
        if not ((known["AP"] > row.AP) & (known["inference_ms"] < row.inference_ms)).any()
    ]
    return f"- On the frontier of speed and AP, where no other row is both faster and of higher AP: {'; '.join(best)}."

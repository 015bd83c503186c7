"""Accuracy against speed (Table 1e, Figure 2) in words, beside the paper's."""

import pandas as pd

from focalrepro.evidence.difference import Evidence
from focalrepro.evidence.tables import table
from focalrepro.show.sentences import estimate_text
from focalrepro.study.paper import TABLES


def tradeoff(e: Evidence) -> str:
    """What the rows of `1e` say beside the paper's; differences carry their 95 % interval."""
    frame = table(e, "1e")
    one_stage, lines = frame[frame["detector"] == "retinanet"], []
    for _, rows in one_stage.groupby("backbone", sort=False):
        lines.append(f"- **Larger images**: {_against(e, rows.iloc[-1], rows.iloc[0])}")
    backbones = list(one_stage["backbone"].unique())
    if len(backbones) > 1:
        for _, rows in one_stage.groupby("image_size", sort=False):
            lines.append(f"- **A deeper backbone**: {_against(e, rows.iloc[1], rows.iloc[0])}")
    else:
        lines.append(f"- A deeper backbone: {backbones[0]} is the only one with weights at hand here.")
    rows = {(r.fields["depth"], r.fields["scale"]): r for r in TABLES["1e"]}
    scales = sorted({scale for _, scale in rows})
    low, high = rows[50, scales[0]], rows[50, scales[-1]]
    deeper = [rows[101, s].AP - rows[50, s].AP for s in scales]
    longer = [rows[101, s].ms / rows[50, s].ms for s in scales]
    lines.append(
        f"- In the paper {high.label} against {low.label} is {high.AP - low.AP:+.1f} AP at "
        f"{high.ms / low.ms:.2f} × "
        f"the time, and ResNet-101 against ResNet-50 {min(deeper):+.1f} to {max(deeper):+.1f} AP at "
        f"{min(longer):.2f} to {max(longer):.2f} × the time."
    )
    for two in frame[frame["detector"] == "faster_rcnn"].itertuples(index=False):
        same = (one_stage["backbone"] == two.backbone) & (one_stage["image_size"] == two.image_size)
        lines.append(f"- **One stage instead of two**: {_against(e, one_stage[same].iloc[0], two)}")
    rows = {
        (r.label, r.fields["backbone"]): r.AP for r in TABLES["2"]
    }  # of one kind only on the same backbone
    ours, theirs = rows["RetinaNet", "ResNet-101-FPN"], rows["Faster R-CNN w FPN", "ResNet-101-FPN"]
    lines.append(
        f"- In the paper (Table 2, test-dev, both with ResNet-101-FPN) RetinaNet has {ours:.1f} AP and "
        f"Faster R-CNN "
        f"with FPN {theirs:.1f}, {ours - theirs:+.1f}; RetinaNet was trained longer for that row, with "
        f"images of "
        "several sizes, and its table gives no times."
    )
    known = frame.dropna(subset=["AP", "inference_ms"])
    if len(known) > 1 and known["AP"].max() > 0.05:
        front = [
            r.row
            for r in known.itertuples()
            if not ((known["AP"] > r.AP) & (known["inference_ms"] < r.inference_ms)).any()
        ]
        lines.append(
            f"- On the frontier of speed and AP, where no other row is both faster and of higher AP: "
            f"{'; '.join(front)}."
        )
    return "\n".join(lines)


def _against(e: Evidence, a: pd.Series, b: pd.Series) -> str:
    """AP of row a less that of row b, and how many times as long its image takes."""
    if not (a.seeds and b.seeds):
        return f"not run: {' and '.join(row.row for row in (a, b) if not row.seeds)}."
    found = e.difference(e.rows("1e")[a.row], e.rows("1e")[b.row])
    if found is None:
        return f"{a.row} and {b.row} share no seed."
    text = f"{a.row} against {b.row}: {estimate_text(found)}, {'clear' if found.clear else 'not clear'}"
    if pd.notna(a.inference_ms) and pd.notna(b.inference_ms):
        text += (
            f"; {a.inference_ms / b.inference_ms:.2f} × the time of an image "
            f"({a.inference_ms:.1f} and {b.inference_ms:.1f} ms)"
        )
    return text + "."

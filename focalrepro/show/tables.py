"""Tables for the eye; the one place where Markdown tables are written and texts are escaped for them."""

import html
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from focalrepro.config import RunConfig
from focalrepro.evidence import rates, tables
from focalrepro.evidence.claims import CLAIMS, FAMILY, SEEDS, has_family
from focalrepro.evidence.difference import Estimate, Evidence, Records
from focalrepro.evidence.statistics import FL, UNDIVIDED, background, calibration_after
from focalrepro.study.study import Study

NONE = "–"  # stands where there is nothing to show
FINE = 10  # AP below which it wants a second digit
OTHER_RARITIES = "1 in 100", "1 in 300", "1 in 3,000", "1 in 10,000"  # than the usual 1 in 1,000


class Md(str):
    """Text that is Markdown already and is not escaped again."""

    __slots__ = ()


def escape(value: object) -> Md:
    """A text as it is, within a Markdown table's cell: no emphasis, no HTML, no new cell, no new line."""
    if isinstance(value, Md):
        return value
    text = re.sub(r"\s*[\r\n]+\s*", " ", str(value)).replace("&", "&amp;").replace("<", "&lt;")
    return Md(re.sub(r"([\\|*_`\[\]])", r"\\\1", text))


def plain(value: object) -> str:
    """What `escape` and `bold` made Markdown of, as a reader sees it."""
    return html.unescape(re.sub(r"\\(.)", r"\1", str(value).replace("**", "")))


def bold(value: object) -> Md:
    return Md(f"**{escape(value)}**")


def markdown(rows: Iterable[Mapping[str, object]]) -> Md:
    """A Markdown table; the keys of the first row are its head. Texts are escaped, `Md` is taken as it is."""
    rows = list(rows)
    if not rows:
        return Md("")
    lines = [list(map(escape, rows[0])), ["---"] * len(rows[0])]
    lines += [[escape(row[key]) for key in rows[0]] for row in rows]
    return Md("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def precision(*values: float, digits: int = 1) -> int:
    """The digits that an effect and its interval share: more than asked for, four at the most, where one of
    them would round to 0, so that its sign means something, or two would look equal."""
    values = [v for v in dict.fromkeys(values) if not pd.isna(v)]
    while digits < 4 and (
        any(v and abs(v) < 0.5 * 10.0**-digits for v in values)
        or len({f"{v:.{digits}f}" for v in values}) < len(values)
    ):
        digits += 1
    return digits


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, the minus as long as the plus, digits as `precision` has them; "–" for NaN."""
    digits = precision(value, digits=digits)
    return NONE if pd.isna(value) else f"{value:+.{digits}f}".replace("-", "−")


def number(value: float, digits: int = 1) -> str:
    """A number with its digits; "–" for NaN."""
    return NONE if pd.isna(value) else f"{value:.{digits}f}".replace("-", "−")


def between(low: float, high: float, digits: int = 1, text: Callable[[float, int], str] = number) -> str:
    """An interval, which no line breaks, with digits as `precision` has them for its ends."""
    digits = precision(low, high, digits=digits)
    return f"{text(low, digits)}\u00a0…\u00a0{text(high, digits)}"


def ap_digits(*values: float) -> int:
    """The digits that AP and differences of it are told with: a second one where AP is small."""
    known = [abs(v) for v in values if not pd.isna(v)]
    return 2 if known and max(known) < FINE else 1


def comparison(frame: pd.DataFrame) -> pd.DataFrame:
    """`tables.table` for the eye: ours with its interval, the paper's numbers beside it.

    AP at .05 is shown where it is another number than AP, the learning rate where rows differ in it.
    """
    of_ap = partial(number, digits=(digits := ap_digits(*frame["AP"])))
    intervals = [between(r.low, r.high, digits) if r.seeds else NONE for r in frame.itertuples()]
    columns = {"AP": frame["AP"].map(of_ap), "95 % interval": intervals}
    names = {"AP at .05": "AP_at_05"} if ((frame["AP_at_05"] - frame["AP"]).abs() > 0.01).any() else {}
    names |= {"AP, classes merged": "agnostic_AP"} if frame["agnostic_AP"].notna().any() else {}
    columns |= {name: frame[of].map(of_ap) for name, of in names.items()}
    columns |= {name: frame[name].map(number) for name in ("AP50", "AP75")} | {"seeds": frame["seeds"]}
    if frame["rate"].nunique() > 1:  # then it is not the loss alone that differs
        columns["rate"] = [NONE if np.isnan(rate) else f"{rate:g}" for rate in frame["rate"]]
    notes = [
        f"{r.diverged} of {r.seeds} diverged" if r.diverged else "" if r.seeds else "not run"
        for r in frame.itertuples()
    ]
    columns |= {"note": notes} if any(notes) else {}
    if frame["paper_AP"].notna().any():
        columns |= {f"paper {m}": frame[f"paper_{m}"].map(number) for m in ("AP", "AP50", "AP75")}
    return pd.DataFrame(columns).set_axis(list(frame["row"]), axis=0)


def of_page(frame: pd.DataFrame) -> Md:
    """`tables.table` of a results page: as `comparison`, with ranks, and each row leads to its records."""
    best, theirs, ranked = frame["AP"].max(), frame["paper_AP"].max(), frame["paper_AP"].notna().any()
    rows = []
    for cells, row in zip(comparison(frame).to_dict("records"), frame.itertuples(), strict=True):
        ap = bold(cells["AP"]) if best == row.AP else cells["AP"]
        ap = Md(f"{ap} ({cells['95 % interval']})") if row.seeds else cells["note"]
        entry = {"row": row.row} | ({"rate": cells["rate"]} if "rate" in cells else {})
        entry["AP (95 %)"] = Md(f"{ap} diverged") if row.diverged else ap
        for name in ("AP at .05", "AP, classes merged", "AP50", "AP75"):
            if f"paper {name}" in cells:
                entry[f"{name} (paper)"] = f"{cells[name]} ({cells[f'paper {name}']})"
            elif name in cells:
                entry[name] = cells[name]
        if ranked:
            entry["paper AP"] = bold(cells["paper AP"]) if row.paper_AP == theirs else cells["paper AP"]
            ranks = NONE if np.isnan(row.rank) else f"{row.rank:g} ({row.paper_rank:g})"
            entry["rank at .05 (paper)"] = ranks
        rows.append(entry | {"records by seed": _links(row.seed_list, row.files)})
    return markdown(rows)


def _links(seeds: Iterable[int], files: Iterable[str]) -> Md:
    return Md(" ".join(f"[{seed}]({file})" for seed, file in zip(seeds, files, strict=True)))


def search(e: Evidence, name: str, links: bool = True) -> Md:
    """Mean tune AP of each searched loss at each rate; links: to its records, which lie beside a page.

    The best is in bold once every rate of the loss has all its seeds: half a search has chosen nothing.
    """
    chosen, rows = rates.best(e, name), []
    for loss, found in rates.trials(e, name).items():
        row: dict[str, object] = {"loss": loss}
        for rate, records in found.items():
            text = number(tables.mean(r.tune_AP for r in records), 2)
            text = bold(text) if chosen.get(loss, (None,))[0] == rate else text
            to = _links([r.seed for r in records], map(e.study.file, records)) if links else ""
            row[f"rate {rate:g}"] = Md(f"{text} {to}".rstrip())
        rows.append(row)
    return markdown(rows)


def gains(e: Evidence, name: str, reference: str) -> pd.DataFrame:
    """Each row's AP less the reference row's, paired by image, beside the paper's difference.

    "clear" says whether the 95 % interval leaves out 0, from the seeds on that a claim is judged by; of the
    runs of a primary claim only that says it. Rows without shared seeds are left out. Errors: ValueError for
    a reference that is no row.
    """
    rows, paper = e.rows(name), tables.table(e, name).set_index("row")["paper_AP"]
    if reference not in rows:
        raise ValueError(f"{name} has no row {reference!r}; it has {', '.join(rows)}")
    digits = ap_digits(*(tables.mean(r.AP for r in records) for records in rows.values()))
    family = [CLAIMS[name].difference(e) for name in FAMILY if CLAIMS[name].a and has_family(e.study)]
    asked, found = [_pairs(gap) for gap in family if gap], {}
    for label in [label for label in rows if label != reference]:
        if gap := e.difference(rows[label], rows[reference]):
            clear = ("yes" if gap.clear else "no") if gap.seeds >= SEEDS else NONE
            found[label] = {
                f"AP less that of {reference}": signed(gap.effect, digits),
                "95 % interval": between(gap.low, gap.high, digits, signed),
                "clear": "see the primary claim" if _pairs(gap) in asked else clear,
            }
            if paper.notna().any():
                found[label]["in the paper"] = signed(paper[label] - paper[reference])
    return pd.DataFrame.from_dict(found, orient="index")


def _pairs(gap: Estimate) -> set[frozenset[str]]:
    """The runs that a difference compares, whichever is less the other."""
    _measure, _a, _b, *pairs = gap.of
    return set(map(frozenset, pairs))


def recipe_changes(study: Study) -> pd.DataFrame:
    """Where the baseline leaves the paper's recipe, by field: its meaning, its value here and there."""
    about = tomllib.loads(Path(__file__).with_name("fields.toml").read_text("utf-8"))
    default, rows = RunConfig().as_dict(), []
    for field, value in study.base.as_dict().items():
        theirs = about["paper"].get(field, default[field])
        if field in ("train_images", "val_images") and value == 0:
            value = "all of the dataset's"
        if field == "flip" and study.base.views > 1:
            value = "every second view is"
        if field == "classes" and study.base.dataset.startswith("synthetic") and value == "supercategories":
            value = "digit"
        if field == "lr" and (each := study.profile.rates.values()):
            value = f"{min(each):g} … {max(each):g}, by the loss"
        if str(value) not in (str(theirs), about["silent"].get(field)):
            row = {"field": field, "what it is": about["meaning"].get(field, "")}
            here, paper = (about["says"].get(str(v), str(v)) for v in (value, theirs))
            rows.append(row | {"here": here, "paper": paper})
    return pd.DataFrame(rows).set_index("field")


def provenance(records: Records) -> pd.DataFrame:
    """Runs by machine and version: how many, and the time that they took; empty without records."""
    keys = ["hardware", "threads", "torch", "commit"]
    rows = [(h.name, h.threads, h.torch, h.commit, r.seconds.total) for r in records for h in [r.hardware]]
    grouped = pd.DataFrame(rows, columns=[*keys, "seconds"]).groupby(keys, dropna=False)["seconds"]
    found = grouped.agg(["size", "sum", "median"]).reset_index()
    found["sum"] /= 3600
    names = {"size": "runs", "sum": "hours, added up", "median": "median, s"}
    return found.round(1).rename(columns=names)


def _is_bent(config: RunConfig) -> bool:
    """Whether the least loss is at other scores than the true probabilities, by a known formula."""
    return config.loss == "focal" and (config.gamma > 0 or config.alpha != 0.5)


def background_shares(e: Evidence) -> pd.DataFrame | None:
    """What share of the loss, and of its gradient by the logits, the background has in whole runs: percent,
    a row for each loss, a column for each step, the mean over its seeds; None without such records."""
    shares: dict[str, dict[tuple[str, str], float]] = {}
    rarities = e.rows("imbalance")
    usual = {"CE": ("CE, α = .5", e.row("1a", alpha=0.5)), "FL": ("FL, γ = 2", e.row("1b", **FL))}
    for loss, (whole, mine) in usual.items():
        rows = {loss: mine, f"{loss}, π = .5": e.row("prior", gamma=2.0 * (loss == "FL"), prior=0.5)}
        rows |= {f"{loss}, {rarity}": rarities.get(f"{whole}, {rarity}", []) for rarity in OTHER_RARITIES}
        for label, of in rows.items():
            for by in ("loss", "gradient"):
                if found := background(e, of, by):
                    name = label if found.divided else f"{label} ({UNDIVIDED})"
                    columns = [(by, f"step {at:,}") for at in found.steps]
                    shares.setdefault(name, {}).update(zip(columns, found.shares.mean(0), strict=True))
    return pd.DataFrame.from_dict(shares, orient="index").round(0).astype("Int64") if shares else None


def calibration(rows: Mapping[str, Records]) -> pd.DataFrame:
    """Expected calibration error of each row, mean over its seeds, with AP beside it: raw, and after what
    maps scores; then the negative log likelihood and the Brier score of a detection.

    A temperature and isotonic regression are fitted on tune images; the closed form needs no data, and is for
    focal loss and for cross entropy with an α other than .5. "best" is the error of the best-scored
    detections alone, as many as are right: the others are nearly all near a score of 0. Compare rows of
    nearly the same AP only. Rows and ways without records are left out.
    """
    shown = {}
    for label, records in rows.items():
        if records:
            shown[label] = {"AP": number(tables.mean(r.AP for r in records))}
            for way in ("raw", "temperature", "isotonic", "closed form"):
                of = [r for r in records if way != "closed form" or _is_bent(r.config)]
                for name, best in ((f"error, {way}", False), (f"{way}, best", True)):
                    error = tables.mean(calibration_after(r, way, best).error for r in of)
                    shown[label][name] = number(error, 3 if best else 4)
            for way in ("raw", "temperature"):
                found = [calibration_after(r, way) for r in records]
                shown[label][f"NLL, {way}"] = number(tables.mean(c.nll for c in found), 4)
                shown[label][f"Brier, {way}"] = number(tables.mean(c.brier for c in found), 4)
    frame = pd.DataFrame.from_dict(shown, orient="index")
    return frame.loc[:, (frame != NONE).any()]

"""`results/<profile>/`: README.md with tables and figures, results.csv, figures/, all from the run records."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from focalrepro.claims import ledger
from focalrepro.evidence import Evidence
from focalrepro.figure_of import PLANES, figure_of
from focalrepro.files import results_root, write_atomic
from focalrepro.narrate_tables import recipe_changes
from focalrepro.results import (
    load_records,
    rank_correlation,
    runs_frame,
    select,
    shown,
    table,
    typical,
)
from focalrepro.seed_spread import pooled_sd
from focalrepro.study.ablations import Ablation, get_ablation
from focalrepro.study.profiles import PROFILES, Profile, get_profile
from focalrepro.study.records import Store
from focalrepro.verdicts import MARGIN, SHARE

CAREFUL = {
    "synthetic": "The embedded dataset is drawn, not photographed: ten digits on cluttered ground. It has the "
    "imbalance of detection, not its variety. The training is short, so a row that fails here may only be late: the "
    "ablation `budget` of profile `full-quick` trains cross entropy and focal loss for an eighth of the steps up to "
    "twice as many. The pretrained backbone already tells digits apart, which the heads have to find out.",
    "coco256": "A subset of COCO: the 5,705 training images of lowest id, squashed to 256 × 256. Of the validation "
    "images 92 % hold a person, against 55 % in COCO; crowd boxes are absent; area is width × height. AP here is "
    "not comparable with AP on all of val2017; differences between rows are what to read. How far a subset ranks "
    "models as full COCO does was measured for a random subset of 25,000 training images (coco-minitrain): a "
    "correlation of .74 for AP and .92 for AP50. This one is a quarter of that.",
}

NOTES = {
    "1d": "The paper's rows are of ResNet-101 at 600 px, which is why its focal loss stands at 36.0 here and at 34.0 "
    "in Table 1b. The SSD-style row is not the paper's.",
    "budget": "Each row is a training of its own, whose rate falls to its own end: not one training looked at early.",
}
PLANE_READING = (
    "In a cell: AP and, below it, in how many resamples of the validation images it is the best of its column. Dots "
    "on a line: the best of each column. Rings: the paper's choice, where it has one. Outlined: the best of all."
)


def export(profile: str, dataset: str = "") -> Path:
    """Copies the local store's records to results/<profile>/runs; nothing there is deleted."""
    target = Store(folder_of(profile, dataset) / "runs")
    for record in load_records(profile, dataset):
        target.put({k: v for k, v in record.items() if k != "reused"})
    return target.folder


def folder_of(profile: str, dataset: str = "") -> Path:
    return results_root(f"{profile}@{dataset}" if dataset else profile)


def write_report(profile_name: str, dataset: str = "") -> Path:
    """Writes tables, figures and results.csv; returns the README's path. ValueError where there are no runs.

    The local store's runs are taken; where it has none, those in results/<profile>/runs.
    """
    records = load_records(profile_name, dataset)
    if records:
        export(profile_name, dataset)
    else:
        records = Store(folder_of(profile_name, dataset) / "runs").records()
    if not records:
        flag = f" --dataset {dataset}" if dataset else ""
        raise ValueError(
            f"profile {profile_name} has no runs{f' on {dataset}' if dataset else ''} yet; make them: "
            f"focalrepro run --profile {profile_name}{flag}"
        )
    folder, profile = folder_of(profile_name, dataset), get_profile(profile_name)
    frame = runs_frame(records, profile_name, dataset)
    write_atomic(folder / "results.csv", frame.to_csv(index=False))
    sections = []
    for recipe in ("fast", *profile.recipes):
        for name in shown(records, profile_name, recipe, dataset):
            rows = table(records, profile_name, name, recipe, dataset)
            found = select(records, profile_name, name, recipe, dataset)
            sections.append(_section(folder, profile, get_ablation(name), rows, found, recipe, dataset))
    sections += [
        section
        for recipe in profile.recipes
        if (section := _recipes(folder, profile, records, recipe, dataset))
    ]
    text = (
        "\n\n".join(
            [
                _head(profile, records, dataset),
                _ledger(profile, records, dataset),
                *sections,
                _differences(profile, records, dataset),
                _made(profile, records, dataset),
            ]
        )
        + "\n"
    )
    write_atomic(folder / "README.md", text)
    write_index()
    return folder / "README.md"


def _head(profile: Profile, records: list[dict[str, Any]], dataset: str) -> str:
    base = profile.base
    anchors = typical(records, profile.name)["anchors"]
    ratio = anchors["per_image"] / max(anchors["positive_per_image"], 1e-9)
    return (
        f"# Results of profile `{profile.name}`\n\n"
        f"{sentence_case(profile.what)}. {anchors['per_image']:,} anchors an image, of which "
        f"{anchors['positive_per_image']:.0f} are assigned to an object: 1 in {ratio:.0f}. "
        f"{base.steps:,} steps of {base.batch_size} images.\n\n"
        'AP is COCO\'s, in percent, on the validation split. A figure in brackets is the 95 % interval; "rank" '
        "is the row's place among the rows of its table, here and in the paper. Each row leads to the records of "
        "its seeds, which have the config, all metrics, the training's curves and the bootstrap replicates. "
        "Every run is in [results.csv](results.csv); the executed notebooks are in [notebooks/](notebooks/)."
    )


def _ledger(profile: Profile, records: list[dict[str, Any]], dataset: str) -> str:
    return (
        "## The claims\n\n"
        + ledger(records, profile.name, dataset)
        + "\n\nDifferences are of AP, paired by image and seed. A "
        "difference is called clear where its p value, corrected by Holm over the differences of this table, is "
        f"below .05; a tie where the interval lies within ±{MARGIN:g} AP, "
        f"or within ±{SHARE:.0%} of the higher AP where that is less. A refuted claim holds for this profile: its "
        "data, resolution and schedule are not the paper's."
    )


def _section(
    folder: Path,
    profile: Profile,
    ablation: Ablation,
    frame: pd.DataFrame,
    found: dict[str, list[dict[str, Any]]],
    recipe: str,
    dataset: str,
) -> str:
    stem = ablation.name if recipe == "fast" else f"{ablation.name}-{recipe}"
    title = sentence_case(ablation.title)
    heading = f"## {ablation.source.split(',')[0] if ablation.source.startswith('Table') else title}"
    flag = "" if recipe == "fast" else f" --recipe {recipe}"
    flag += f" --dataset {dataset}" if dataset else ""
    lines = [heading, "", f"{title} ({ablation.source}){'' if recipe == 'fast' else f', recipe `{recipe}`'}."]
    lines += ["", pipe_table(frame, timed=ablation.name == "1e"), ""]
    for same in _equal_rows(frame):
        lines += [
            f"Equal to the last digit: {', '.join(same)}. What they change did not reach the training.",
            "",
        ]
    if ablation.name in NOTES:
        lines += [NOTES[ablation.name], ""]
    correlation, count = rank_correlation(frame)
    if not np.isnan(correlation):
        lines += [
            f"Rank correlation with the paper's column: {correlation:.2f} (Spearman, {count} rows).",
            "",
        ]
    sd, freedom = pooled_sd([frame])
    if freedom:
        lines += [
            f"Standard deviation over seeds, pooled over the rows: {sd:.2f} AP ({freedom} degrees of freedom).",
            "",
        ]
    lines += [f"![{title}]({_figure(folder, stem, figure_of(ablation.name, frame, title, found))})", ""]
    if ablation.name in PLANES:
        lines += [PLANE_READING, ""]
    seeds = int(frame["seeds"].max())
    lines.append(f"Again: `focalrepro run {ablation.name} --profile {profile.name} --seeds {seeds}{flag}`")
    return "\n".join(lines)


def _equal_rows(frame: pd.DataFrame) -> list[list[str]]:
    """Labels of rows with the same AP, AP50 and AP75 to the last digit, unless they find next to nothing."""
    run = frame[frame["AP"] > 1]
    groups = run.groupby(["AP", "AP50", "AP75"])["row"].agg(list)
    return [labels for labels in groups if len(labels) > 1]


def _recipes(folder: Path, profile: Profile, records: list[dict[str, Any]], recipe: str, dataset: str) -> str:
    """How a second recipe agrees with `fast`, and what both cost; "" where too few runs are there to say."""
    from focalrepro.recipes import agreement, time_to_ap, time_to_ap_figure

    found, frame = (
        agreement(records, profile.name, recipe, dataset),
        time_to_ap(records, profile.name, dataset),
    )
    if found is None and not len(frame):
        return ""
    lines = [f"## Recipes `fast` and `{recipe}`", ""]
    if found:
        lines += [str(found), ""]
    if len(frame):
        path = folder / "figures" / f"time-to-ap-{recipe}.png"
        _save(time_to_ap_figure(frame), path)
        lines.append(f"![AP against seconds of training](figures/{path.name})")
    return "\n".join(lines)


def sentence_case(text: str) -> str:
    """With a capital first letter, unless it is a Greek one that would turn into a Latin look-alike."""
    return text[0].upper() + text[1:] if text[0].isascii() else text


def pipe_table(frame: pd.DataFrame, timed: bool = False) -> str:
    """A Markdown table of one ablation: ours, then the paper's. timed: with the milliseconds an image takes."""
    ours_only = frame["paper_AP"].isna().all()
    head = ["row", "AP (95 %)", "AP50", "AP75", "seeds", *(["ms/image"] if timed else [])]
    head += [] if ours_only else ["paper AP", "paper AP50", "paper AP75", "rank", "paper's rank"]
    lines = ["| " + " | ".join([*head, "records by seed"]) + " |", "|" + "---|" * (len(head) + 1)]
    best, paper_best = frame["AP"].max(), frame["paper_AP"].max()
    for row in frame.itertuples():
        if row.seeds == 0:
            cells = [row.row, "missing", "", "", "0"]
        else:
            ap = f"{row.AP:.1f}"
            ap = f"**{ap}**" if best == row.AP else ap
            ap += f" ({row.low:.1f} … {row.high:.1f})" + (" diverged" if row.diverged else "")
            cells = [row.row, ap, f"{row.AP50:.1f}", f"{row.AP75:.1f}", str(row.seeds)]
        if timed:
            cells.append("" if np.isnan(row.inference_ms) else f"{row.inference_ms:.1f}")
        if not ours_only:
            paper_ap = _or_dash(row.paper_AP, ".1f")
            cells += [f"**{paper_ap}**" if row.paper_AP == paper_best else paper_ap]
            cells += [_or_dash(row.paper_AP50, ".1f"), _or_dash(row.paper_AP75, ".1f")]
            cells += [_or_dash(row.rank, "g"), _or_dash(row.paper_rank, "g")]
        run = " ".join(f"[{seed}](runs/{i}.json)" for seed, i in zip(row.seed_list, row.run_ids, strict=True))
        lines.append("| " + " | ".join([*cells, run]) + " |")
    kinds = sorted(set(frame["interval_of"]) - {""})
    return "\n".join(lines) + f"\n\nInterval: {'; '.join(kinds)}." if kinds else "\n".join(lines)


def _or_dash(value: float, form: str) -> str:
    return "–" if np.isnan(value) else format(value, form)


def _figure(folder: Path, stem: str, figure: Figure) -> str:
    """Saves it; its path from the page."""
    path = folder / "figures" / f"{stem}.png"
    _save(figure, path)
    return f"figures/{path.name}"


def _save(figure: Figure, path: Path) -> None:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def _differences(profile: Profile, records: list[dict[str, Any]], dataset: str) -> str:
    changes = recipe_changes(profile.name, dataset=dataset)
    lines = [
        "## What differs from the paper",
        "",
        "| field | what it is | here | paper |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{field}` | {r.meaning} | {r.here} | {r.paper} |" for field, r in changes.iterrows()]
    seeds = Evidence(records, profile.name, dataset).seeds
    sd = np.sqrt(seeds.variance)
    luck = (
        f"at a typical standard deviation of {sd:.2g} AP over seeds, two equal rows of one seed each differ by up to "
        f"{1.96 * 2**0.5 * sd:.2g} AP in 95 of 100 cases."
        if seeds.freedom
        else "how much it does cannot be told from one seed."
    )
    lines += [
        *("", "## What to be careful about", "", CAREFUL.get(dataset or profile.base.dataset, ""), ""),
        "The intervals over images say how the AP would move with other validation images, not with another "
        f"seed; {luck} All rows are trained with a recipe that was chosen on the row γ = 2, α = .25; the paper's own "
        "recipe, or a learning rate tuned for each loss, may rank them otherwise.",
    ]
    return "\n".join(lines)


def _made(profile: Profile, records: list[dict[str, Any]], dataset: str) -> str:
    seconds = sum(r["seconds"]["total"] for r in records)
    hardware = pd.DataFrame([r["hardware"] for r in records])
    machine = hardware["gpu"] if "gpu" in hardware else hardware["cpu"]
    seeds = sorted({r["config"]["seed"] for r in records})
    facts = {
        "runs": len(records),
        "seeds": ", ".join(map(str, seeds)),
        "hardware": "; ".join(sorted(set(machine.dropna()))),
        "cores": "; ".join(sorted(set(hardware["cores"].astype(str)))),
        "training and evaluation, all runs": f"{seconds / 60:.1f} min of one worker's time",
        "median per run": f"{np.median([r['seconds']['total'] for r in records]):.1f} s, "
        f"{np.median([r['images_per_second'] for r in records]):.0f} images/s in training",
        "torch": "; ".join(sorted(set(hardware["torch"]))),
        "torchvision": "; ".join(sorted(set(hardware["torchvision"]))),
        "commit": "; ".join(sorted(set(hardware["commit"]) - {""})),
        "finished": max(r["finished"] for r in records),
    }
    lines = ["## How it was made", "", "| | |", "|---|---|"]
    lines += [f"| {k} | {v} |" for k, v in facts.items()]
    command = f"make reproduce PROFILE={profile.name} SEEDS={len(seeds)}"
    if dataset:
        command = f"focalrepro run --profile {profile.name} --dataset {dataset} --seeds {len(seeds)}"
    again = f"`{command}` makes all of this again"
    fewer = [c for c in Counter(_config_but_seed(r) for r in records).values() if c < len(seeds)]
    more = f", and more seeds of the {len(fewer)} rows that have fewer here" if fewer else ""
    return "\n".join([*lines, "", f"{again}{more}."])


def _config_but_seed(record: dict[str, Any]) -> tuple:
    return tuple(sorted((k, str(v)) for k, v in record["config"].items() if k != "seed"))


def write_index() -> Path:
    """results/README.md: a line per profile that has results."""
    root = results_root("x").parent
    lines = ["# Results", "", "| profile | what | runs |", "|---|---|---|"]
    for profile in PROFILES.values():
        if (root / profile.name / "README.md").exists() and profile.name != "smoke":
            count = len(list((root / profile.name / "runs").glob("*.json")))
            lines.append(
                f"| [{profile.name}]({profile.name}/README.md) | {profile.what}; {profile.hardware} | {count} |"
            )
    if (root / "bench" / "README.md").exists():
        lines += ["", "How fast it is, against torchvision and pycocotools: [bench](bench/README.md)."]
    lines += [
        "",
        "A folder holds `README.md` (tables, figures), `results.csv` (a row per run), `runs/` (the records that "
        "everything else is made from), `figures/`, `notebooks/` (executed) and `expected.json` (the ranges that "
        "`focalrepro verify` checks).",
        "",
        "Columns of `results.csv`: `ablation` and `row` as in the tables; `gamma`, `alpha`, `loss`, `seed`; `AP` … "
        "`APl` in percent (empty: no object of that size); `status` done or diverged; `run_id`, the name of the "
        "record; `seconds` in all and `images_per_second` in training; `device`; `AP_low` and `AP_high`, the 95 % "
        "bootstrap interval over images; `recipe`, `steps`, `batch_size`, `hardware`, `commit`; `inference_ms`, the "
        "median time of one image alone, from its pixels to its detections.",
    ]
    path = root / "README.md"
    write_atomic(path, "\n".join(lines) + "\n")
    return path

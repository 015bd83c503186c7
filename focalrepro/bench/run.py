"""The whole bench: what applies to this machine, a line for each row, a JSON, and `results/bench/README.md`:
every machine's record as a table, with its cost curves.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from focalrepro import hardware
from focalrepro.bench import training
from focalrepro.bench.campaigns import bench_ray
from focalrepro.bench.evaluation import bench_evaluation, bench_selection, evaluation_curves
from focalrepro.bench.measure import Finding, Limits, Sizes, Spread, measure_limits
from focalrepro.config import RunConfig, did_you_mean
from focalrepro.data.prepare import EMBEDDED, ensure
from focalrepro.data.registry import prepared
from focalrepro.files import data_root, results_root, write_atomic, write_json
from focalrepro.show.style import COLOURS, GREY, LINES, panels, save_png, styled
from focalrepro.study.profiles import get_profile

POINTS = (1, 2, 3), (96, 128, 160), (10, 20, 30)
TRIAL = Sizes(0.01, 2, 64, (2, 500, 8), 1, 20, 10, *POINTS, ("smoke",), (2,), (2, 2))
ON_GPU = Sizes(0.5, matrix=8_192, batches=(32, 64, 128), sides=(128, 256, 512))
# Weights change no speed; some of the images are enough, since each is as fast as another.
GPU_CHANGES = {"weights": "none", "train_images": 1_024, "steps": 500, "warmup": 1}
EMBEDDED_ON_GPU = RunConfig(dataset=EMBEDDED, backbone="resnet50", weights="none", anchor_size=2.0)
PAGE = Path(__file__).with_name("page.md.j2")
Part = Callable[[], Iterator[Finding]]


def gpu_config() -> RunConfig:
    """What is trained on a GPU: the coco256 profile where its data is prepared, else the embedded data."""
    coco = get_profile("coco256").base
    return (coco if coco.dataset in prepared() else EMBEDDED_ON_GPU).replace(**GPU_CHANGES)


def parts_of(device: torch.device, limits: Limits, sizes: Sizes) -> list[Part]:
    """On a GPU a step by its batch; on a CPU the profiles whose dataset is prepared, and what AP costs, which
    is a CPU's work in any case."""
    loss = partial(training.bench_loss, device, limits, sizes)
    if device.type == "cuda":
        config = gpu_config()
        by_batch = [config.replace(batch_size=n) for n in sizes.steps]
        steps = [partial(training.bench_step, c, device, limits, sizes) for c in by_batch]
        # The second is small kernels, which leave most of a GPU idle, from several processes in turn.
        small = get_profile("coco-cpu").base.replace(train_images=GPU_CHANGES["train_images"])
        at_once = [by_batch[0], small] if small.dataset in prepared() else by_batch[:1]
        two = [partial(training.bench_two, each, device, sizes) for each in at_once]
        curves = partial(training.training_curves, config, device, sizes)
        kernels = partial(training.bench_kernels, by_batch, device)
        return [*steps, loss, *two, curves, partial(bench_selection, device, sizes), kernels]
    bases = [(name, get_profile(name).base) for name in sizes.profiles]
    trained = [(name, base) for name, base in bases if base.dataset in prepared()]
    runs = [partial(training.bench_cpu_runs, *each, sizes) for each in trained]
    runs += [partial(bench_ray, *each, sizes) for each in trained[:1]]
    whole = bases[0][1].replace(weights="none", frozen="nothing", views=1, kept_channels=1.0)
    curves = partial(training.training_curves, whole, device, sizes)
    return [loss, partial(bench_evaluation, device, sizes), *runs, partial(evaluation_curves, sizes), curves]


def run_bench(device_name: str = "auto", trial: bool = False, only: str = "") -> int:
    """Measures, says and keeps each finding as soon as it is there, writes the page; the arguments are those
    of `focalrepro bench`. Returns 1 where a part was left out, with its error: too large for the device,
    say."""
    device = hardware.use_device(device_name)
    sizes = TRIAL if trial else ON_GPU if device.type == "cuda" else Sizes()
    info = hardware.describe(str(device))
    first = [] if device.type == "cuda" else [get_profile(sizes.profiles[0]).base.dataset]
    for dataset in {EMBEDDED, *first} - set(prepared()):
        ensure(dataset)
    limits: Limits = {}
    parts = _chosen(parts_of(device, limits, sizes), only)
    machine = info.get("gpu", f"{info['cpu']} {info['cores']} cores")
    kind = f"{machine} {info.get('precision', '')} {only}".lower()  # of one name, CPUs with bf16 and without
    folder = data_root() / "bench-trial" if trial else results_root("bench")
    path = folder / f"{re.sub('[^a-z0-9]+', '-', kind).strip('-')}.json"
    draft = path.with_suffix(".unfinished")  # so that half a run takes no whole one's place
    limits |= measure_limits(device, sizes)
    fast = f"{limits['teraflops']:.2f} TFLOP/s in {info.get('precision', 'bf16')}"
    print(f"limits of {machine}: {fast}, copies at {limits['gigabytes']:.0f} GB/s")
    lists: dict[str, list] = {"rows": [], "kernels": [], "curves": []}
    left_out = 0
    for part in parts:
        try:
            for kind, found in part():
                lists[kind].append(found)
                finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                write_json(draft, {"finished": finished, "hardware": info, "limits": limits} | lists)
                print(line(found) if kind == "rows" else f"{kind} of {found['what']}", flush=True)
        except Exception as error:  # one part's trouble costs no other its minutes
            left_out = 1
            print(f"left out: {part.func.__name__}: {type(error).__name__}: {error}", flush=True)
    if not any(lists.values()):
        print("nothing was measured")
        return 1
    if left_out and path.exists():
        print(f"kept in {draft}, beside an earlier run's {path}, which has all parts")
        return left_out
    draft.replace(path)
    if lists["curves"]:
        save_png(cost_curves(lists["curves"], machine), path.with_suffix(".png"))
    print(f"kept in {path}; read {write_page(folder)}")
    return left_out


def _chosen(parts: list[Part], only: str) -> list[Part]:
    names = [part.func.__name__.removeprefix("bench_") for part in parts]
    if only and only not in names:
        raise ValueError(f"--only is {only!r}; there are {', '.join(names)}{did_you_mean(only, names)}")
    return [part for part, name in zip(parts, names, strict=True) if only in ("", name)]


def line(row: dict[str, Any]) -> str:
    """A row for a reader: both sides with their spread, the ratio, the share of the limit."""
    share = "" if row["share"] is None else f", {row['share']:.0%} of the {row['limit']}"
    theirs = f"{row['against']} {shown(row['theirs'], row['unit'])}"
    return f"{row['what']}: {shown(row['ours'], row['unit'])}{share}; {theirs}; ratio {row['ratio']:.1f}"


def number(value: float) -> str:
    """Three digits, thousands by commas."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def shown(s: Spread, unit: str) -> str:
    """A median with its least and greatest."""
    interval = f"{number(s['low'])}\u00a0…\u00a0{number(s['high'])}"  # which no line breaks
    return f"{number(s['median'])} {unit} ({interval if s['low'] < s['high'] else 'once'})"


def ratio(row: dict[str, Any]) -> str:
    """The ratio in bold; one that is extrapolated from a single measurement has two digits at most."""
    if row["extrapolated"]:
        return f"**about {float(format(row['ratio'], '.2g')):,.0f}** (extrapolated from one)"
    return f"**{row['ratio']:.1f}**"


def write_page(folder: Path) -> Path:
    """Writes the page from all records in a folder; returns its path."""
    records = {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    jinja = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    jinja.filters |= {"number": number, "spread": shown, "ratio": ratio}
    page, template = folder / "README.md", jinja.from_string(PAGE.read_text(encoding="utf-8"))
    write_atomic(page, template.render(records=records).strip() + "\n")
    return page


@styled
def cost_curves(curves: list[dict[str, Any]], machine: str) -> Figure:
    """Seconds against the work, a panel for each kind of work; a dotted line grows in proportion to it."""
    labels = list(dict.fromkeys(c["x_label"] for c in curves))
    settings = ({"xlabel": label, "ylabel": "seconds"} for label in labels)
    figure, row = panels(*settings, size=(3.1 * len(labels), 3.2))
    for axes, label in zip(row, labels, strict=True):
        mine = [c for c in curves if c["x_label"] == label]
        for curve, colour, line in zip(mine, cycle(COLOURS), cycle(LINES), strict=False):
            x, y = curve["x"], [s["median"] for s in curve["y"]]
            error = [[abs(s["median"] - s[end]) for s in curve["y"]] for end in ("low", "high")]
            style = {"color": colour, "linestyle": line, "marker": "o", "markersize": 4, "capsize": 3}
            axes.errorbar(x, y, yerr=error, label=f"{curve['what']}: slope {curve['exponent']:.2f}", **style)
            axes.plot(x, [y[-1] * at / x[-1] for at in x], ":", color=GREY, linewidth=1)
        axes.set(xscale="log", yscale="log")
        axes.minorticks_off()
        axes.set_xticks(x, [f"{at / 1000:.3g}k" if at >= 1000 else f"{at:g}" for at in x])
        axes.set_ylim(top=axes.get_ylim()[1] * 4)  # room for the legend
        axes.legend(loc="upper left", fontsize=8)
    figure.suptitle(f"{machine}; dotted: in proportion to the work", fontsize=11)
    return figure

"""The whole bench: what applies to this machine, a line for each row, a JSON, and `results/bench/README.md`:
every machine's record as a table.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path

import torch
from jinja2 import Environment, StrictUndefined

from focalrepro import hardware
from focalrepro.bench.evaluation import bench_evaluation
from focalrepro.bench.measure import Limits, Row, Sizes, Spread, measure_limits
from focalrepro.bench.training import bench_cpu_runs, bench_loss, bench_step, bench_two
from focalrepro.config import RunConfig
from focalrepro.data.prepare import EMBEDDED, ensure
from focalrepro.data.registry import prepared
from focalrepro.files import data_root, results_root, write_atomic, write_json
from focalrepro.study.profiles import get_profile

TRIAL = Sizes(0.01, 2, 64, (2, 500, 8), 1, 20, 10, ("smoke",), (2,))
ON_GPU = Sizes(0.5, matrix=8_192)
# Weights change no speed; some of the images are enough, since each is as fast as another.
GPU_CHANGES = {"weights": "none", "train_images": 1_024, "steps": 500, "warmup": 1}
EMBEDDED_ON_GPU = RunConfig(dataset=EMBEDDED, backbone="resnet50", weights="none", anchor_size=2.0)
PAGE = Path(__file__).with_name("page.md.j2")
Part = Callable[[], Iterator[Row]]


def gpu_config() -> RunConfig:
    """What is trained on a GPU: the coco256 profile where its data is prepared, else the embedded data."""
    coco = get_profile("coco256").base
    return (coco if coco.dataset in prepared() else EMBEDDED_ON_GPU).replace(**GPU_CHANGES)


def parts_of(device: torch.device, limits: Limits, sizes: Sizes) -> list[Part]:
    """On a GPU a step by its batch; on a CPU the profiles whose dataset is prepared."""
    loss, evaluation = partial(bench_loss, device, limits, sizes), partial(bench_evaluation, device, sizes)
    if device.type == "cuda":
        by_batch = [gpu_config().replace(batch_size=n) for n in sizes.steps]
        steps = [partial(bench_step, config, device, limits, sizes) for config in by_batch]
        return [*steps, loss, partial(bench_two, by_batch[0], device, sizes), evaluation]
    bases = [(name, get_profile(name).base) for name in sizes.profiles]
    runs = [partial(bench_cpu_runs, *each, sizes) for each in bases if each[1].dataset in prepared()]
    return [loss, evaluation, *runs]


def run_bench(device_name: str = "auto", trial: bool = False) -> int:
    """Measures, says and keeps each row as soon as it is there, writes the page; returns 0.

    Returns 1 where a part was left out: too large for the device, or a process of it was killed. trial:
    little of everything, kept beside the data.
    """
    device = hardware.pick_device(device_name)
    sizes = TRIAL if trial else ON_GPU if device.type == "cuda" else Sizes()
    info = hardware.describe(str(device))
    for dataset in {EMBEDDED, get_profile(sizes.profiles[0]).base.dataset} - set(prepared()):
        ensure(dataset)
    machine = info.get("gpu", f"{info['cpu']} {info['cores']} cores")
    kind = f"{machine} {info.get('precision', '')}".strip().lower()  # of one name, CPUs with bf16 and without
    folder = data_root() / "bench-trial" if trial else results_root("bench")
    path = folder / f"{re.sub('[^a-z0-9]+', '-', kind).strip('-')}.json"
    limits = measure_limits(device, sizes)
    fast = f"{limits['teraflops']:.2f} TFLOP/s in {info.get('precision', 'bf16')}"
    print(f"limits of {machine}: {fast}, copies at {limits['gigabytes']:.0f} GB/s")
    rows: list[Row] = []
    left_out = 0
    for part in parts_of(device, limits, sizes):
        try:
            for row in part():
                rows.append(row)
                finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                write_json(path, {"finished": finished, "hardware": info, "limits": limits, "rows": rows})
                print(line(row), flush=True)
        except (torch.OutOfMemoryError, BrokenExecutor) as error:
            left_out = 1
            print(f"left out: {part.func.__name__}: {error}", flush=True)
    print(f"kept in {path}; read {write_page(folder)}")
    return left_out


def line(row: Row) -> str:
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


def ratio(row: Row) -> str:
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

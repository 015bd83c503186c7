"""The whole bench: rows that apply to this machine, a table, and a JSON in results/bench/."""

import re
import time
from typing import Any

import torch

from focalrepro import hardware
from focalrepro.bench.evaluation import bench_ap, bench_postprocessing, whole_evaluation
from focalrepro.bench.figure import cost_curves
from focalrepro.bench.limits import measure_limits
from focalrepro.bench.loss import bench_loss
from focalrepro.bench.measure import Row, Spread
from focalrepro.bench.page import write_page
from focalrepro.bench.scaling import evaluation_curves, training_curves
from focalrepro.bench.training import bench_at_once, bench_cpu_training, bench_gpu_training
from focalrepro.config import RunConfig
from focalrepro.data.prepare import EMBEDDED, ensure
from focalrepro.data.registry import prepared
from focalrepro.files import results_root, write_json
from focalrepro.study.profiles import get_profile

GPU_CONFIG = RunConfig(dataset=EMBEDDED, backbone="resnet50", weights="none", batch_size=64, anchor_size=2.0)


def run_bench(device_name: str = "auto") -> int:
    """Measures, prints a line as each row is done, then the table; returns 0."""
    device = hardware.pick_device(device_name)
    ensure(EMBEDDED)
    limits = measure_limits(device)
    print(
        f"limits of {_machine(device)}: {limits.teraflops:.2f} TFLOP/s in bf16, copies at {limits.gigabytes:.0f} GB/s"
    )
    path = results_root("bench") / f"{slug(_machine(device))}.json"
    record: dict[str, Any] = {
        "finished": "",
        "hardware": hardware.describe(device.type),
        "limits": vars(limits),
        "rows": [],
    }

    def add(row: Row) -> None:
        """Shows a row and keeps all that there are, so that an interrupted bench has lost only the current one."""
        print(line(row), flush=True)
        record["rows"].append(row.as_dict())
        record["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_json(path, record)

    add(bench_loss(device, limits))
    postprocessing = bench_postprocessing(device)
    add(postprocessing)
    ap, bootstrap = bench_ap()
    for row in (ap, whole_evaluation(postprocessing, ap), bootstrap):
        add(row)
    add(bench_cpu_training("quick"))
    if "coco256" in prepared():
        add(bench_cpu_training("coco-cpu"))
    for row in bench_at_once(device, "coco256" if device.type == "cuda" else "quick"):
        add(row)
    if device.type == "cuda":
        large = GPU_CONFIG.replace(image_size=800, batch_size=16)
        add(bench_gpu_training(GPU_CONFIG, device, limits, repeats=3, steps=40))
        add(bench_gpu_training(large, device, limits, repeats=2, steps=10))
    curves = evaluation_curves() + training_curves(
        GPU_CONFIG if device.type == "cuda" else get_profile("quick").base.replace(weights="none"), device
    )
    record["curves"] = [c.as_dict() for c in curves]
    write_json(path, record)
    figure = path.with_suffix(".png")
    cost_curves(curves, _machine(device)).savefig(figure, dpi=130, bbox_inches="tight")
    print(f"kept in {path}; read {write_page(path.parent)}")
    return 0


def line(row: Row) -> str:
    """A row for a reader: both sides with their spread, the ratio, the goal, the share of the limit."""
    share = f", {row.share:.0%} of the {row.limit}" if row.share is not None else ""
    note = f"; {row.note}" if row.note else ""
    return (
        f"{row.what}\n    ours {_spread(row.ours)} {row.unit}{share}; {row.against}: {_spread(row.theirs)} "
        f"{row.unit}\n    ratio {row.ratio:.1f} (goal {row.goal:g}){note}"
    )


def _spread(s: Spread) -> str:
    return f"{s.median:.4g} [{s.low:.4g} … {s.high:.4g}, n {s.n}]"


def _machine(device: torch.device) -> str:
    info = hardware.describe(device.type)
    return info.get("gpu", f"{info['cpu']} {info['cores']} cores")


def slug(text: str) -> str:
    """A name for a file: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")

"""The Triton kernels compiled for an H100, which takes no GPU: they compile, and none computes in fp64."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="no Triton for this system")

SCRIPT = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from focalrepro.detector import norm_triton
from focalrepro.training import focal_triton

POINTERS = dict.fromkeys(("labels",), "*i64")
POINTERS |= dict.fromkeys(("alpha", "gamma", "upstream", "sums"), "*fp32")
POINTERS |= dict.fromkeys(("weight", "bias", "mean", "rstd", "along"), "*fp32")
NUMBERS = {"classes": "i32", "channels": "i32", "eps": "fp32"}


def lower(kernel, dtype, constants, **more):
    known = POINTERS | NUMBERS | dict.fromkeys(("logits", "grad", "x", "y", "dy", "dx"), f"*{dtype}") | more
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else known[name] for name in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    code = triton.compile(ASTSource(kernel, signature, values), target=GPUTarget("cuda", 90, 32)).asm
    assert code["cubin"]
    print(dtype, kernel.__name__, "in fp64" if "f64" in code["ttgir"] else "in fp32")


for dtype in ("bf16", "fp32"):
    sizes = {"IGNORED": -2, "BLOCK": 1024}
    for kernel in (focal_triton._value, focal_triton._slope):
        lower(kernel, dtype, sizes | {"WIDE": False}, total="i32")
        lower(kernel, dtype, sizes | {"WIDE": True}, total="i64")  # more logits than 32 bits count
        lower(kernel, dtype, sizes | {"WIDE": False, "classes": 1}, total="i32")  # fixed by Triton
    for slope in (False, True):  # of a frozen norm
        known = dict.fromkeys(("out", "upstream"), f"*{dtype}") | dict.fromkeys(("scale", "shift"), "*fp32")
        lower(norm_triton._scaled, dtype, {"BLOCK": 1024, "SLOPE": slope}, total="i32", **known)
    for groups, each, cells in ((4, 4, 256), (8, 8, 64)):  # of coco-cpu's head at batch 8, of coco256's at 64
        norm = {"cells": 1024, "GROUPS": groups, "EACH": each, "CELLS": cells}
        for kernel in (norm_triton._forward, norm_triton._backward):
            lower(kernel, dtype, norm, total="*fp32")
"""


def test_kernels_compile_for_a_gpu_and_compute_in_fp32(tmp_path):
    compiled = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    compiled |= {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=compiled, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stdout.splitlines() if " in fp" in line]
    assert len(said) == 24 and all(line.endswith("in fp32") for line in said), said

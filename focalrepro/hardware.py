"""The machine: device, threads, allocator, and its description in every run's record."""

import ctypes
import importlib
import os
import platform
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial, wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from focalrepro import __version__
from focalrepro.config import check_device
from focalrepro.files import repo_root


def pick_device(name: str = "auto") -> torch.device:
    """ "auto" takes CUDA where there is a device. Errors: RuntimeError where "cuda" is asked for and absent,
    ValueError for another name."""
    check_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError("--device cuda: torch sees no CUDA device here; use --device cpu or auto")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise RuntimeError(f"--device {name}: the last CUDA device here is cuda:{last}")
    return device


def use_device(name: str = "auto") -> torch.device:
    """As `pick_device`, and this process's current one from now on: Triton's kernels start on that, wherever
    their tensors lie. What is said to be in fp32 is so: no TF32."""
    device = pick_device(name)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.cuda.set_device(device.index or 0)
    return device


def cores() -> int:
    """Cores that this process may use, also in a container that is given a part of them."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share, _, period = _of_container("cpu.max").partition(" ")
    return min(there, max(1, int(share) // int(period))) if share.isdigit() and period.isdigit() else there


def _of_container(limit: str) -> str:
    """A limit that Linux sets on this process's control group; "" or "max" where there is none."""
    with suppress(OSError):
        return (Path("/sys/fs/cgroup") / limit).read_text().strip()
    return ""


@cache
def has_bf16(device: torch.device | str = "cpu") -> bool:
    """Whether the device computes in bf16. A CPU without its instructions (an x86 one without AVX-512, say)
    and a GPU before Ampere only emulate it, several times slower than fp32, or lack a convolution's backward.
    Not where FOCALREPRO_BF16 is 0, so that runs can join those of a machine that lacks it.
    """
    if os.environ.get("FOCALREPRO_BF16") == "0":
        return False
    if (kind := torch.device(device).type) != "cpu":
        return kind != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    with suppress(RuntimeError), torch.inference_mode(False), torch.enable_grad():
        image = torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16, requires_grad=True)
        torch.nn.functional.conv2d(image, torch.zeros(1, 1, 3, 3, dtype=torch.bfloat16)).sum().backward()
        return True
    return False


def autocast(device: torch.device, wanted: bool = True) -> torch.autocast:
    """bf16 for the convolutions, where the device has it; weights, losses and the optimizer stay in fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_bf16(device))


@cache
def kernels(module: str) -> ModuleType | None:
    """A module of Triton kernels, or None where Triton is not installed, or FOCALREPRO_TRITON is 0 (where it
    finds no compiler, say): then torch's own do the work."""
    if os.environ.get("FOCALREPRO_TRITON") == "0":
        return None
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def first_order(instead: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For a backward written by hand: RuntimeError under create_graph=True, where alone it has gradients on.

    instead: what has a second derivative. torch's `once_differentiable` would not do. It warns of a second
    derivative only where the upstream gradient has a graph of its own; under a plain or a divided sum it has
    none, and a gradient penalty on the weights below would be wrong without a word.
    """

    def decorate(backward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(backward)
        def checked(ctx: Any, *upstream: torch.Tensor) -> Any:
            if torch.is_grad_enabled():
                once = f"{backward.__module__} can be differentiated once only"
                raise RuntimeError(f"{once}, and create_graph=True asks for twice: take {instead} instead")
            return backward(ctx, *upstream)

        return checked

    return decorate


def keep_memory() -> None:
    """Tells glibc's malloc, where there is one, to keep freed memory.

    By default every large tensor is mapped afresh and given back at once, and a training step on the CPU
    spends much of its time on the page faults of that.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # M_… of malloc.h
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for setting, value in ((mmap_max, 0), (trim_threshold, 1 << 30), (top_pad, 64 << 20)):
            mallopt(setting, value)


@cache
def describe(device: str) -> dict[str, Any]:
    """Hardware and versions, as they go into a run's JSON."""
    import torchvision

    info: dict[str, Any] = {
        "device": torch.device(device).type,
        "cpu": _cpu_name(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "focalrepro": __version__,
        "commit": commit(),
    }
    if not has_bf16(device):
        info["precision"] = "fp32"  # whatever the config says
    if device.startswith("cuda"):
        info["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return info


def _cpu_name() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


@cache
def commit() -> str:
    """The repository's commit, with "+" where the package differs from it.

    Outside a checkout, also where another project's has it inside, it is what FOCALREPRO_COMMIT says, or "".
    """
    root, elsewhere = repo_root(), os.environ.get("FOCALREPRO_COMMIT", "")
    git = partial(subprocess.check_output, cwd=Path(__file__).parent, text=True, stderr=subprocess.DEVNULL)
    try:
        if root is None or Path(git(["git", "rev-parse", "--show-toplevel"]).strip()).resolve() != root:
            return elsewhere
        changed = "+" if git(["git", "status", "--porcelain", "--", "."]) else ""
        return git(["git", "rev-parse", "--short=12", "HEAD"]).strip() + changed
    except (OSError, subprocess.CalledProcessError):
        return elsewhere


def memory() -> int:
    """Bytes of memory in this machine, or of it in this container; 0 where the system does not say."""
    limit = _of_container("memory.max")
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
    return min(there, int(limit)) if limit.isdigit() else there


def die_with(parent: int) -> None:
    """Asks Linux to end this process with its parent, so that kill -9 of that leaves no worker."""
    pr_set_pdeathsig = 1
    try:
        ctypes.CDLL("libc.so.6").prctl(pr_set_pdeathsig, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)

"""What the machine offers decides the precision, and the record says so."""

import os
from pathlib import Path

import pytest
import torch

from focalrepro import hardware
from focalrepro.runs import run
from focalrepro.study.profiles import PROFILES


@pytest.mark.parametrize(("has", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_convolutions_are_in_bf16_where_the_cpu_has_it(monkeypatch, has, dtype):
    monkeypatch.setattr(hardware, "has_bf16", lambda device="cpu": has)
    x, conv = torch.zeros(1, 3, 8, 8), torch.nn.Conv2d(3, 4, 3)
    with hardware.autocast(torch.device("cpu")):
        assert conv(x).dtype == dtype
    with hardware.autocast(torch.device("cpu"), wanted=False):
        assert conv(x).dtype == torch.float32


def test_a_record_says_that_its_cpu_lacks_bf16(monkeypatch, data_root):
    monkeypatch.setattr(hardware, "has_bf16", lambda device="cpu": False)
    hardware.describe.cache_clear()
    try:
        record = run(PROFILES["smoke"].base)
    finally:
        hardware.describe.cache_clear()
    assert record.config.precision == "bf16" and record.hardware.precision == "fp32"
    assert record.hardware.name == record.hardware.cpu + " without bf16"


def test_the_gpu_that_is_asked_for_is_the_current_one(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert (
        hardware.use_device("cuda:1") == torch.device("cuda:1") and hardware.use_device("cpu").type == "cpu"
    )
    assert taken == [1]
    with pytest.raises(RuntimeError, match="--device cuda:2: the last CUDA device here is cuda:1"):
        hardware.use_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", ""])
def test_an_unknown_device_is_named(name):
    with pytest.raises(ValueError, match="it must be auto, cpu, cuda or cuda:N"):
        hardware.pick_device(name)


def test_kernels_may_be_switched_off(monkeypatch):
    """As where Triton is installed and finds no compiler: torch's own operations then do the work."""
    hardware.kernels.cache_clear()
    monkeypatch.setenv("FOCALREPRO_TRITON", "0")
    assert hardware.kernels("focalrepro.losses") is None
    hardware.kernels.cache_clear()
    monkeypatch.delenv("FOCALREPRO_TRITON")
    assert hardware.kernels("focalrepro.losses").__name__ == "focalrepro.losses"


@pytest.mark.parametrize(("cpu", "memory"), [("100000 100000", "1000000"), ("max 100000", "max"), ("", "")])
def test_a_container_has_what_it_is_given(cpu, memory, monkeypatch):
    monkeypatch.setattr(
        hardware, "_of_container", lambda limit: {"cpu.max": cpu, "memory.max": memory}[limit]
    )
    there = len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert (hardware.cores(), hardware.memory()) == ((1, 1000000) if memory.isdigit() else there)


def test_bf16_is_there_where_its_convolutions_have_a_backward(monkeypatch):
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    hardware.has_bf16.cache_clear()
    with torch.inference_mode():
        assert hardware.has_bf16("cpu") == supported

    def lacking(*args, **kwargs):
        raise RuntimeError("DNNL does not support bf16/f16 backward")

    for what, lacks in (("nn.functional.conv2d", lacking), ("backends.mkldnn.is_available", lambda: False)):
        hardware.has_bf16.cache_clear()
        with monkeypatch.context() as context:
            context.setattr(f"torch.{what}", lacks)
            assert hardware.has_bf16("cpu") is False
    hardware.has_bf16.cache_clear()
    monkeypatch.setenv("FOCALREPRO_BF16", "0")
    assert hardware.has_bf16("cpu") is False
    hardware.has_bf16.cache_clear()


@pytest.mark.parametrize("root", [None, Path("/elsewhere")])
def test_another_projects_commit_is_not_ours(monkeypatch, root):
    """As in an installation inside the user's own repository, to whose commit git would climb."""
    assert hardware.commit.__wrapped__()
    monkeypatch.setattr(hardware, "repo_root", lambda: root)
    monkeypatch.setenv("FOCALREPRO_COMMIT", "given")
    assert hardware.commit.__wrapped__() == "given"

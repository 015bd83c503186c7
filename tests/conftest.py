"""Shared by all tests: one thread, and a data root of their own with a tiny embedded dataset."""

import os
import sys

import pytest
import torch

if not torch.cuda.is_available():  # Triton reads this when it is first imported, which torchvision does
    os.environ["TRITON_INTERPRET"] = "1"

from focalrepro import cli
from focalrepro.data import load
from focalrepro.data.synthetic import generate

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """FOCALREPRO_DATA points to a temporary folder that holds 24
    training and 12 validation scenes of 128².
    """
    root = tmp_path_factory.mktemp("data")
    generate(root, train_images=24, val_images=12, size=128)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOCALREPRO_DATA", str(root))
        yield root


@pytest.fixture
def nothing_committed(tmp_path, monkeypatch):
    """No committed results, whose spread a study of few seeds would borrow."""
    monkeypatch.setenv("FOCALREPRO_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def told(monkeypatch, capsys):
    """A function: what the command line says of these arguments where it ends with exit status 2."""

    def of(*args):
        monkeypatch.setattr(sys, "argv", ["focalrepro", *args])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 2
        return capsys.readouterr().err

    return of


@pytest.fixture(scope="session")
def tiny(data_root):
    """The training and the validation split of that dataset."""
    return tuple(load("synthetic", split, 128) for split in ("train", "val"))

"""Features of a frozen backbone on disk: their room is taken before they are written."""

import errno
import os
import re

import pytest
import torch

from focalrepro.config import RunConfig
from focalrepro.detector.frozen_features import cached_features
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.files import refusal
from focalrepro.training import initial

CONFIG = RunConfig(
    dataset="synthetic",
    image_size=128,
    backbone="small",
    weights="digits",
    frozen="backbone",
    flip=False,
    fpn_channels=16,
    head_convs=1,
    first_level=3,
    last_level=4,
)


def test_a_disk_without_room_for_them_is_one_line(tiny, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    model = RetinaNet(CONFIG, 10)
    with pytest.raises(OSError, match="no room for") as caught:
        cached_features(model, tiny[1], torch.device("cpu"))
    assert re.search(r"C\d\.npy: no room for .* FOCALREPRO_DATA", said := refusal(caught.value))
    assert "\n" not in said
    assert not list((tmp_path / "cache").rglob("*.npy"))
    monkeypatch.undo()
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    assert len(cached_features(model, tiny[1], torch.device("cpu"))[0]) == 12


def test_the_projection_of_one_precision_does_not_serve_another(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path))
    made = []
    for bf16 in (True, False, True):
        monkeypatch.setattr(initial, "has_bf16", lambda bf16=bf16: bf16)
        made.append(initial.initial_model(CONFIG.replace(kept_channels=0.5), tiny[0]).reduce.state_dict())
    assert len(list((tmp_path / "cache").glob("components-*"))) == 2
    assert all(torch.equal(made[0][key], made[2][key]) for key in made[0])

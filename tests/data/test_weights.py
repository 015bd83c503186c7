"""The backbone's weights: from the model zoo's file to the tensors that the detector reads, or not at all."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from server import Server

from focalrepro.data import DatasetError, weights
from focalrepro.data import fetch as fetching
from focalrepro.data.weights import WEIGHTS, fetch_weights, read_initializers
from focalrepro.detector.backbones import ResNet50V2

TENSORS = {
    name: np.random.default_rng(k).normal(size=shape).astype(np.float32)
    for k, (name, shape) in enumerate(
        {
            "conv0_weight": (4, 3, 2, 2),
            "batchnorm1_running_var": (300,),
            "stage2_conv12_weight": (2, 4, 1, 1),
            "stage4_batchnorm0_beta": (5,),
        }.items()
    )
}
UNUSED = {"stage4_conv0_weight": (2, 2, 1, 1), "batchnorm2_gamma": (3,), "dense0_bias": (7,)}


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx_bytes(raw=False):
    """An ONNX model by hand, its floats packed as the zoo's exporter did, or raw as others do."""
    graph = field(2, b"a graph's name")
    for name, value in {**TENSORS, **{k: np.ones(v, np.float32) for k, v in UNUSED.items()}}.items():
        sides = [varint(side) for side in value.shape]
        dims = b"".join(b"\x08" + side for side in sides)
        tensor = dims + field(2, 1) + field(9 if raw else 4, value.tobytes())
        graph += field(5, tensor + field(8, f"resnetv24_{name}".encode()))
    graph += field(
        5, field(1, 2) + field(2, 7) + field(7, b"\1\2") + field(8, b"reshape_shape")
    )  # int64: passed over
    return field(1, 4) + field(7, graph) + field(8, field(2, 7))


@pytest.fixture
def server():
    with Server() as server:
        server.files["/resnet50-v2-7.onnx"] = onnx_bytes()
        yield server


@pytest.fixture
def fetch(server, monkeypatch):
    """Fetch from the server, with the checksums of what it should hold and waits of milliseconds."""

    def call(folder, body=b""):
        monkeypatch.setattr(weights, "ADDRESS", f"{server.url}/resnet50-v2-7.onnx")
        monkeypatch.setattr(weights, "ONNX_SHA256", hashlib.sha256(body or onnx_bytes()).hexdigest())
        monkeypatch.setattr(fetching, "TRIES", 3)
        monkeypatch.setattr(fetching, "WAIT", 0.002)
        return fetch_weights(folder)

    return call


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("raw", [False, True])
def test_initializers_are_read_by_name(raw):
    found = read_initializers(onnx_bytes(raw))
    assert len(found) == len(TENSORS) + len(UNUSED)
    assert same({k: found[f"resnetv24_{k}"] for k in TENSORS}, TENSORS)


def test_they_are_those_that_onnx_itself_reads():
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_model_from_string(onnx_bytes()).graph
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == 1}
    assert same(read_initializers(onnx_bytes()), expected)


def test_what_is_fetched_is_kept_as_the_tensors_in_use(fetch, server, tmp_path):
    server.faults["/resnet50-v2-7.onnx"] = ["truncate", "drop"]
    path = fetch(tmp_path)
    assert path == tmp_path / WEIGHTS and same(load_file(path), TENSORS)
    assert [p.name for p in tmp_path.iterdir()] == [WEIGHTS] and server.asked.total() == 3


def test_a_kill_at_the_very_end_leaves_no_model(fetch, tmp_path, monkeypatch):
    kept = weights.write_atomic

    def killed(path, content):
        kept(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [WEIGHTS]


def test_what_the_zoo_answers_is_told(fetch, server, tmp_path):
    server.faults["/resnet50-v2-7.onnx"] = [404]
    with pytest.raises(
        DatasetError, match=r"resnet50-v2-7\.onnx: the server answers 404.*same command again"
    ):
        fetch(tmp_path)


def test_another_file_is_refused(fetch, tmp_path):
    with pytest.raises(DatasetError, match="does not have the checksum sha256:"):
        fetch(tmp_path, body=b"another")
    assert not (tmp_path / WEIGHTS).exists()


def test_the_names_in_use_are_those_that_the_detector_loads():
    class Asked(dict):
        """Gives a 1, which fits any shape, for every name that it is asked for."""

        def __missing__(self, name):
            self[name] = torch.ones(())
            return self[name]

    asked = Asked()
    ResNet50V2().load(asked)
    assert len(asked) == 211 and all(weights._USED.fullmatch(name) for name in asked)
    assert not any(weights._USED.fullmatch(name) for name in UNUSED)

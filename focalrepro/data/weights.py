"""ImageNet weights of the pre-activation ResNet-50 up to stage 3, from the ONNX model zoo (Apache-2.0).

The zoo's file is fixed by its checksum, so nothing else of it is checked. Of ONNX only the named tensors are
read, where every installation would otherwise carry three packages of 50 MB for this one file.
"""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from focalrepro.data.fetch import fetch_checked
from focalrepro.data.split import DatasetError
from focalrepro.files import write_atomic

BACKBONE = "resnet50v2"
WEIGHTS = "resnet50v2_imagenet_c4.safetensors"
ADDRESS = "https://huggingface.co/onnxmodelzoo/resnet50-v2-7/resolve/main/resnet50-v2-7.onnx"
ONNX_BYTES = 102_442_452
ONNX_SHA256 = "79102261eb6e5fd7af5d27f41316293e388c5cb691e5d25bfb035c4f64fefe31"
_PREFIX = "resnetv24_"
_USED = re.compile(r"(conv0|batchnorm[01]|stage[123]_(conv|batchnorm)\d+|stage4_batchnorm0)_[a-z_]+")
_ABOUT = {
    "source": "ONNX model zoo resnet50-v2-7 (Apache-2.0), stem to stage 3 and the batch norm after it",
    "preprocess": "RGB/255, ImageNet mean and std",
}


def fetch_weights(folder: Path) -> Path:
    """Fetch the zoo's file (102 MB) and keep what the detector uses of it (34 MB) as `folder/WEIGHTS`."""
    onnx = folder / "resnet50-v2-7.onnx"
    fetch_checked(ADDRESS, onnx, f"sha256:{ONNX_SHA256}", ONNX_BYTES)
    found = read_initializers(onnx.read_bytes())
    short = {name.removeprefix(_PREFIX): found[name] for name in sorted(found)}
    used = {name: tensor for name, tensor in short.items() if _USED.fullmatch(name)}
    onnx.unlink()  # first: nobody comes back for it once the weights are there
    write_atomic(folder / WEIGHTS, save(used, _ABOUT))
    return folder / WEIGHTS


def given_weights(path: Path) -> dict[str, str]:
    """`Descriptor.weights` for a file that stays where it is; DatasetError if its header cannot be read."""
    if not Path(path).is_file():
        raise DatasetError(f"{path}: no such weights file; check the path")
    try:
        with safe_open(path, "numpy"):
            return {BACKBONE: str(Path(path).resolve())}
    except (SafetensorError, OSError) as error:
        raise DatasetError(f"{path}: not a whole safetensors file ({error}); fetch it again") from None


# Field numbers of onnx.proto: a model's graph, its initializers, and what a tensor holds.
_GRAPH, _INITIALIZER, _DIMS, _TYPE, _FLOATS, _NAME, _RAW = 7, 5, 1, 2, 4, 8, 9


def read_initializers(data: bytes) -> dict[str, np.ndarray]:
    """{name: float32 array} of the float tensors in an ONNX model; tensors of other types are passed over."""
    graphs = _fields(memoryview(data))[_GRAPH]
    tensors = [_fields(tensor) for graph in graphs for tensor in _fields(graph)[_INITIALIZER]]
    return {  # float32; packed or raw, they are little-endian and in a row
        bytes(t[_NAME][0]).decode(): np.frombuffer(b"".join(t[_RAW] or t[_FLOATS]), "<f4").reshape(t[_DIMS])
        for t in tensors
        if t[_TYPE] == [1]
    }


def _fields(data: memoryview) -> dict[int, list[int | memoryview]]:
    """{field number: its values, integers or bytes} of one protobuf message of those two alone."""
    fields, left = defaultdict(list), data
    while left:
        key, left = _integer(left)
        value, left = _integer(left)
        if key & 7 == 2:
            value, left = left[:value], left[value:]
        fields[key >> 3].append(value)
    return fields


def _integer(data: memoryview) -> tuple[int, memoryview]:
    """An integer and what follows it: seven bits a byte, the lowest first, the last byte below 128."""
    end = next(i for i in range(len(data)) if data[i] < 128) + 1
    return sum((byte & 127) << 7 * i for i, byte in enumerate(data[:end])), data[end:]

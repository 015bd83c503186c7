"""Files that are broken, odd or meant to harm: the answer is a value or one line with file and field."""

import errno
import json
import os
import re
import socket
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import Made, box_entry, encoded, image_entry, write_tar
from PIL import Image

from focalrepro.data import DatasetError, pixels
from focalrepro.data.annotations import make_targets, read_annotations
from focalrepro.files import refusal


@pytest.fixture
def made(tmp_path):
    """Two images of 60×40, one box in each."""
    made = Made(tmp_path)
    made.value = {
        "images": [image_entry(key, f"{key}.png") for key in (1, 2)],
        "annotations": [box_entry(key, key, [6, 4, 30, 20], 1) for key in (1, 2)],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}],
    }
    for key in (1, 2):
        (made.images / f"{key}.png").write_bytes(encoded(seed=key))
    return made


def tar_of(made, extra=(), **more):
    """A tar file of its images, and of whatever else."""
    files = {path.name: path.read_bytes() for path in made.images.iterdir()}
    return write_tar(made.folder / "t.tar", files | dict(extra), **more)


def refused(action, match):
    """It raises a DatasetError of one line."""
    with pytest.raises(DatasetError, match=match) as caught:
        action()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


# ---------------------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        (
            "images",
            "id",
            2**63,
            r"instances\.json: images\[1\]\.id is 9223372036854775808; it should be less than",
        ),
        (
            "images",
            "width",
            10**400,
            r"instances\.json: images\[1\]\.width is 1000000.*0000; it should be less than",
        ),
        ("images", "file_name", ".", r"images\[1\]\.file_name is '\.'; it must name a file"),
        ("images", "file_name", "", r"images\[1\]\.file_name is ''; String should have at least 1"),
        (
            "images",
            "file_name",
            "\udce9.png",
            r"images\[1\]\.file_name is '\\udce9\.png'; it should be a valid string",
        ),
        (
            "annotations",
            "bbox",
            [1, 2, 10**400, 4],
            r"annotations\[1\]\.bbox\[2\] is 10000.*0; it should be a valid number",
        ),
        (
            "annotations",
            "bbox",
            [1e308, 0, 1e308, 1],
            r"annotations\[1\]\.bbox\[0\] is 1e\+308; it should be less than",
        ),
        ("annotations", "area", 10**400, r"annotations\[1\]\.area is 1000.*0; it should be a valid number"),
        ("categories", "name", "car", r"categories\[1\]\.name: 'car' is also categories\[0\]'s name"),
    ],
)
def test_values_that_no_array_can_hold(made, kind, field, value, message):
    made.value[kind][1][field] = value
    refused(made.load, message)


def test_nesting_and_digits_without_end(made):
    refused(lambda: made.load(text="[" * 100_000 + "]" * 100_000), r"instances\.json: not readable as JSON")
    refused(
        lambda: made.load(text='{"images": ' + "9" * 5000 + "}"), r"instances\.json: not readable as JSON"
    )


def test_a_pipe_a_socket_and_a_loop_do_not_hang(made, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", "loop"):
        refused(lambda name=name: read_annotations(tmp_path / name), rf"{name}: no such annotation file")
        refused(lambda name=name: made.load(images=[tmp_path / name]), rf"{name}: no such folder or tar")
    inside = made.images / "2.png"
    inside.unlink()
    os.mkfifo(inside)
    refused(made.load, r"images/2\.png: is a pipe, socket or device")
    inside.unlink()
    inside.symlink_to(inside)
    refused(made.load, r"images/2\.png: Too many levels of symbolic links")
    inside.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(made.images)  # a socket's path is short
        try:
            bound.bind("2.png")
        finally:
            os.chdir(here)
        refused(made.load, r"images/2\.png: is a pipe, socket or device")


# ---------------------------------------------------------------------------------------------------- tars


def test_an_unused_member_of_another_encoding_spoils_nothing(made):
    expected = made.load().digest
    odd = tar_of(made, {"caf\udce9.png": b"x"}, encoding="utf-8", errors="surrogateescape")
    assert made.load(images=[odd]).digest == expected
    (made.images / "caf\udce9.txt").write_bytes(b"x")
    assert made.load().digest == expected


def test_members_of_a_pebibyte_and_with_holes(made):
    entry = tarfile.TarInfo("1.png")
    entry.size = 2**50
    path = made.folder / "huge.tar"
    path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    refused(lambda: made.load(images=[path]), r"huge\.tar: not a whole, uncompressed tar")
    tar = tar_of(made)
    with tarfile.open(tar) as archive:
        offset = archive.getmember("2.png").offset
    data = bytearray(tar.read_bytes())
    header = data[offset : offset + 512]
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[offset : offset + 512] = header
    tar.write_bytes(data)
    refused(lambda: made.load(images=[tar]), r"t\.tar/2\.png: is stored with holes")


def test_a_file_larger_than_any_image(made):
    with open(made.images / "2.png", "r+b") as file:
        file.truncate(2**40)
    refused(made.load, r"images/2\.png: 1099511627776 bytes are no image")


# ------------------------------------------------------------------------------- silently wrong otherwise


def test_a_size_that_is_another_images_is_refused(made):
    made.load()
    made.value["images"][1] |= {"width": 40, "height": 60}
    refused(
        made.load, r"images/2\.png: is 60×40 pixels, .* say 40×60 \(1 such images\)"
    )  # though it is decoded
    made.value["images"][1] |= {"width": 120, "height": 80}
    refused(made.load, r"images/2\.png: is 60×40 pixels, .* say 120×80")


def test_squashed_copies_keep_the_original_size_in_the_annotations(made):
    for key in (1, 2):
        (made.images / f"{key}.png").write_bytes(encoded(32, 32, seed=key))
    for size in (32, 20):
        assert made.load(size=size).sizes.tolist() == [[40, 60], [40, 60]]
    (made.images / "2.png").write_bytes(encoded(48, 48, seed=2))
    refused(lambda: made.load(size=20), r"images/1\.png: is 32×32 pixels")  # squares, and not of one frame


def test_exif_turns_are_told_once_and_not_applied(made, caplog):
    exif = Image.Exif()
    exif[pixels.EXIF_ORIENTATION] = 6
    (made.images / "2.png").write_bytes(encoded(kind="JPEG", exif=exif))
    made.load()
    made.load()
    assert caplog.text.count("ask by EXIF to be turned") == 1 and "images/2.png" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.full((40, 60), 0.5, np.float32), "floats have no agreed scale"), (4095, "brightest value is 4095")],
)
def test_images_that_would_turn_black_are_refused(made, values, message):
    values = values if isinstance(values, np.ndarray) else np.full((40, 60), values, np.uint16)
    Image.fromarray(values).save(made.images / "2.tif")
    made.value["images"][1]["file_name"] = "2.tif"
    refused(made.load, rf"images/2\.tif: not a whole image \(.*{message}")


@pytest.mark.parametrize("whole", [True, False])
def test_cached_pixels_that_were_overwritten_are_made_again(made, monkeypatch, caplog, whole):
    if not whole:
        monkeypatch.setattr(pixels, "SAMPLED_FROM", 0)  # as an array too large to be read whole
    expected = np.array(made.load().images)
    (path,) = made.folder.glob("cache/*/images.npy")
    spoiled = np.load(path, mmap_mode="r+")
    spoiled[1] = 0
    spoiled.flush()
    np.testing.assert_array_equal(made.load().images, expected)
    assert "changed since" in caplog.text


def test_too_little_memory_is_no_fault_of_the_file(made, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setitem(pixels.RESIZE, "squash", full)
    with pytest.raises(MemoryError):
        made.load()


def test_a_full_disk_is_named(made, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no room for") as caught:
        made.load()
    assert re.search(r"images\.npy: no room for .* FOCALREPRO_DATA", said := refusal(caught.value))
    assert "\n" not in said
    assert not list(made.folder.glob("cache/.unfinished*"))


# ---------------------------------------------------------------------------------------------- anything

numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([10**400, 0, 1, 2, 1.0, 1e308, -1e308])
leaf = st.none() | st.booleans() | numbers | st.text(max_size=5) | st.sampled_from(["1.png", "2.png", "."])
anything = st.recursive(
    leaf,
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=3), x, max_size=3),
    max_leaves=6,
)


def mostly(good):
    """The right value nearly always, so that what follows the first check is reached too."""
    return st.integers(0, 19).flatmap(lambda n: anything if n == 0 else good)


def entry(required, **optional):
    return mostly(st.fixed_dictionaries({k: mostly(v) for k, v in required.items()}, optional=optional))


ids = st.integers(1, 4)
sides = st.integers(1, 10**6)
coco_files = st.fixed_dictionaries(
    {
        "images": mostly(
            st.lists(
                entry({"id": ids, "file_name": st.text(max_size=9), "width": sides, "height": sides}),
                max_size=3,
            )
        ),
        "annotations": mostly(
            st.lists(
                entry(
                    {
                        "id": ids,
                        "image_id": ids,
                        "category_id": ids,
                        "bbox": st.lists(numbers, min_size=4, max_size=4),
                    },
                    area=numbers,
                    iscrowd=mostly(st.integers(0, 1)),
                ),
                max_size=4,
            )
        ),
        "categories": mostly(st.lists(entry({"id": ids, "name": st.text(max_size=3)}), max_size=3)),
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(value=coco_files | anything, size=st.integers(1, 64))
def test_every_json_is_read_or_refused(tmp_path_factory, value, size):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(value))
    check(path, size)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    data=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass"))
)
def test_every_string_of_bytes_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    check(path, 8)


def check(path, size):
    try:
        found = make_targets(read_annotations(path), size, "all")
    except DatasetError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return
    assert found.boxes.shape == (*found.labels.shape, 4) and len(found.boxes) == len(found.image_ids) >= 1
    assert np.isfinite(found.boxes).all() and found.boxes.min() >= 0 and found.boxes.max() <= size
    real = found.boxes[found.labels >= 0]
    assert (real[:, 2:] > real[:, :2]).all() and found.labels.max() < len(found.categories)

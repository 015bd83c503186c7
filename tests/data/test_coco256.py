"""Importing coco256: everything is checked before anything is written, and the source is never changed."""

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from focalrepro.data import DatasetError, load, weights_path
from focalrepro.data import coco as coco256
from focalrepro.data.coco import import_copy

IDS = {"train2017": [9, 25, 30, 34], "val2017": [139, 285]}
TARS = {"train2017-0.tar": [9, 25], "train2017-1.tar": [30, 34], "val2017.tar": [139, 285]}


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((256, 256)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A small folder laid out like the real one, and a manifest that agrees with it."""
    folder = tmp_path / "source"
    (folder / "annotations").mkdir(parents=True)
    for official, ids in IDS.items():
        value = {
            "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in ids],
            "annotations": [
                {"id": n + 1, "image_id": i, "category_id": 90, "bbox": [0, 0, 64, 48]}
                for n, i in enumerate(ids)
            ],
            "categories": [{"id": 90, "name": "toothbrush", "supercategory": "indoor"}],
        }
        (folder / coco256.annotations_file(official)).write_text(json.dumps(value))
    for name, ids in TARS.items():
        with tarfile.open(folder / name, "w") as archive:
            for key in ids:
                data = jpeg(key)
                entry = tarfile.TarInfo(f"{name[:-4].split('-')[0]}/{key:012d}.jpg")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    save_file({"conv0_weight": np.ones((2, 3), np.float32)}, folder / coco256.WEIGHTS)
    (tmp_path / "manifest.json").write_text(json.dumps(IDS))
    monkeypatch.setattr(coco256, "MANIFEST", tmp_path / "manifest.json")
    return folder


def do(source, **more):
    return import_copy("coco256", source, source.parent / "root", **more)


def snapshot(folder):
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def test_import_and_load(source):
    before = snapshot(source)
    folder = do(source)
    root = source.parent / "root"
    assert folder == root / "coco256" and snapshot(source) == before
    assert [path.name for path in folder.iterdir()] == ["dataset.json"], "the files stay where they are"
    train = load("coco256", "train", 256, root=root)
    assert train.image_ids.tolist() == IDS["train2017"] and train.categories == ("toothbrush",)
    np.testing.assert_allclose(train.boxes[:, 0], [[0, 0, 25.6, 25.6]] * 4)
    with Image.open(io.BytesIO(jpeg(34))) as image:
        np.testing.assert_array_equal(train.images[3], np.asarray(image).transpose(2, 0, 1))
    assert load("coco256", "val", 256, root=root).image_ids.tolist() == IDS["val2017"]
    assert weights_path("coco256", "resnet50v2", root).read_bytes() == (source / coco256.WEIGHTS).read_bytes()
    do(source)  # again, over what is there
    assert sorted(p.name for p in root.iterdir()) == ["cache", "coco256"]


def test_a_downloaded_copy_has_folders(source):
    for official in IDS:
        (source / official).mkdir()
        for part in source.glob(f"{official}*.tar"):
            with tarfile.open(part) as archive:
                archive.extractall(source, filter="data")
            part.unlink()
    do(source)
    train = load("coco256", "train", 256, root=source.parent / "root")
    assert train.image_ids.tolist() == IDS["train2017"]


def test_all_that_is_missing_is_said_at_once(source):
    (source / "val2017.tar").unlink()
    (source / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(
        DatasetError, match=r"missing: annotations/instances_train2017\.json, val2017/ or val2017\*\.tar; add"
    ):
        do(source)
    assert not (source.parent / "root" / "coco256").exists()
    with pytest.raises(DatasetError, match="no such folder"):
        do(source / "nowhere")


def test_a_missing_tar_part_is_found_by_its_images(source):
    (source / "train2017-1.tar").unlink()
    with pytest.raises(DatasetError, match=r"2 of 4 images are not in .*000000000030\.jpg"):
        do(source)
    assert not (source.parent / "root" / "coco256").exists()


def test_another_subset_is_refused(source):
    (source.parent / "manifest.json").write_text(json.dumps({**IDS, "train2017": [9, 25, 30, 42]}))
    with pytest.raises(DatasetError, match=r"1 missing \[42\], 1 too many \[34\]"):
        do(source)


def test_absent_weights_can_be_given(source, tmp_path):
    elsewhere = tmp_path / "w.safetensors"
    (source / coco256.WEIGHTS).rename(elsewhere)
    do(source)
    root = source.parent / "root"
    with pytest.raises(DatasetError, match="has weights for 'resnet50v2'"):
        weights_path("coco256", "resnet50v2", root)
    do(source, weights=elsewhere)
    path = weights_path("coco256", "resnet50v2", root)
    assert path.read_bytes() == elsewhere.read_bytes()
    do(source)
    assert weights_path("coco256", "resnet50v2", root) == path, "as before"
    path.unlink()
    with pytest.raises(DatasetError, match="the weights are gone"):
        weights_path("coco256", "resnet50v2", root)


@pytest.mark.parametrize(
    "spoil", [lambda d: d[:-1], lambda d: d[:20], lambda d: b"<html>no</html>", lambda d: b""]
)
def test_spoiled_weights_are_refused(source, spoil):
    path = source / coco256.WEIGHTS
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DatasetError, match="fetch it again"):
        do(source)
    assert not (source.parent / "root" / "coco256").exists()
    with pytest.raises(DatasetError, match="no such weights file"):
        do(source, weights=source / "nowhere")


def test_the_shipped_manifest_holds_both_splits():
    manifest = coco256.load_manifest()
    assert len(manifest["train2017"]) == len(set(manifest["train2017"])) == 5705
    assert len(manifest["val2017"]) == len(set(manifest["val2017"])) == 2939
    assert manifest["annotations_md5"] == "f4bbac642086de4f52a3fdda2de5fa2c"


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("README.md", "in {val:.0f} % of the images that judge and choose, in {train:.0f} % of those"),
        (
            "results/EVIDENCE.md",
            "{val:.0f} % of the 2,939 images that judge and choose, and in {train:.0f} %",
        ),
        ("results/coco-cpu/README.md", "{val:.0f} % hold a person, of the training images {train:.0f} %"),
        ("data/README.md", "{val:.0f} % of the validation images hold a person, {train:.0f} % of the"),
    ],
)
def test_the_pages_say_how_many_images_hold_a_person(page, said):
    """The manifest has it from the annotations, to which the test of the real copy holds it."""
    manifest = coco256.load_manifest()
    share = {
        split.removesuffix("2017"): 100 * count / len(manifest[split])
        for split, count in manifest["images_with_a_person"].items()
    }
    assert said.format(**share) in (Path(__file__).parents[2] / page).read_text("utf-8")


REAL = os.environ.get("FOCALREPRO_COCO256")


@pytest.mark.skipif(not REAL, reason="FOCALREPRO_COCO256 does not name a copy of coco256")
def test_the_real_copy(tmp_path):
    import_copy("coco256", Path(REAL), tmp_path)
    for split, images, boxes in (("train", 5705, 41767), ("val", 2939, 26850)):
        folder = json.loads((tmp_path / "coco256" / "dataset.json").read_text())
        assert len(folder[split]["images"]) >= 1
        truth = json.loads((tmp_path / "coco256" / folder[split]["annotations"]).read_text())
        assert (len(truth["images"]), len(truth["annotations"])) == (images, boxes)
        person = next(c["id"] for c in truth["categories"] if c["name"] == "person")
        with_one = {a["image_id"] for a in truth["annotations"] if a["category_id"] == person}
        assert len(with_one) == coco256.load_manifest()["images_with_a_person"][f"{split}2017"]
        data = load("coco256", split, 256, limit=16, root=tmp_path)
        assert data.images.shape == (16, 3, 256, 256) and len(data.categories) == 80


def test_ones_own_data_takes_the_weights_that_came_with_a_built_in_dataset(tmp_path):
    root = tmp_path / "data"
    for name, weights in (("mine", {}), ("coco256", {"resnet50v2": "w.safetensors"})):
        (root / name).mkdir(parents=True)
        part = {"annotations": "a.json", "images": ["i"]}
        descriptor = {"name": name, "train": part, "val": part, "weights": weights}
        (root / name / "dataset.json").write_text(json.dumps(descriptor))
    (root / "coco256" / "w.safetensors").write_bytes(b"")
    assert weights_path("mine", "resnet50v2", root) == root / "coco256" / "w.safetensors"

"""The embedded dataset: repeatable bytes, tight boxes, splits that share nothing, and writing in one step."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from focalrepro.data import DatasetError, load, synthetic
from focalrepro.data.scenes import Glyphs, SceneConfig, draw_scene
from focalrepro.data.synthetic import generate, split_digits, stored_png
from focalrepro.evidence.anchor_statistics import measure
from focalrepro.study.profiles import PROFILES


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def glyphs():
    return Glyphs(*split_digits()["train"])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    generate(root, train_images=30, val_images=12)
    return root


def test_it_loads_like_any_coco_dataset(root):
    train, val = (load("synthetic", split, 128, root=root) for split in ("train", "val"))
    assert train.images.shape == (30, 3, 128, 128) and val.images.shape == (12, 3, 128, 128)
    assert train.categories == val.categories == tuple("0123456789")
    counts = (train.labels >= 0).sum(axis=1)
    assert counts.min() >= 1 and 3 <= counts.max() <= 5
    real = train.boxes[train.labels >= 0]
    sides = real[:, 2:] - real[:, :2]
    assert sides.min() >= 2 and sides.max() <= 41 and real.min() >= 0 and real.max() <= 128
    assert len(train.coco["annotations"]) == counts.sum()
    assert {c["supercategory"] for c in train.coco["categories"]} == {"digit"}
    merged = load("synthetic", "val", 128, classes="supercategories", root=root)
    assert merged.categories == ("digit",)


def test_the_seed_gives_the_bytes(root, tmp_path):
    again = generate(tmp_path / "again", train_images=30, val_images=12)
    assert contents(again) == contents(root / "synthetic")
    other = generate(tmp_path / "other", train_images=30, val_images=12, seed=1)
    assert contents(other)["train.tar"] != contents(again)["train.tar"]


def test_pixels_are_what_they_were_when_the_committed_results_were_made(glyphs):
    # Another library version or processor may not change the scenes: run ids are made from these bytes.
    pixels, boxes, digits, _ = draw_scene(np.random.default_rng(3), glyphs, 128, SceneConfig())
    assert (
        hashlib.sha256(pixels.tobytes() + boxes.tobytes() + digits.tobytes()).hexdigest()[:16]
        == "c516af22fd696a8c"
    )


def test_more_scenes_keep_the_first_ones(root, tmp_path):
    fewer = generate(tmp_path, train_images=5, val_images=2)
    with tarfile.open(fewer / "train.tar") as a, tarfile.open(root / "synthetic" / "train.tar") as b:
        assert len(a.getnames()) == 5
        for name in a.getnames():
            assert a.extractfile(name).read() == b.extractfile(name).read()


@pytest.mark.parametrize("name", synthetic.RARE)
def test_the_name_says_how_rare_assigned_anchors_are(tmp_path, name):
    generate(tmp_path, name, train_images=400, val_images=1)
    config = PROFILES["full-quick"].base.replace(dataset=name)
    data = load(name, "train", 96, classes=config.classes, root=tmp_path)
    assert data.categories == ("digit",)
    rarity = measure(data, config, limit=400).background_per_positive
    assert 0.75 < rarity / int(name.partition("-")[2]) < 1.35


def test_rare_datasets_are_judged_on_the_same_scenes(tmp_path):
    first = generate(tmp_path, "synthetic-100", train_images=3, val_images=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["synthetic-100", "synthetic-1000"]
    assert not (first / "val.tar").exists()
    one, other = (load(n, "val", 96, root=tmp_path) for n in ("synthetic-100", synthetic.JUDGE))
    assert one.digest == other.digest
    stamp = (first / "train.tar").stat().st_mtime_ns
    assert generate(tmp_path, "synthetic-100", train_images=3, val_images=2) == first
    assert (first / "train.tar").stat().st_mtime_ns == stamp


def test_splits_share_no_digit_and_no_scene(root):
    parts = split_digits()
    train, val = ({s.tobytes() for s in parts[split][0]} for split in ("train", "val"))
    assert len(parts["train"][0]) + len(parts["val"][0]) == 1797
    assert 0.15 < len(parts["val"][0]) / 1797 < 0.25 and not train & val
    assert set(parts["val"][1].tolist()) == set(range(10))
    scenes = [
        {image.tobytes() for image in load("synthetic", split, 128, root=root).images}
        for split in ("train", "val")
    ]
    assert len(scenes[0]) == 30 and not scenes[0] & scenes[1]


def test_boxes_are_tight_around_the_ink(glyphs):
    # On a plain background every pixel that differs belongs to the digit.
    plain = SceneConfig(
        digits=(1, 1), distractors=(0, 0), strokes=(0, 0), texture=0, noise=0, tint=0, contrast=(100, 100)
    )
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pixels, boxes, digits, _ = draw_scene(rng, glyphs, 128, plain)
        assert boxes.shape == (1, 4) and digits.shape == (1,)
        grey = pixels.astype(int)[:, :, 0]
        gradient = np.add.outer(_slope(grey[:, 0], grey[:, -1]), _slope(grey[0], grey[-1]))
        x1, y1, x2, y2 = boxes[0]
        ink = np.abs(grey - gradient - np.median(grey - gradient)) > 0.5 * 100
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert np.abs(found - [x1, y1, x2, y2]).max() <= 3, seed
        outside = ink.copy()
        outside[y1:y2, x1:x2] = False
        assert not outside.any(), seed


def _slope(first, last):
    """The straight line through an edge of the scene, free of the digit: its median step is the gradient."""
    edge = first if np.ptp(np.diff(first)) <= np.ptp(np.diff(last)) else last
    return np.linspace(edge[0], edge[-1], len(edge)) - edge[0]


def test_digits_hardly_overlap_and_the_classes_are_balanced(glyphs):
    config = SceneConfig(digits=(5, 5))
    seen = []
    for seed in range(60):
        _, boxes, digits, _ = draw_scene(np.random.default_rng(seed), glyphs, 128, config)
        seen += digits.tolist()
        for i, a in enumerate(boxes):
            for b in boxes[i + 1 :]:
                sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
                union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - np.prod(sides)
                assert np.prod(sides) / union < 0.2
    assert len(seen) >= 280 and np.bincount(seen, minlength=10).min() >= 12


def test_digits_are_small_and_large_dark_and_light(glyphs):
    config = SceneConfig(digits=(1, 1))
    heights, lighter = [], []
    for seed in range(80):
        pixels, boxes, _, _ = draw_scene(np.random.default_rng(seed), glyphs, 128, config)
        x1, y1, x2, y2 = boxes[0]
        heights.append(y2 - y1)
        inner = pixels[y1:y2, x1:x2].astype(float).mean(axis=2)
        lighter.append(np.median(inner) < inner.mean())
    assert min(heights) <= 1.1 * config.smallest and max(heights) >= 0.85 * config.largest
    assert 0.2 < np.mean(lighter) < 0.8


def test_generating_again_is_no_work_and_other_parameters_replace_it(tmp_path):
    folder = generate(tmp_path, train_images=3, val_images=2, size=96)
    stamp = (folder / "train.tar").stat().st_mtime_ns, folder.stat().st_ino
    assert generate(tmp_path, train_images=3, val_images=2, size=96) == folder
    assert ((folder / "train.tar").stat().st_mtime_ns, folder.stat().st_ino) == stamp
    generate(tmp_path, train_images=4, val_images=2, size=96)
    assert json.loads((folder / "dataset.json").read_text())["parameters"]["train_images"] == 4
    assert len(load("synthetic", "train", 96, root=tmp_path)) == 4
    (folder / "val.tar").unlink()
    generate(tmp_path, train_images=4, val_images=2, size=96)
    assert (folder / "val.tar").is_file()
    generate(tmp_path, train_images=4, val_images=2, size=96, scene=SceneConfig(noise=0))
    assert json.loads((folder / "dataset.json").read_text())["parameters"]["scene"]["noise"] == 0
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("cache", "synthetic")] == []


def test_a_killed_generation_leaves_the_old_data(tmp_path, monkeypatch):
    folder = generate(tmp_path, train_images=2, val_images=1)
    before = contents(folder)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "draw_scene", killed)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, train_images=3, val_images=1)
    assert contents(folder) == before and [p.name for p in tmp_path.iterdir()] == ["synthetic"]


@pytest.mark.parametrize("wrong", [{"train_images": 0}, {"val_images": 0}, {"size": 60}, {"seed": -1}])
def test_impossible_parameters_are_refused(tmp_path, wrong):
    with pytest.raises(DatasetError):
        generate(tmp_path, **{"train_images": 1, "val_images": 1, **wrong})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (128, 128), (150, 400)])
def test_stored_png_is_read_back_exactly(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(stored_png(pixels))) as image:
        image.verify()  # checksums
    with Image.open(io.BytesIO(stored_png(pixels))) as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pixels)

"""Datasets by name: registering one's own, and what is not prepared says how to prepare it."""

import json
import shutil

import numpy as np
import pytest
from made import CATEGORIES
from safetensors.numpy import save_file

from focalrepro import files
from focalrepro.data import DatasetError, data_root, load, registry, weights_path
from focalrepro.data.own import register_own
from focalrepro.data.registry import describe
from focalrepro.data.weights import BACKBONE, WEIGHTS


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "root"))
    return tmp_path / "root"


def register(made, name="mine", **more):
    made.load()
    path, others = made.folder / "instances.json", made.folder.with_name("others")
    shutil.copytree(made.images, others, dirs_exist_ok=True)  # an image cannot be in both splits
    return register_own(name, path, [made.images], more.get("val", path), [others])


def test_register_and_load_ones_own_data(made, root):
    assert register(made) == root / "mine" and data_root() == root
    data = load("mine", "val", 20)
    assert data.name == "mine" and data.split == "val" and data.digest == made.load().digest
    assert list((root / "cache").glob("*/images.npy"))
    assert registry.prepared() == ["mine"]
    with pytest.raises(
        DatasetError, match=r"has weights for .resnet50.; run: .*register --name mine … --weights FILE"
    ):
        weights_path("mine", "resnet50")
    with pytest.raises(DatasetError, match="choose one of train, val"):
        load("mine", "test", 20)


def test_one_file_for_both_splits_is_refused(made, root):
    made.load()
    path = made.folder / "instances.json"
    with pytest.raises(DatasetError, match="3 images are in the training and the validation split, as 00"):
        register_own("mine", path, [made.images], path)
    assert registry.prepared(root) == []


@pytest.mark.parametrize("name", ["", "../mine", "a/b", "cache", "coco256", ".hidden"])
def test_register_refuses_names_that_cannot_be_folders(made, root, name):
    with pytest.raises(DatasetError, match="cannot be a dataset's name"):
        register(made, name)


def test_register_checks_images_and_categories_first(made, root, tmp_path):
    made.load()
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**made.value, "categories": [*CATEGORIES, {"id": 91, "name": "hat"}]}))
    with pytest.raises(DatasetError, match=r"different categories.*hat"):
        register(made, val=other)
    (made.images / "005.png").unlink()
    path = made.folder / "instances.json"
    with pytest.raises(DatasetError, match=r"005\.png"):
        register_own("mine", path, [made.images], path)
    assert registry.prepared(root) == []


def test_what_is_not_prepared_says_how_to_prepare_it(made, root):
    with pytest.raises(DatasetError, match=r"run: focalrepro data synthetic$"):
        load("synthetic", "train", 128, root=root)
    with pytest.raises(DatasetError, match=r"run: focalrepro data coco256 --from PATH"):
        load("coco256", "train", 256, root=root)
    register(made)
    with pytest.raises(DatasetError, match=r"unknown dataset 'yours'; registered in .*: mine; "):
        load("yours", "train", 20, root=root)
    (root / "mine" / "dataset.json").write_text('{"train": {}}')
    with pytest.raises(DatasetError, match=r"dataset\.json: not a dataset descriptor"):
        load("mine", "train", 20, root=root)


def test_data_root_is_the_checkouts_unless_told(monkeypatch, tmp_path):
    monkeypatch.delenv("FOCALREPRO_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    expected = files.repo_root()
    assert data_root() == (expected or tmp_path) / "data"
    assert expected is None or (expected / "pyproject.toml").is_file()
    monkeypatch.setattr(files, "repo_root", lambda: None)
    assert data_root() == tmp_path / "data"


def test_weights_of_another_own_dataset_are_not_taken(made, root):
    made.load()
    given = root / "custom.safetensors"
    register(made)
    register(made, "exp")
    save_file({"x": np.zeros(1, np.float32)}, given)
    describe("exp").model_copy(update={"weights": {BACKBONE: str(given)}}).write(root / "exp")
    assert weights_path("exp", BACKBONE) == given
    with pytest.raises(DatasetError, match="no prepared dataset has weights"):
        weights_path("mine", BACKBONE)
    fetched = root / "weights" / WEIGHTS
    fetched.parent.mkdir()
    fetched.write_bytes(given.read_bytes())
    assert weights_path("mine", BACKBONE) == fetched
    given.unlink()
    assert weights_path("mine", BACKBONE) == fetched
    with pytest.raises(DatasetError, match=r"custom.safetensors: the weights are gone; prepare 'exp' again"):
        weights_path("exp", BACKBONE)


def test_a_box_of_negative_width_without_an_area_is_left_out_of_either_part(made, root, caplog):
    for entry in made.value["annotations"]:
        entry.pop("area", None)
    made.value["annotations"][0]["bbox"][2] *= -1
    made.load()
    register_own("mine", made.folder / "instances.json", [made.images])
    boxes = sum(len(load("mine", split, 20).coco["annotations"]) for split in ("train", "val"))
    assert boxes == len(made.value["annotations"]) - 1
    assert "left out 1 boxes that have no area" in caplog.text

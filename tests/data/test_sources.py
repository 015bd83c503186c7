"""Image files in folders and tar files: found by name, never outside, hashed once."""

import tarfile
from unicodedata import normalize

import numpy as np
import pytest
from made import encoded, write_tar
from PIL import Image

from focalrepro.data import DatasetError
from focalrepro.data.own import read_yolo
from focalrepro.data.sources import ImageFile, walk


def test_tars_and_folders_mix_and_give_the_same_data(made, tmp_path):
    expected = made.load()
    tar = write_tar(
        tmp_path / "a.tar",
        {f"train2017/{k:03d}.png": (made.images / f"{k:03d}.png").read_bytes() for k in (5, 7)},
    )
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    (made.images / "002.png").rename(folder / "002.png")
    data = made.load(images=[tar, tmp_path / "deep"], cache=tmp_path / "other")
    np.testing.assert_array_equal(data.images, expected.images)
    assert data.digest == expected.digest


def test_a_path_in_the_annotations_finds_the_bare_file_and_prefers_the_exact_one(made, tmp_path):
    made.value["images"][1]["file_name"] = "train/002.png"
    assert made.load().image_ids.tolist() == [2, 5, 7]
    (made.images / "val").mkdir()
    (made.images / "val" / "002.png").write_bytes(encoded(seed=99))
    (made.images / "train").mkdir()
    (made.images / "002.png").rename(made.images / "train" / "002.png")
    with Image.open(made.images / "train" / "002.png") as image:
        expected = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(made.load().images[0], expected)
    made.value["images"][1]["file_name"] = "002.png"
    with pytest.raises(DatasetError, match=r"'002\.png' could be .* and "):
        made.load()


def test_a_missing_image_is_named_with_where_it_was_looked_for(made):
    (made.images / "005.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 3 images are not in .*images: 005\.png"):
        made.load()


def test_two_images_cannot_share_a_file(made):
    made.value["images"][0]["file_name"] = "002.png"
    with pytest.raises(DatasetError, match="give each its own file"):
        made.load()


@pytest.mark.parametrize(
    "name", ["../002.png", "a/../../002.png", "/etc/002.png", "C:\\002.png", "..\\002.png"]
)
def test_file_names_cannot_leave_the_folder(made, name):
    made.value["images"][1]["file_name"] = name
    with pytest.raises(DatasetError, match=r"images\[1\]\.file_name is .* nowhere leave the image folder"):
        made.load()


def test_a_cut_or_compressed_tar_and_a_missing_path_are_refused(made, tmp_path):
    tar = write_tar(tmp_path / "a.tar", {f"{k:03d}.png": encoded(seed=k) for k in (2, 5, 7)})
    tar.write_bytes(tar.read_bytes()[:9000])
    with pytest.raises(DatasetError, match=r"a\.tar: not a whole, uncompressed tar"):
        made.load(images=[tar])
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        archive.add(made.images, "images")
    with pytest.raises(DatasetError, match="unpack it first"):
        made.load(images=[tmp_path / "b.tar.gz"])
    with pytest.raises(DatasetError, match="no such folder or tar file"):
        made.load(images=[tmp_path / "nowhere"])


def test_the_next_start_hashes_nothing_unless_a_file_changed(made, monkeypatch):
    made.load()
    read = []
    whole = ImageFile.read
    monkeypatch.setattr(ImageFile, "read", lambda self: (read.append(self.name), whole(self))[1])
    before = made.load().digest
    assert read == []
    (made.images / "005.png").write_bytes(encoded(seed=77))
    assert made.load().digest != before
    assert read.count("005.png") == 2  # hashed and decoded


def test_a_tar_is_hashed_once_and_again_when_replaced(made, tmp_path):
    files = {f"{k:03d}.png": encoded(seed=k) for k in (2, 5, 7)}
    tar = write_tar(tmp_path / "a.tar", files)
    before = made.load(images=[tar])
    index = sorted((made.cache / "index").iterdir())
    assert made.load(images=[tar]).digest == before.digest
    assert sorted((made.cache / "index").iterdir()) == index
    write_tar(tar, files | {"005.png": encoded(20, 20, seed=5)})
    assert made.load(images=[tar]).digest != before.digest


def test_a_name_is_found_in_either_form_of_unicode(made):
    made.value["images"][1]["file_name"] = normalize("NFC", "café.png")
    (made.images / "002.png").rename(made.images / normalize("NFD", "café.png"))
    assert made.load().image_ids.tolist() == [2, 5, 7]


def test_images_behind_linked_folders_are_found_each_once(made, tmp_path):
    """A data set is often put together from links, and a link may lead back up."""
    expected, elsewhere = made.load(), tmp_path / "elsewhere"
    made.images.rename(elsewhere)
    made.images.mkdir()
    (made.images / "part").symlink_to(elsewhere, target_is_directory=True)
    (made.images / "again").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "up").symlink_to(made.images, target_is_directory=True)
    assert made.load(cache=tmp_path / "other").digest == expected.digest
    assert sorted(path.name for path in walk(made.images)) == ["002.png", "005.png", "007.png"]


def test_a_yolo_folder_may_be_made_of_links(made, tmp_path):
    root = tmp_path / "yolo"
    root.mkdir()
    (root / "images").symlink_to(made.images, target_is_directory=True)
    (root / "labels").mkdir()
    (root / "labels" / "005.txt").write_text("0 .5 .5 .2 .2\n")
    (root / "data.yaml").write_text("train: .\nval: images\nnames: [cat]\n")
    for content, _ in read_yolo(root / "data.yaml"):
        assert len(content["images"]) == 3 and len(content["annotations"]) == 1

"""YOLO's and Pascal VOC's folders: the same boxes as in COCO's form, and faults by file, line and field."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from made import encoded
from PIL import Image

from focalrepro.data import DatasetError, load
from focalrepro.data.own import read_voc, read_yolo, register_own
from focalrepro.data.pixels import EXIF_ORIENTATION
from focalrepro.data.registry import DESCRIPTOR, describe

SIZES = {"a": (60, 40), "b": (30, 50), "c": (24, 24)}  # width, height
BOXES = {"a": [("dog", (6, 4, 30, 20)), ("cat", (12, 8, 6, 4))], "b": [("cat", (3, 5, 15, 25))], "c": []}
NAMES = ["cat", "dog"]


def images(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.png").write_bytes(encoded(*SIZES[name], seed=ord(name)))


@pytest.fixture
def yolo(tmp_path):
    root = tmp_path / "yolo"
    for split, names in (("train", "ac"), ("val", "b")):
        images(root / "images" / split, names)
        (root / "labels" / split).mkdir(parents=True)
        for name in names.replace("c", ""):
            w, h = SIZES[name]
            lines = [
                f"{NAMES.index(kind)} {(x + bw / 2) / w} {(y + bh / 2) / h} {bw / w} {bh / h}"
                for kind, (x, y, bw, bh) in BOXES[name]
            ]
            (root / "labels" / split / f"{name}.txt").write_text("\n".join(lines) + "\n")
    text = "path: ../elsewhere\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n"
    (root / "data.yaml").write_text(text)
    return root


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "voc"
    images(root / "JPEGImages", "abc")
    (root / "Annotations").mkdir()
    for name, (w, h) in SIZES.items():
        objects = "".join(
            f"<object><name>{kind}</name><difficult>{int(kind == 'dog')}</difficult><bndbox>"
            f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x + bw}</xmax><ymax>{y + bh}</ymax></bndbox></object>"
            for kind, (x, y, bw, bh) in BOXES[name]
        )
        size = f"<size><width>{w}</width><height>{h}</height></size>"
        text = f"<annotation><filename>../{name}.jpg</filename>{size}{objects}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text)
    return root


def boxes_of(content):
    """{image's stem: [(class, box)]} of a COCO file's content."""
    names = {c["id"]: c["name"] for c in content["categories"]}
    found = {i["file_name"].split(".")[0]: [] for i in content["images"]}
    stem = {i["id"]: i["file_name"].split(".")[0] for i in content["images"]}
    for a in content["annotations"]:
        found[stem[a["image_id"]]].append((names[a["category_id"]], tuple(np.round(a["bbox"], 6))))
    return found


def test_yolos_boxes_are_cocos(yolo):
    (train, folder), (val, _) = read_yolo(yolo / "data.yaml")
    assert boxes_of(train) == {k: BOXES[k] for k in "ac"} and boxes_of(val) == {"b": BOXES["b"]}
    assert folder == [yolo / "images" / "train"]
    assert [(i["width"], i["height"]) for i in train["images"]] == [SIZES["a"], SIZES["c"]]
    assert [c["name"] for c in train["categories"]] == NAMES


def test_an_outline_becomes_its_box(yolo):
    (yolo / "labels" / "train" / "a.txt").write_text("1 0.1 0.1 0.6 0.2 0.3 0.6\n")
    assert boxes_of(read_yolo(yolo / "data.yaml")[0][0])["a"] == [("dog", (6, 4, 30, 20))]


def test_keypoints_after_a_box_are_no_outline(yolo):
    file = yolo / "labels" / "train" / "a.txt"
    file.write_text("".join(f"{line} .45 .45 .55 .55\n" for line in file.read_text().splitlines()))
    given = yolo / "data.yaml"
    given.write_text(given.read_text() + "kpt_shape: [2, 2]\n")
    assert boxes_of(read_yolo(given)[0][0])["a"] == BOXES["a"]


def test_labels_may_begin_with_a_byte_order_mark(yolo):
    file = yolo / "labels" / "train" / "a.txt"
    file.write_text(file.read_text(), "utf-8-sig")
    assert boxes_of(read_yolo(yolo / "data.yaml")[0][0])["a"] == BOXES["a"]


def test_labels_beside_the_images_and_roboflows_paths(yolo):
    (yolo / "labels" / "train" / "a.txt").rename(yolo / "images" / "train" / "a.txt")
    (yolo / "data.yaml").write_text("train: ../images/train\nnames: [cat, dog]\n")
    ((train, _),) = read_yolo(yolo / "data.yaml")
    assert boxes_of(train)["a"] == BOXES["a"]


def test_vocs_boxes_are_cocos(voc):
    ((whole, folder),) = read_voc(voc)
    assert boxes_of(whole) == BOXES and folder == [voc / "JPEGImages"]
    assert [a["iscrowd"] for a in whole["annotations"]] == [1, 0, 0], "difficult objects are no targets"
    lists = voc / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nc\n")
    (lists / "val.txt").write_text("b\n")
    (train, _), (val, _) = read_voc(voc)
    assert boxes_of(train) == {k: BOXES[k] for k in "ac"} and boxes_of(val) == {"b": BOXES["b"]}
    assert train["categories"] == val["categories"] == whole["categories"]


def test_both_are_registered_and_loaded(yolo, voc, tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    register_own("y", yolo)
    register_own("v", voc)
    train, val = (load("y", split, 32, resize="letterbox") for split in ("train", "val"))
    assert train.labels[0].tolist() == [1, 0] and len(val) == 1
    back = val.boxes[0, 0] * val.scale[0, [1, 0, 1, 0]]
    np.testing.assert_allclose(back, [3, 5, 18, 30], rtol=1e-5)
    train, val = (load("v", split, 32) for split in ("train", "val"))
    assert (len(train), len(val)) == (2, 1) and train.categories == val.categories == ("cat", "dog")
    assert describe("v").train.annotations == "train.json" and (tmp_path / "data/v/train.json").is_file()


def test_vocs_classes_are_those_of_both_folders(voc, tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    other = voc.with_name("other")
    shutil.copytree(voc, other)
    file = other / "Annotations" / "b.xml"
    file.write_text(file.read_text().replace("<name>cat<", "<name>ant<"))
    for name in "abc":  # other images than those of training
        (other / "JPEGImages" / f"{name}.png").write_bytes(encoded(*SIZES[name], seed=ord(name) + 9))
    register_own("v", voc, (), other)
    train, val = (load("v", split, 32) for split in ("train", "val"))
    assert train.categories == val.categories == ("ant", "cat", "dog")
    assert (train.labels[1].max(), val.labels[1].max()) == (1, 0), "the box of b is a cat here, an ant there"


def test_yolos_labels_are_found_from_within_the_folder(yolo, monkeypatch):
    monkeypatch.chdir(yolo)
    ((train, _), _) = read_yolo(Path("data.yaml"))
    assert boxes_of(train)["a"] == BOXES["a"]


# ---- faults


def spoil(path, text):
    path.write_text(text)


YOLO_FAULTS = [
    ("data.yaml", "names: [", r"data\.yaml: not readable as YAML"),
    ("data.yaml", "train: images/train", r"data\.yaml: `names` is no list of classes; add it"),
    ("data.yaml", "names: [a]", r"data\.yaml: `train` is no folder; add that of the images"),
    ("data.yaml", "names: [a]\ntrain: pics", r"data\.yaml: `train`: there is no folder .*pics; give"),
    ("data.yaml", "names: [a, a]\ntrain: images/train", r"data\.yaml: `names`: 'a' is empty or there twice;"),
    (
        "data.yaml",
        "names: [[a, b]]\ntrain: images/train",
        r"data\.yaml: `names`: a class's name is no text; wr",
    ),
    ("data.yaml", "names: ['', a]\ntrain: images/train", r"data\.yaml: `names`: '' is empty or there twice;"),
    ("labels/train/a.txt", "0 .5 .5 .1", r"a\.txt: line 1: '0 \.5 \.5 \.1' has 4 numbers; give `class x y"),
    ("labels/train/a.txt", "\n\n0 .5 .5 x .1", r"a\.txt: line 3: number 4 is 'x'; it must be a number"),
    ("labels/train/a.txt", "2 .5 .5 .1 .1", r"a\.txt: line 1: class '2'; give one of `names`, 0 … 1"),
    ("labels/train/a.txt", "0 30 20 6 4", r"a\.txt: line 1: 30 is no share of the image; divide pixels"),
    ("labels/train/a.txt", "0 .5 .5 nan .1", r"line 1: number 4 is 'nan'; it must be a number"),
    ("images/train/c.png", "no image", r"c\.png: not an image .*; fetch or export"),
]


@pytest.mark.parametrize(("path", "text", "said"), YOLO_FAULTS)
def test_yolos_faults_are_told_by_file_and_line(yolo, tmp_path, monkeypatch, path, text, said):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    (yolo / path).write_text(text)
    with pytest.raises(DatasetError, match=said):
        register_own("y", yolo)
    assert not (tmp_path / "data" / "y").exists(), "nothing half written"


def test_no_label_at_all_and_turned_photos_are_told(yolo):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    Image.new("RGB", (60, 40)).save(yolo / "images/train/a.png", exif=exif)
    with pytest.raises(DatasetError, match=r"a\.png: asks by EXIF to be turned.*; save it turned"):
        read_yolo(yolo / "data.yaml")
    (yolo / "labels/train/a.txt").unlink()
    with pytest.raises(
        DatasetError, match=r"train: its images have no labels; .* would be .*labels/train/c\.txt"
    ):
        read_yolo(yolo / "data.yaml")


VOC_FAULTS = [
    ("<annotation>", "", r"a\.xml: not readable as XML"),
    ("<name>cat</name>", "", r"a\.xml: object 2: name is missing; add the class"),
    ("<xmax>36</xmax>", "", r"a\.xml: object 1: xmax is missing; it must be a number"),
    ("<ymin>5</ymin>", "<ymin>five</ymin>", r"a\.xml: object 1: ymin is 'five'; it must be a number"),
    (
        "<width>60</width>",
        "<width>0</width>",
        r"a\.xml: size\.width is '0'; it must be a number of 1 or more",
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), VOC_FAULTS)
def test_vocs_faults_are_told_by_file_and_field(voc, old, new, said):
    file = voc / "Annotations" / "a.xml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(DatasetError, match=said):
        read_voc(voc)


def test_two_images_of_one_annotation_are_told(voc):
    (voc / "JPEGImages" / "more").mkdir()
    shutil.copy(voc / "JPEGImages" / "b.png", voc / "JPEGImages" / "more" / "b.png")
    with pytest.raises(DatasetError, match=r"more/b\.png: its annotations could be those of .*/b\.png"):
        read_voc(voc)


def test_what_a_list_names_is_there(voc):
    lists = voc / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nc\n", "utf-8-sig")
    (lists / "val.txt").write_text("b\nd\n")
    with pytest.raises(DatasetError, match=r"val\.txt: 'd' has no file in Annotations; add it, or take it"):
        read_voc(voc)
    (lists / "val.txt").write_text("\nb\n")
    assert [boxes_of(part).keys() for part, _ in read_voc(voc)] == [{"a", "c"}, {"b"}]


def test_what_holds_too_little_is_told_by_its_own_file(voc, tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    (lists := voc / "ImageSets" / "Main").mkdir(parents=True)
    for name in ("train", "val"):
        (lists / f"{name}.txt").touch()
    with pytest.raises(DatasetError, match=r"Main/train\.txt: lists no image; name some"):
        register_own("v", voc)
    shutil.rmtree(lists)
    for name in "bc":
        (voc / "Annotations" / f"{name}.xml").unlink()
    with pytest.raises(DatasetError, match=rf"^{re.escape(str(voc))}: one image cannot be split"):
        register_own("v", voc)
    (voc / "Annotations" / "a.xml").unlink()
    with pytest.raises(DatasetError, match=r"Annotations: there is no object in its \.xml files; label some"):
        register_own("v", voc)


def test_an_annotation_without_its_image_is_told(voc):
    (voc / "JPEGImages" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"b\.xml: no image b\.\* in .*JPEGImages; add it, or remove"):
        read_voc(voc)


# ---- registering


@pytest.fixture
def coco(made, tmp_path, monkeypatch):
    """A COCO file and its images, and an empty data root."""
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "root"))
    made.load()
    return made.folder / "instances.json", [made.images]


def test_one_file_is_split_by_image_and_the_same_way_each_time(coco, tmp_path):
    folder = register_own("mine", *coco)
    train, val = (json.loads((folder / f"{split}.json").read_text()) for split in ("train", "val"))
    assert len(val["images"]) == 1 and len(train["images"]) == 2
    assert {i["id"] for i in train["images"] + val["images"]} == {2, 5, 7}
    for part in (train, val):
        ids = {i["id"] for i in part["images"]}
        assert {a["image_id"] for a in part["annotations"]} <= ids
    assert len(train["annotations"] + val["annotations"]) == 3
    before = (folder / "val.json").read_bytes()
    register_own("mine", *coco)
    assert (folder / "val.json").read_bytes() == before


def test_given_validation_data_is_taken_as_it_is(coco, tmp_path):
    path, where = coco
    others = shutil.copytree(where[0], tmp_path / "others")
    folder = register_own("mine", path, where, path, [others])
    assert [p.name for p in folder.iterdir()] == [DESCRIPTOR], "the files stay where they are"
    assert describe("mine").train.annotations == str(path)


def test_a_name_keeps_its_data(coco, tmp_path):
    path, where = coco
    folder = register_own("mine", path, where)
    before = (folder / DESCRIPTOR).read_bytes()
    other = tmp_path / "other.json"
    other.write_bytes(path.read_bytes())
    with pytest.raises(DatasetError, match=rf"'mine' is the name of {re.escape(str(path))} already"):
        register_own("mine", other, where)
    assert (folder / DESCRIPTOR).read_bytes() == before


def test_what_is_no_dataset_is_told(coco, tmp_path):
    path, _ = coco
    with pytest.raises(DatasetError, match=r"instances\.json: give the folder or tar file of its images"):
        register_own("mine", path)
    with pytest.raises(DatasetError, match=r"has neither data\.yaml nor Annotations/"):
        register_own("mine", tmp_path)
    with pytest.raises(DatasetError, match=r"data\.yaml: says itself where its images are"):
        register_own("mine", tmp_path / "data.yaml", [tmp_path])
    with pytest.raises(DatasetError, match=r"none\.json: no such annotation file"):
        register_own("mine", tmp_path / "none.json", [tmp_path])
    assert not (tmp_path / "root" / "mine").exists()


def test_a_users_own_folder_is_never_replaced(yolo, tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(root := tmp_path / "data"))
    mine = shutil.copytree(yolo, root / "mine")
    with pytest.raises(DatasetError, match=r"data/mine: is there already, without dataset\.json, and would"):
        register_own("mine", mine)
    register_own("other", yolo)
    inside = shutil.copytree(yolo, root / "other" / "more")
    text = (yolo / "data.yaml").read_text()
    (yolo / "data.yaml").write_text(text.replace("../elsewhere", str(inside)))
    with pytest.raises(DatasetError, match=r"images/train: lies in .*data/other, which would be replaced"):
        register_own("other", yolo)
    assert (mine / "images/val/b.png").is_file() and (inside / "images/val/b.png").is_file()


def test_the_mend_of_a_damaged_descriptor_mends_it(yolo, tmp_path, monkeypatch):
    monkeypatch.setenv("FOCALREPRO_DATA", str(tmp_path / "data"))
    folder = register_own("y", yolo)
    (folder / DESCRIPTOR).write_text("{}")
    with pytest.raises(DatasetError, match=rf"dataset\.json: .*; move {folder} away and register it again"):
        register_own("y", yolo)
    folder.rename(tmp_path / "away")
    register_own("y", yolo)
    assert describe("y").train.annotations == "train.json"

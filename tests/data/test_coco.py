"""The COCO loader: geometry, image modes, what is refused and how, the cache, and the registry."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from focalrepro import files
from focalrepro.data import DatasetError, data_root, load, load_coco, registry, weights_path
from focalrepro.data import pixels as pixels_module
from focalrepro.data.sources import ImageFile

CATEGORIES = [
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 17, "name": "cat", "supercategory": "animal"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 90, "name": "bus", "supercategory": "vehicle"},
]


def encoded(width=60, height=40, mode="RGB", kind="PNG", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


def image_entry(key, name=None, width=60, height=40):
    return {"id": key, "file_name": name or f"{key:03d}.png", "width": width, "height": height}


def box_entry(key, image, bbox, category=3, **more):
    return {"id": key, "image_id": image, "category_id": category, "bbox": bbox, **more}


class Made:
    """A COCO dataset in a temporary folder, which a test spoils before it loads it."""

    def __init__(self, folder):
        self.folder, self.images, self.cache = folder, folder / "images", folder / "cache"
        self.images.mkdir()
        self.value = {
            "images": [image_entry(7), image_entry(2), image_entry(5)],
            "annotations": [
                box_entry(10, 7, [6, 4, 30, 20], 18),
                box_entry(11, 2, [0, 0, 60, 40], 90),
                box_entry(12, 7, [30, 20, 15, 10], 3),
            ],
            "categories": [dict(c) for c in CATEGORIES],
        }
        for key in (2, 5, 7):
            (self.images / f"{key:03d}.png").write_bytes(encoded(seed=key))

    def load(self, size=20, images=None, **more):
        path = self.folder / "instances.json"
        path.write_text(json.dumps(self.value))
        more = {"cache": self.cache, "progress": False, **more}
        return load_coco(path, images or [self.images], size, name="made", split="train", **more)


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


# ------------------------------------------------------------------------------------- geometry, labels


def test_boxes_labels_and_sizes_in_the_squashed_frame(made):
    data = made.load(size=20)
    assert data.image_ids.tolist() == [2, 5, 7] and data.frame == 20 and len(data) == 3
    assert data.images.shape == (3, 3, 20, 20) and data.images.dtype == np.uint8
    assert data.boxes.dtype == np.float32 and data.labels.dtype == np.int64 and data.sizes.dtype == np.float32
    assert data.sizes.tolist() == [[40, 60]] * 3
    assert data.labels.tolist() == [[3, -1], [-1, -1], [2, 0]]  # ids with gaps -> 0..3
    # 60×40 squashed to 20×20: x by 1/3, y by 1/2
    np.testing.assert_allclose(data.boxes[2], [[2, 2, 12, 12], [10, 10, 15, 15]], rtol=1e-6)
    np.testing.assert_array_equal(data.boxes[0], [[0, 0, 20, 20], [0, 0, 0, 0]])
    assert data.categories == ("car", "cat", "dog", "bus")


def test_evaluation_dict_is_in_the_original_frame_and_complete(made):
    coco = made.load().coco
    assert coco["info"] == {}  # evaluators want the key
    assert [a["id"] for a in coco["annotations"]] == [1, 2, 3]
    first = coco["annotations"][0]
    assert first["bbox"] == [6, 4, 30, 20] and first["category_id"] == 3 and first["image_id"] == 7
    assert first["area"] == 600 and first["iscrowd"] == 0  # both absent from the file
    assert [c["id"] for c in coco["categories"]] == [1, 2, 3, 4]
    assert [i["id"] for i in coco["images"]] == [2, 5, 7]


def test_an_area_that_is_given_is_kept(made):
    made.value["annotations"][0]["area"] = 123.5
    assert made.load().coco["annotations"][0]["area"] == 123.5


def test_evaluation_dict_works_with_pycocotools(made):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = made.load().coco
    truth.createIndex()
    detections = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth.dataset["annotations"]
    ]
    judge = COCOeval(truth, truth.loadRes(detections), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1.0)


def test_crowd_boxes_are_only_for_evaluation(made):
    made.value["annotations"].append(box_entry(13, 5, [1, 1, 20, 20], iscrowd=1))
    data = made.load()
    assert data.labels[1].tolist() == [-1, -1]
    assert [a["iscrowd"] for a in data.coco["annotations"]] == [0, 0, 0, 1]


def test_a_box_that_leaves_the_image_is_clipped_for_training_only(made):
    made.value["annotations"] = [box_entry(1, 2, [-6, 10, 36, 100])]
    data = made.load(size=20)
    np.testing.assert_allclose(data.boxes[0, 0], [0, 5, 10, 20])
    assert data.coco["annotations"][0]["bbox"] == [-6, 10, 36, 100]


@pytest.mark.parametrize("bbox", [[5, 5, 0, 9], [5, 5, 9, -2], [70, 5, 9, 9], [5, 5, 1e-12, 9]])
def test_a_box_without_area_is_left_out_and_counted(made, caplog, bbox):
    made.value["annotations"].append(box_entry(13, 5, bbox))
    data = made.load()
    assert (data.labels >= 0).sum() == 3 and len(data.coco["annotations"]) == 3
    assert "left out 1 boxes" in caplog.text


def test_no_boxes_at_all_leaves_one_padded_slot(made):
    made.value["annotations"] = []
    data = made.load()
    assert data.boxes.shape == (3, 1, 4) and (data.labels == -1).all()


def test_supercategories_merge_in_order_of_first_appearance(made):
    data = made.load(classes="supercategories")
    assert data.categories == ("vehicle", "animal")
    assert data.labels.tolist() == [[0, -1], [-1, -1], [1, 0]]
    assert [a["category_id"] for a in data.coco["annotations"]] == [2, 1, 1]
    assert [(c["id"], c["name"]) for c in data.coco["categories"]] == [(1, "vehicle"), (2, "animal")]


def test_supercategories_need_names(made):
    del made.value["categories"][1]["supercategory"]
    with pytest.raises(DatasetError, match=r"cat.*supercategory"):
        made.load(classes="supercategories")
    assert made.load().categories[1] == "cat"


def test_limit_takes_the_lowest_ids(made):
    data = made.load(limit=2)
    assert data.image_ids.tolist() == [2, 5]
    assert [a["image_id"] for a in data.coco["annotations"]] == [2]
    np.testing.assert_array_equal(data.images, made.load().images[:2])
    with pytest.raises(DatasetError, match="limit"):
        made.load(limit=-1)


# ------------------------------------------------------------------------------------------------ images


def test_squash_is_pillows_antialiased_bilinear_and_whole_images_stay_untouched(made):
    with Image.open(made.images / "002.png") as image:
        expected = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(made.load(size=20).images[0], expected)
    (made.images / "002.png").write_bytes(encoded(20, 20, seed=9))
    with Image.open(made.images / "002.png") as image:
        exact = np.asarray(image).transpose(2, 0, 1)
    data = made.load(size=20)
    np.testing.assert_array_equal(data.images[0], exact)
    assert data.sizes[0].tolist() == [40, 60]  # the JSON's size counts, not the file's


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG")])
def test_image_modes_become_rgb(made, mode, kind):
    data = encoded(mode=mode, kind=kind)
    (made.images / "002.png").write_bytes(data)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode
        expected = np.asarray(image.convert("RGB").resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(made.load().images[0], expected.transpose(2, 0, 1))


def test_16_bit_grey_keeps_its_shades(made):
    ramp = np.tile(np.linspace(0, 65535, 20).astype(np.uint16), (20, 1))
    Image.fromarray(ramp).save(made.images / "002.png")
    np.testing.assert_array_equal(made.load().images[0, 0], ramp >> 8)


@pytest.mark.parametrize("spoil", [lambda d: d[: len(d) // 2], lambda d: b"no image", lambda d: b""])
def test_a_corrupt_image_is_named_and_leaves_nothing_behind(made, spoil):
    path = made.images / "005.png"
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    with pytest.raises(DatasetError, match=r"images/005\.png: not a whole image"):
        made.load()
    assert not list(made.cache.rglob("*.npy"))
    path.write_bytes(whole)
    assert len(made.load()) == 3


def write_tar(path, files):
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


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


# ---------------------------------------------------------------------------------- refused annotations


def put(*path_and_value):
    *path, last, value = path_and_value

    def spoil(coco):
        for key in path:
            coco = coco[key]
        coco[last] = value

    return spoil


def drop(*path):
    *path, last = path

    def spoil(coco):
        for key in path:
            coco = coco[key]
        del coco[last]

    return spoil


REFUSED = [
    (drop("images"), "images is missing; add the field"),
    (drop("annotations"), "annotations is missing"),
    (put("categories", {}), r"categories is \{\}; it should be a valid list"),
    (put("categories", []), r"categories is \[\]; List should have at least 1 item"),
    (put("images", []), r"images is \[\]; List should have at least 1 item"),
    (put("images", 1, "id", 7), r"images\[1\]\.id: 7 is also images\[0\]"),
    (put("images", 0, "id", "7"), r"images\[0\]\.id is '7'; it should be a valid integer"),
    (drop("images", 2, "id"), r"images\[2\]\.id is missing"),
    (drop("images", 2, "file_name"), r"images\[2\]\.file_name is missing"),
    (drop("images", 2, "width"), r"images\[2\]\.width is missing"),
    (put("images", 2, "height", 0), r"images\[2\]\.height is 0; it should be greater"),
    (put("images", 0, 5), r"images\[0\] is 5; it should be a valid dictionary"),
    (drop("categories", 0, "name"), r"categories\[0\]\.name is missing"),
    (put("categories", 1, "id", 3), r"categories\[1\]\.id: 3 is also"),
    (put("annotations", 2, "id", 10), r"annotations\[2\]\.id: 10 is also annotations\[0\]"),
    (drop("annotations", 1, "id"), r"annotations\[1\]\.id is missing"),
    (put("annotations", 1, "image_id", 99), r"annotations\[1\]\.image_id: none of the images has the id 99"),
    (
        put("annotations", 1, "category_id", 4),
        r"annotations\[1\]\.category_id: none of the categories has the id 4",
    ),
    (drop("annotations", 1, "category_id"), r"annotations\[1\]\.category_id is missing"),
    (drop("annotations", 1, "bbox"), r"annotations\[1\]\.bbox is missing"),
    (
        put("annotations", 1, "bbox", [1, 2, 3]),
        r"annotations\[1\]\.bbox is \[1, 2, 3\]; List should have at least 4",
    ),
    (put("annotations", 1, "bbox", [1, 2, 3, float("nan")]), r"annotations\[1\]\.bbox"),
    (put("annotations", 1, "bbox", [1, 2, 3, float("inf")]), r"annotations\[1\]\.bbox"),
    (put("annotations", 1, "bbox", [1, 2, "3", 4]), r"annotations\[1\]\.bbox"),
    (put("annotations", 1, "area", "big"), r"annotations\[1\]\.area"),
    (put("annotations", 1, "iscrowd", 2), r"annotations\[1\]\.iscrowd"),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_malformed_annotations_are_refused_by_place(made, spoil, message):
    spoil(made.value)
    with pytest.raises(DatasetError, match=rf"instances\.json: .*{message}"):
        made.load()


def test_a_file_that_is_no_coco_json(made, tmp_path):
    def load_text(text):
        path = tmp_path / "other.json"
        path.write_text(text)
        return load_coco(path, [made.images], 20, name="n", split="s", cache=made.cache, progress=False)

    with pytest.raises(DatasetError, match=r"other\.json: not readable as JSON"):
        load_text('{"images": [')
    with pytest.raises(DatasetError, match="holds a list"):
        load_text("[]")
    with pytest.raises(DatasetError, match="no such annotation file"):
        load_coco(tmp_path / "no.json", [made.images], 20, name="n", split="s", cache=made.cache)


def test_size_and_classes_are_checked(made):
    with pytest.raises(DatasetError, match="size is 0"):
        made.load(size=0)
    with pytest.raises(DatasetError, match="supercategories"):
        made.load(classes="super")


# -------------------------------------------------------------------------------------- cache and digest


def count_decodes(monkeypatch):
    calls = []
    original = pixels_module.decode
    monkeypatch.setattr(pixels_module, "decode", lambda *a: (calls.append(a[2]), original(*a))[1])
    return calls


def test_images_are_decoded_once_whatever_the_classes(made, monkeypatch):
    calls = count_decodes(monkeypatch)
    first = made.load()
    assert len(calls) == 3
    again, merged = made.load(), made.load(classes="supercategories")
    assert len(calls) == 3 and again.digest == first.digest and merged.digest != first.digest
    assert isinstance(again.images, np.memmap) and not again.images.flags.writeable
    made.load(size=24)
    assert len(calls) == 6
    made.load(size=20)  # both frames are kept
    assert len(calls) == 6


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


def test_a_spoiled_cache_is_made_again(made, caplog):
    first = made.load()
    expected, (path,) = np.array(first.images), list(made.cache.glob("*/images.npy"))
    path.write_bytes(path.read_bytes()[:1000])
    np.testing.assert_array_equal(made.load().images, expected)
    assert "not a whole array" in caplog.text
    for index in (made.cache / "index").iterdir():
        index.write_text("{ no json")
    assert made.load().digest == first.digest


def test_a_killed_decoding_is_not_taken_for_done(made, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pixels_module, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        made.load()
    assert not list(made.cache.rglob("*.npy"))
    monkeypatch.undo()
    assert made.load().images.any()


def test_digest_follows_content_and_not_place(made, tmp_path):
    base = made.load().digest
    assert len(base) == 64 and base == made.load(cache=tmp_path / "elsewhere").digest
    digests = {base, made.load(size=21).digest, made.load(limit=2).digest}
    made.value["annotations"][0]["bbox"] = [6, 4, 30, 21]
    digests.add(made.load().digest)
    made.value["annotations"][0] |= {"bbox": [6, 4, 30, 20], "category_id": 17}
    digests.add(made.load().digest)
    made.value["annotations"][0]["category_id"] = 18
    assert made.load().digest == base
    made.value["annotations"].append(box_entry(50, 5, [1, 1, 5, 5], iscrowd=1))
    digests.add(made.load().digest)  # training is the same, evaluation is not
    assert len(digests) == 6


# ------------------------------------------------------------------------------------------------ registry


def register(made, root, name="mine", **more):
    made.load()
    path = made.folder / "instances.json"
    return registry.register(name, [path, [made.images], more.get("val", path), [made.images]], root)


def test_register_and_load_ones_own_data(made, tmp_path, monkeypatch):
    root = tmp_path / "root"
    monkeypatch.setenv("FOCALREPRO_DATA", str(root))
    assert register(made, root) == root / "mine" and data_root() == root
    data = load("mine", "val", 20, progress=False)
    assert data.name == "mine" and data.split == "val" and data.digest == made.load().digest
    assert list((root / "cache").glob("*/images.npy"))
    assert registry.prepared() == ["mine"]
    with pytest.raises(
        DatasetError, match=r"has weights for .resnet50.; run: .*register --name mine … --weights FILE"
    ):
        weights_path("mine", "resnet50")
    with pytest.raises(DatasetError, match="choose one of train, val"):
        load("mine", "test", 20)


@pytest.mark.parametrize("name", ["", "../mine", "a/b", "cache", "coco256", ".hidden"])
def test_register_refuses_names_that_cannot_be_folders(made, tmp_path, name):
    with pytest.raises(DatasetError, match="cannot be a dataset's name"):
        register(made, tmp_path / "root", name)


def test_register_checks_images_and_categories_first(made, tmp_path):
    made.load()
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**made.value, "categories": [*CATEGORIES, {"id": 91, "name": "hat"}]}))
    with pytest.raises(DatasetError, match=r"different categories.*hat"):
        register(made, tmp_path / "root", val=other)
    (made.images / "005.png").unlink()
    path = made.folder / "instances.json"
    with pytest.raises(DatasetError, match=r"005\.png"):
        registry.register("mine", [path, [made.images]] * 2, tmp_path / "root")
    assert registry.prepared(tmp_path / "root") == []


def test_what_is_not_prepared_says_how_to_prepare_it(made, tmp_path):
    root = tmp_path / "root"
    with pytest.raises(DatasetError, match=r"run: focalrepro data synthetic$"):
        load("synthetic", "train", 128, root=root)
    with pytest.raises(DatasetError, match=r"run: focalrepro data coco256 --from PATH"):
        load("coco256", "train", 256, root=root)
    register(made, root)
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

"""Annotations: geometry and labels as training and evaluation have them, and what is refused by place."""

import json

import numpy as np
import pytest
from made import box_entry

from focalrepro.data import DatasetError, load_coco


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
    (put("annotations", 1, "area", -5), r"annotations\[1\]\.area"),  # no metric would count it
    (put("annotations", 1, "area", 1e11), r"annotations\[1\]\.area"),
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
        return load_coco(path, [made.images], 20, name="n", split="s", cache=made.cache)

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


def test_a_byte_order_mark_is_read_over(made):
    assert len(made.load(text="\ufeff" + json.dumps(made.value))) == 3

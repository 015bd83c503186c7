"""A made-up COCO dataset that tests spoil before they load it."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

from focalrepro.data import load_coco

CATEGORIES = [
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 17, "name": "cat", "supercategory": "animal"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 90, "name": "bus", "supercategory": "vehicle"},
]


def encoded(width=60, height=40, mode="RGB", kind="PNG", seed=0, **more):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **more)
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

    def load(self, size=20, images=None, text=None, **more):
        path = self.folder / "instances.json"
        path.write_text(json.dumps(self.value) if text is None else text)
        more = {"cache": self.cache, **more}
        return load_coco(path, images or [self.images], size, name="made", split="train", **more)


def write_tar(path, files, **more):
    with tarfile.open(path, "w", **more) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path

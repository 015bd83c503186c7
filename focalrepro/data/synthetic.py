"""The embedded dataset: handwritten digits hidden in cluttered scenes, in COCO format, made in seconds.

It has the imbalance that focal loss is about: a scene holds one to five digits of 10–40 px among textures,
strokes and pieces of digits, so nearly every anchor is background and some background is hard.
RARE holds datasets of another kind, for one class, object or background: most scenes hold few digits or none,
and among what is none are digits with a flaw. Their names say how rare assigned anchors are; in nothing else
do their training scenes differ, and all are judged on the same validation scenes.

The digits are scikit-learn's copy of the UCI handwritten digits.  The bytes on disk follow from the seed
alone: all is float64 or integers, and the PNGs are uncompressed, because compressors differ between versions.
"""

import hashlib
import io
import json
import struct
import tarfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from focalrepro.config import RARITIES
from focalrepro.data.registry import SPLITS, Descriptor, Part, check_replaced, describe
from focalrepro.data.scenes import Glyphs, SceneConfig, draw_scene
from focalrepro.data.split import DatasetError
from focalrepro.files import new_folder, write_json

NAME = "synthetic"
# Raise it when the same parameters give other bytes.
GENERATOR_VERSION = 1
# Share of the handwritten samples that only validation scenes may show.
VAL_SHARE = 0.2
CATEGORIES = [{"id": k + 1, "name": str(k), "supercategory": "digit"} for k in range(10)]


def _part(split: str, where: str = "") -> Part:
    return Part(annotations=f"{where}annotations/instances_{split}.json", images=[f"{where}{split}.tar"])


PARTS = {split: _part(split) for split in SPLITS}
SIZES = {"train_images": 1500, "val_images": 300, "size": 128}
RARE_SIZES = {"train_images": 1000, "val_images": 800, "size": 96}
JUDGE = f"{NAME}-1000"  # whose validation scenes serve all of RARE
_SCENES = (  # one anchor in so many as the name says is assigned to a digit
    {"empty": 0.0, "digits": (4, 8)},
    {"empty": 0.2, "digits": (1, 4)},
    {"empty": 0.6, "digits": (1, 2)},
    {"empty": 0.867, "digits": (1, 2)},
    {"empty": 0.94, "digits": (1, 1)},
)
RARE: dict[str, dict[str, Any]] = dict(zip(RARITIES, _SCENES, strict=True))


def generate(
    root: Path, name: str = NAME, *, seed: int = 0, scene: SceneConfig | None = None, **sizes: int
) -> Path:
    """Write `root/<name>/`: annotations/, one tar of PNGs per split, dataset.json.  Returns that folder.

    name: NAME, or one of RARE. sizes: train_images, val_images and size, the side of the scenes in pixels,
    where they are to be others than SIZES or RARE_SIZES. If the folder was made with the same parameters,
    nothing is done; if with others, it is replaced. No digit sample and no scene is in both splits.
    Errors: DatasetError for a number that is too small.
    """
    scene = scene or (SceneConfig(largest=40, near=0.5, **RARE[name]) if name in RARE else SceneConfig())
    least = {"train_images": 1, "val_images": 1, "size": 2 * scene.largest, "seed": 0}
    given = (RARE_SIZES if name in RARE else SIZES) | sizes | {"seed": seed}
    for key, value in given.items():
        if value < least[key]:
            raise DatasetError(f"{key} is {value}: give a number from {least[key]} up")
    parts = PARTS
    if name in RARE and name != JUDGE:
        generate(root, JUDGE, **given)
        parts = PARTS | {"val": _part("val", f"../{JUDGE}/")}
    parameters = {"generator": GENERATOR_VERSION, **given, "scene": asdict(scene)}
    final = Path(root) / name
    if _is_made(final, parameters, parts):
        return final
    check_replaced(final, "move it")
    glyphs = {split: Glyphs(*samples) for split, samples in split_digits().items()}
    with new_folder(final) as folder:
        for number, split in enumerate(SPLITS):
            if parts[split] is PARTS[split]:
                count = given[f"{split}_images"]
                _write_split(folder, split, count, given["size"], [seed, number], glyphs[split], scene)
        Descriptor(name=name, **parts, made_by=f"focalrepro data {name}", parameters=parameters).write(folder)
    return final


def _is_made(folder: Path, parameters: dict, parts: dict[str, Part]) -> bool:
    try:
        made = describe(folder.name, folder.parent).parameters
    except DatasetError:
        return False
    same = made == json.loads(json.dumps(parameters))  # through JSON, because tuples come back as lists
    paths = (folder / path for part in parts.values() for path in (part.annotations, *part.images))
    return same and all(path.is_file() for path in paths)


def split_digits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{split: (samples float64 [n,8,8] in 0..1, digits int64 [n])}; a hash of the index decides the split."""
    from sklearn.datasets import load_digits  # slow to import, and only needed to generate

    digits = load_digits()
    samples, targets = digits.images / 16.0, digits.target.astype(np.int64)
    draws = [hashlib.sha256(str(index).encode()).digest()[0] / 256 for index in range(len(samples))]
    val = np.array(draws) < VAL_SHARE
    return {"train": (samples[~val], targets[~val]), "val": (samples[val], targets[val])}


def _write_split(
    folder: Path, split: str, count: int, size: int, seed: list[int], glyphs: Glyphs, scene: SceneConfig
) -> None:
    images, annotations = [], []
    with tarfile.open(folder / f"{split}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(count):
            # One generator a scene: the first scenes stay the same when more of them are asked for.
            pixels, boxes, labels, _ = draw_scene(np.random.default_rng([*seed, number]), glyphs, size, scene)
            name = f"{split}/{number + 1:06d}.png"
            data = stored_png(pixels)
            entry = tarfile.TarInfo(name)  # time 0 and no owner, so that the bytes repeat
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
            images.append({"id": number + 1, "file_name": name, "width": size, "height": size})
            for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
                ids = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": label + 1}
                box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                annotations.append(ids | box)
    info = {"description": f"Handwritten digits in clutter, {split}; digits: UCI, as in scikit-learn"}
    value = {"info": info, "images": images, "annotations": annotations, "categories": CATEGORIES}
    write_json(folder / PARTS[split].annotations, value)


def stored_png(pixels: np.ndarray) -> bytes:
    """uint8 [H,W,3] -> an uncompressed PNG, whose bytes depend on the pixels and on nothing else."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    blocks = [raw[start : start + 65535] for start in range(0, len(raw), 65535)]
    deflate = b"".join(
        struct.pack("<BHH", index == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
        for index, block in enumerate(blocks)
    )
    stream = b"\x78\x01" + deflate + struct.pack(">I", zlib.adler32(raw))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")

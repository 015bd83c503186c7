"""The embedded dataset: handwritten digits hidden in cluttered scenes, in COCO format, made in seconds.

It asks focal loss's question, object or background: most scenes are empty, the others hold one or
two digits of 10–40 px among textures, strokes, pieces of digits and digits with a flaw, so that about one
anchor in a thousand is assigned to a digit. Detectors of the profiles learn one class, the supercategory; the
ten digits stay the categories, for who wants them. RARER holds the same scenes with more and with fewer
digits.

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

from focalrepro.data.registry import SPLITS, Descriptor, Part, describe
from focalrepro.data.scenes import Glyphs, SceneConfig, draw_scene
from focalrepro.data.split import DatasetError
from focalrepro.files import new_folder, write_json

NAME = "synthetic"
# Raise it when the same parameters give other bytes.
GENERATOR_VERSION = 2
# Share of the handwritten samples that only validation scenes may show.
VAL_SHARE = 0.2
CATEGORIES = [{"id": k + 1, "name": str(k), "supercategory": "digit"} for k in range(10)]
PARTS = {s: Part(annotations=f"annotations/instances_{s}.json", images=[f"{s}.tar"]) for s in SPLITS}
# Datasets that differ from NAME in how many digits the training scenes hold, and in nothing else: the name
# says that about one anchor in so many is assigned to one. They are judged on NAME's validation scenes.
RARER: dict[str, dict[str, Any]] = {
    f"{NAME}-100": {"empty": 0.0, "digits": (4, 8)},
    f"{NAME}-300": {"empty": 0.2, "digits": (1, 4)},
    f"{NAME}-3000": {"empty": 0.867, "digits": (1, 2)},
    f"{NAME}-10000": {"empty": 0.94, "digits": (1, 1)},
}


def generate(
    root: Path,
    name: str = NAME,
    *,
    train_images: int = 1000,
    val_images: int = 800,
    size: int = 96,
    seed: int = 0,
    scene: SceneConfig | None = None,
) -> Path:
    """Write `root/<name>/`: annotations/, one tar of PNGs per split, dataset.json.  Returns that folder.

    name: NAME, or one of RARER, which makes NAME first and keeps its validation split. Scenes are size×size
    pixels. If the folder was made with the same parameters, nothing is done; if with others, it is replaced.
    No digit sample and no scene is in both splits.
    """
    scene = scene or SceneConfig(**RARER.get(name, {}))
    least = {"train_images": 1, "val_images": 1, "size": 2 * scene.largest, "seed": 0}
    given = {"train_images": train_images, "val_images": val_images, "size": size, "seed": seed}
    for key, value in given.items():
        if value < least[key]:
            raise DatasetError(f"{key} is {value}: give a number from {least[key]} up")
    parts = PARTS
    if name in RARER:
        beside = generate(root, **given).name
        val = PARTS["val"]
        there = Part(annotations=f"../{beside}/{val.annotations}", images=[f"../{beside}/{val.images[0]}"])
        parts = {"train": PARTS["train"], "val": there}
    parameters = {"generator": GENERATOR_VERSION, **given, "scene": asdict(scene)}
    final = Path(root) / name
    if _is_made(final, parameters, parts):
        return final
    glyphs = {split: Glyphs(*samples) for split, samples in split_digits().items()}
    with new_folder(final) as folder:
        for number, (split, count) in enumerate(zip(SPLITS, (train_images, val_images), strict=True)):
            if parts[split] is PARTS[split]:
                _write_split(folder, split, count, size, [seed, number], glyphs[split], scene)
        Descriptor(name=name, **parts, made_by=f"focalrepro data {name}", parameters=parameters).write(folder)
    return final


def _is_made(folder: Path, parameters: dict, parts: dict[str, Part]) -> bool:
    try:
        made = describe(folder.name, folder.parent).parameters
    except DatasetError:
        return False
    same = made == json.loads(json.dumps(parameters))  # through JSON, because tuples come back as lists
    return same and all(
        (folder / p).is_file() for part in parts.values() for p in (part.annotations, *part.images)
    )


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
            pixels, boxes, labels = draw_scene(np.random.default_rng([*seed, number]), glyphs, size, scene)
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

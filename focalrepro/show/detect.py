"""What a kept model finds in images of one's own: a table, pictures with boxes, a JSON file."""

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor, nn

from focalrepro import hardware
from focalrepro.config import RunConfig
from focalrepro.data.pixels import decode, is_turned, to_rgb
from focalrepro.data.split import pictures_in, scale_of
from focalrepro.evaluation.detect import finder, maps_of
from focalrepro.files import write_atomic, write_json
from focalrepro.show.style import COLOURS
from focalrepro.study import kept


@torch.inference_mode()
def boxes_in(
    model: nn.Module,
    config: RunConfig,
    pixels: np.ndarray,
    device: torch.device,
    picture: Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [D, 4] in the frame's pixels, scores [D] and labels [D], best first, of uint8 [3, S, S]; picture
    [4]: what is no padding."""
    pictures = None if picture is None else picture[None].to(device)
    (found, _), *_ = finder(model, config, device)(maps_of(model, config, pixels[None], device), pictures)
    return tuple(part.float().cpu().numpy() for part in found)


def detect_images(
    run: str, images: Sequence[Path], score: float, json_file: Path | None, out: Path, device: str
) -> list[str]:
    """Detects with a run's kept model; returns the lines of a table of what scores `score` or more.

    Writes a picture of these for each image, turned as EXIF asks, OUT/<name>-<run>.png, and to the JSON file
    every detection.
    Errors: as `kept.find` and `kept.load`; ValueError that names an option, or an image which cannot be read,
    before anything is written.
    """
    if len({path.stem for path in images}) < max(1, len(images)):
        raise ValueError("give images, at least one, whose names differ: their pictures take them")
    if not 0 <= score <= 1:
        raise ValueError(f"--score is {score}; it must lie in 0 … 1")
    if json_file:
        _may_be_written(json_file, images)
    store, record = kept.find(run)
    (model, names), config = kept.load(store, record), record.config
    contents = [upright(path.read_bytes()) for path in images]
    size, how = config.image_size, config.resize
    decoded = [decode(data, size, str(p), how) for p, data in zip(images, contents, strict=True)]
    on = hardware.use_device(device)
    model = model.to(on, memory_format=torch.channels_last)
    lines, every = [f"{'image':24} {'class':16} score  x1 y1 x2 y2"], []
    for path, data, (pixels, height, width, _) in zip(images, contents, decoded, strict=True):
        sizes = np.array([(height, width)], np.float32)
        pictures = pictures_in(sizes, size, how)
        shown = None if pictures is None else torch.from_numpy(pictures[0])
        boxes, scores, labels = boxes_in(model, config, pixels, on, shown)
        boxes = (boxes * scale_of(sizes, size, pictures)[:, [1, 0, 1, 0]]).clip(0, [width, height] * 2)
        found = [
            {"image": str(path), "class": names[int(label)], "score": round(float(p), 4)}
            | {"box": [round(float(v), 1) for v in box]}
            for box, p, label in zip(boxes, scores, labels, strict=True)
        ]
        shown = [d for d in found if d["score"] >= score]
        for d in shown:
            corners = " ".join(f"{v:.0f}" for v in d["box"])
            lines.append(f"{path.name:24} {d['class']:16} {d['score']:.3f}  {corners}")
        every += found
        target = out / f"{path.stem}-{record.run_id}.png"
        write_atomic(target, drawn(data, shown, names))
        best = f", the best {found[0]['score']:.3f}" if found else ""
        lines.append(f"{target}: {len(shown)} of {len(found)} detections score {score:g} or more{best}")
    if json_file:
        write_json(json_file, {"run": record.run_id, "classes": names, "detections": every})
        lines.append(f"{json_file}: all {len(every)} detections, boxes as x1 y1 x2 y2 in pixels")
    return lines


def _may_be_written(path: Path, images: Sequence[Path]) -> None:
    """ValueError where --json was given something else than a place for its file, as one of the images."""
    if path.is_dir():
        raise ValueError(f"--json is {path}, a folder; give a file")
    if any(path.resolve() == image.resolve() for image in images):
        raise ValueError(f"--json is {path}, one of the images; give a file of its own")
    if path.is_file() and path.stat().st_size and b'"detections"' not in path.read_bytes():
        raise ValueError(f"--json is {path}, which holds something else; give a file of its own")


def upright(data: bytes) -> bytes:
    """An encoded image, turned where its EXIF asks for it; what cannot be read stays as it is."""
    with suppress(Exception), Image.open(io.BytesIO(data)) as image:
        if is_turned(image):
            buffer = io.BytesIO()
            to_rgb(ImageOps.exif_transpose(image)).save(buffer, "PPM")
            return buffer.getvalue()
    return data


def drawn(data: bytes, found: Sequence[dict], names: Sequence[str]) -> bytes:
    """An encoded image with boxes, as PNG: a colour for each class, and the class and score above its box."""
    with Image.open(io.BytesIO(data)) as image:
        picture = to_rgb(image).copy()
    pen, size = ImageDraw.Draw(picture), max(10, max(picture.size) // 50)
    for d in reversed(found):  # the best on top
        colour = COLOURS[names.index(d["class"]) % len(COLOURS)]
        x1, y1, *_ = d["box"]
        pen.rectangle(d["box"], outline=colour, width=max(1, size // 8))
        text, font = f"{d['class']} {d['score']:.2f}", ImageFont.load_default(size)
        at = (x1, max(0, y1 - size - 2))
        pen.rectangle(pen.textbbox(at, text, font), fill=colour)
        pen.text(at, text, "white", font)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()

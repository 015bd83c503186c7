"""One synthetic scene: a textured background, things that are no digits, and digits with their boxes."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

# Side of the masks that are rotated and scaled; a multiple of 8 pixels, larger than any glyph drawn.
_MASK = 64


@dataclass(frozen=True)
class SceneConfig:
    """How hard the scenes are: lengths in pixels, contrasts and noise in grey levels; pairs are ranges."""

    empty: float = 0.0  # share of the scenes without any digit
    digits: tuple[int, int] = (1, 5)  # in every other scene
    smallest: int = 14  # least height of a glyph before rotation
    largest: int = 44  # most; sizes are log-uniform in between, so small ones are common
    rotation: float = 15.0  # digits turn by at most this many degrees either way
    stretch: float = 0.2  # width over height varies by this share
    contrast: tuple[float, float] = (60.0, 160.0)  # between a glyph and what lies under it, darker or lighter
    tint: float = 40.0  # most deviation of a glyph's colour channels from its brightness
    distractors: tuple[int, int] = (2, 6)  # things that look like pieces of writing and are no digits
    near: float = 0.0  # share of those that are digits with a flaw: crossed out or cut in two
    strokes: tuple[int, int] = (2, 7)  # lines and arcs across the background
    texture: float = 35.0  # amplitude of the smooth background variation
    noise: int = 8  # pixel noise, uniform within ± this
    overlap: float = 0.1  # most IoU of two digits' boxes; distractors keep to it against digits
    ink: float = 0.35  # a box surrounds the pixels where the glyph covers at least this share


class Glyphs:
    """Handwritten samples as smooth masks, drawn from at random."""

    def __init__(self, samples: np.ndarray, digits: np.ndarray) -> None:
        """`samples` float64 [n,8,8] in 0..1 and `digits` int64 [n] in 0..9."""
        self.digits = digits
        self.masks = [_enlarge(sample) for sample in samples]

    def draw(self, rng: np.random.Generator) -> tuple[Image.Image, int]:
        """(mask in Pillow mode L, digit); every digit is as likely, however many samples it has."""
        digit = int(rng.integers(10))
        of_digit = np.flatnonzero(self.digits == digit)
        return self.masks[int(of_digit[rng.integers(len(of_digit))])], digit


def _enlarge(sample: np.ndarray) -> Image.Image:
    """[8,8] in 0..1 -> a 64×64 mask with a margin, its edge steepened so that it looks inked."""
    grey = np.zeros((10, 10))
    grey[1:9, 1:9] = sample
    small = Image.fromarray(np.rint(grey * 255).astype(np.uint8))
    smooth = np.asarray(small.resize((_MASK, _MASK), Image.Resampling.BICUBIC)).astype(np.float64)
    return Image.fromarray(np.rint(np.clip((smooth - 70) * 2.0, 0, 255)).astype(np.uint8))


class Scene(NamedTuple):
    """A scene's pixels and what they show; boxes are x1, y1, x2, y2 in pixels."""

    pixels: np.ndarray  # uint8 [size, size, 3]
    boxes: np.ndarray  # int64 [n, 4], n 0 where it is empty
    digits: np.ndarray  # int64 [n]
    others: np.ndarray  # int64 [m, 4], of what looks like a digit and is none


def draw_scene(rng: np.random.Generator, glyphs: Glyphs, size: int, config: SceneConfig) -> Scene:
    """A scene of that side in pixels, which follows from the generator's state alone."""
    canvas = _background(rng, size, config)
    # Places are chosen first and distractors painted first: nothing covers a digit but another digit's edge.
    placed: list[tuple[np.ndarray, int, int, int]] = []
    boxes: list[list[int]] = []
    # What a config does not ask for draws no number, so that older datasets keep their bytes.
    empty = config.empty > 0 and rng.uniform() < config.empty
    wanted = 0 if empty else rng.integers(*config.digits, endpoint=True)
    # The first digit always finds a place; later ones give up when the scene is full.
    for _ in range(20 * wanted):
        if len(placed) == wanted:
            break
        mask, digit = glyphs.draw(rng)
        alpha = _shape(rng, mask, config, config.rotation)
        if place := _place(rng, alpha, size, boxes, config):
            placed.append((alpha, *place[:2], digit))
            boxes.append(place[2])
    taken = list(boxes)
    for _ in range(rng.integers(*config.distractors, endpoint=True)):
        near = config.near > 0 and rng.uniform() < config.near
        mask = _flawed(rng, glyphs.draw(rng)[0]) if near else _distractor(rng, glyphs)
        alpha = _shape(rng, mask, config, config.rotation if near else 180.0)
        if place := _place(rng, alpha, size, taken, config):
            taken.append(place[2])
            _paint(rng, canvas, alpha, *place[:2], config)
    for alpha, x, y, _ in placed:
        _paint(rng, canvas, alpha, x, y, config)
    canvas += rng.integers(-config.noise, config.noise + 1, canvas.shape)
    pixels = np.rint(np.clip(canvas, 0, 255)).astype(np.uint8)
    digits = np.array([d for *_, d in placed], np.int64)
    boxes, others = (np.array(b, np.int64).reshape(-1, 4) for b in (boxes, taken[len(boxes) :]))
    return Scene(pixels, boxes, digits, others)


def _shape(rng: np.random.Generator, mask: Image.Image, config: SceneConfig, rotation: float) -> np.ndarray:
    """Turn, stretch and scale a mask -> float64 [h,w] coverage in 0..1, cut to where there is ink."""
    turned = mask.rotate(rng.uniform(-rotation, rotation), Image.Resampling.BICUBIC)
    turned = turned.crop(turned.getbbox() or (0, 0, *turned.size))
    height = config.smallest * (config.largest / config.smallest) ** rng.uniform()
    # The longer side is the glyph's size, so that a lying stroke is not larger than any digit.
    scale = height / max(turned.size)
    stretch = 1 + rng.uniform(-config.stretch, config.stretch)
    width = min(config.largest, turned.width * scale * stretch)
    shape = (max(3, round(width)), max(3, round(turned.height * scale)))
    alpha = np.asarray(turned.resize(shape, Image.Resampling.BILINEAR)).astype(np.float64) / 255
    # A thin stroke fades when it is made small; ink at full strength keeps the contrast what was asked for.
    return alpha / max(alpha.max(), 1 / 255)


def _place(
    rng: np.random.Generator, alpha: np.ndarray, size: int, boxes: list[list[int]], config: SceneConfig
) -> tuple[int, int, list[int]] | None:
    """(x, y, box of the ink) at a random place within the scene, or None if it finds none."""
    rows, columns = (np.flatnonzero((alpha >= config.ink).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None  # a piece of a digit that happens to hold no ink
    for _ in range(10):
        x, y = (int(rng.integers(size - side + 1)) for side in alpha.shape[::-1])
        box = [x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1]
        if all(_iou(box, other) <= config.overlap for other in boxes):
            return x, y, [int(v) for v in box]
    return None


def _iou(a: list[int], b: list[int]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _paint(
    rng: np.random.Generator, canvas: np.ndarray, alpha: np.ndarray, x: int, y: int, config: SceneConfig
) -> None:
    """Blend a glyph into the canvas in a colour that stands out from what is there by the wanted contrast."""
    patch = canvas[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    under = float(patch.mean())
    contrast = rng.uniform(*config.contrast)
    lighter = rng.uniform() < 0.5
    if (under + contrast > 250) if lighter else (under - contrast < 5):
        lighter = not lighter  # no room on that side of the scale
    level = under + contrast if lighter else under - contrast
    tint = rng.uniform(-config.tint, config.tint, 3)
    colour = level + tint - tint.mean()
    patch += alpha[:, :, None] * (colour - patch)


def _background(rng: np.random.Generator, size: int, config: SceneConfig) -> np.ndarray:
    """float64 [size,size,3]: smooth colour noise at two scales, a gradient, and lines and arcs across it."""
    canvas = np.full((size, size, 3), rng.uniform(70, 185)) + rng.uniform(-25, 25, 3)
    for cells, share in ((4, 1.0), (16, 0.5)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        fine = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).astype(np.float64)
        canvas += (fine / 127.5 - 1) * config.texture * share
    ramp = np.arange(size) / size - 0.5
    slope = rng.uniform(-60, 60, 2)
    canvas += (slope[0] * ramp[:, None] + slope[1] * ramp[None, :])[:, :, None]
    for _ in range(rng.integers(*config.strokes, endpoint=True)):
        alpha, x, y = _stroke(rng, size)
        patch = canvas[y : y + alpha.shape[0], x : x + alpha.shape[1]]
        patch += alpha[:, :, None] * (rng.uniform(0, 255, 3) - patch) * rng.uniform(0.3, 0.8)
    return canvas


def _stroke(rng: np.random.Generator, size: int) -> tuple[np.ndarray, int, int]:
    """(float64 [h,w] coverage in 0..1, x, y): a line or arc, drawn at twice the size for a smooth edge."""
    layer = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(layer)
    width = int(rng.integers(2, 9))
    x, y = (int(v) for v in rng.integers(0, 2 * size, 2))
    if rng.uniform() < 0.5:
        dx, dy = (int(v) for v in rng.integers(-size, size + 1, 2))
        pen.line((x, y, x + dx, y + dy), fill=255, width=width)
    else:
        radius, start = int(rng.integers(size // 6, size)), int(rng.integers(360))
        span = int(rng.integers(60, 240))
        pen.arc((x - radius, y - radius, x + radius, y + radius), start, start + span, fill=255, width=width)
    small = layer.reduce(2)
    left, top, right, bottom = small.getbbox() or (0, 0, 1, 1)
    return np.asarray(small.crop((left, top, right, bottom))).astype(np.float64) / 255, left, top


def _flawed(rng: np.random.Generator, mask: Image.Image) -> Image.Image:
    """A whole digit that is crossed out or cut in two from side to side: no digit has such a line or gap."""
    out = mask.copy()
    left, top, right, bottom = mask.getbbox() or (0, 0, _MASK, _MASK)
    rise = (bottom - top) * rng.uniform(0.25, 0.5) * (1 if rng.uniform() < 0.5 else -1)
    middle = (top + bottom) / 2
    ends = (left - 3, middle - rise, right + 3, middle + rise)
    crossed = rng.uniform() < 0.5
    ImageDraw.Draw(out).line(ends, fill=255 if crossed else 0, width=7 if crossed else 10)
    return out


def _distractor(rng: np.random.Generator, glyphs: Glyphs) -> Image.Image:
    """A mask that shares a digit's strokes, width and size, and is none: scrambled, cut, drawn or a blob."""
    kind = (_scrambled, _corner, _scribble, _blob)[rng.integers(4)]
    return kind(rng, glyphs.draw(rng)[0]) if kind in (_scrambled, _corner) else kind(rng)


def _scrambled(rng: np.random.Generator, mask: Image.Image) -> Image.Image:
    """A digit's quarters in another order, each turned: the strokes of a digit without its shape."""
    half, out, order = _MASK // 2, Image.new("L", mask.size), rng.permutation(4).tolist()
    corners = [(0, 0), (half, 0), (0, half), (half, half)]
    for target, source in zip(corners, order[::-1] if order == sorted(order) else order, strict=True):
        left, top = corners[source]
        part = mask.crop((left, top, left + half, top + half)).rotate(90 * int(rng.integers(1, 4)))
        out.paste(part, target)
    return out


def _corner(rng: np.random.Generator, mask: Image.Image) -> Image.Image:
    """A quarter to a third of a digit: half of an 8 would be a 0 or a 3, so it is less than half."""
    left, top, right, bottom = mask.getbbox() or (0, 0, _MASK, _MASK)
    width, height = int((right - left) * rng.uniform(0.5, 0.6)), int((bottom - top) * rng.uniform(0.45, 0.55))
    x = left if rng.uniform() < 0.5 else right - width
    y = top if rng.uniform() < 0.5 else bottom - height
    return mask.crop((x, y, x + max(width, 4), y + max(height, 4)))


def _scribble(rng: np.random.Generator) -> Image.Image:
    """Letter-like: three or four straight strokes between points of a 3×3 grid (X, K, M, E and others)."""
    layer = Image.new("L", (_MASK, _MASK))
    pen = ImageDraw.Draw(layer)
    width = int(rng.integers(7, 13))
    grid = np.linspace(10, _MASK - 10, 3)
    for _ in range(int(rng.integers(3, 5))):
        x1, y1, x2, y2 = (float(grid[i] + rng.uniform(-5, 5)) for i in rng.integers(0, 3, 4))
        pen.line((x1, y1, x2, y2), fill=255, width=width)
    return layer


def _blob(rng: np.random.Generator) -> Image.Image:
    """A filled ellipse or a bar with a smooth edge."""
    layer = Image.new("L", (_MASK, _MASK))
    pen = ImageDraw.Draw(layer)
    w, h = (int(v) for v in rng.integers(16, _MASK - 8, 2))
    box = ((_MASK - w) // 2, (_MASK - h) // 2, (_MASK + w) // 2, (_MASK + h) // 2)
    (pen.ellipse if rng.uniform() < 0.6 else pen.rectangle)(box, fill=255)
    return layer

"""The anchors of RetinaNet (section 4): a size for each pyramid level, times scales and aspect ratios."""

from dataclasses import dataclass

import torch
from torch import Tensor

RATIOS = {1: (1.0,), 3: (0.5, 1.0, 2.0)}  # height / width; the two sets of Table 1c


@dataclass(frozen=True)
class AnchorGrid:
    """All anchors of a square frame."""

    boxes: Tensor  # [A, 4] x1 y1 x2 y2 in pixels, ordered by level, row, column, then shape (scale-major)
    per_level: tuple[int, ...]  # how many of them each level has
    levels: tuple[int, ...]
    shapes: int  # anchors per location


def anchor_shapes(size: float, scales: int, ratios: int) -> Tensor:
    """Widths and heights [scales * ratios, 2] of one location.

    Scales are 2^(k/scales), k = 0 … scales-1, so an octave is divided evenly; an aspect ratio changes the
    shape at constant area (section 4, "Anchors"; section 5.2 for other numbers of scales).
    """
    if ratios not in RATIOS:
        raise ValueError(f"anchor_ratios is {ratios}; the paper's sets have {sorted(RATIOS)} aspect ratios")
    sides = [size * 2 ** (k / scales) for k in range(scales)]
    return torch.tensor([(side / r**0.5, side * r**0.5) for side in sides for r in RATIOS[ratios]])


def make_anchors(
    frame: int, levels: tuple[int, ...], size: float = 4.0, scales: int = 3, ratios: int = 3
) -> AnchorGrid:
    """Anchors of a frame × frame image on pyramid levels P_l of stride 2^l.

    Args: size is the anchor's side in strides: 4 gives the paper's 32² on P3 to 512² on P7.
    Errors: ValueError where the frame is not a multiple of the finest stride.
    """
    if frame % (finest := 2 ** levels[0]):
        raise ValueError(f"image_size {frame} is not a multiple of the stride {finest} of P{levels[0]}")
    boxes, per_level = [], []
    for level in levels:
        stride = 2**level
        cells = -(-frame // stride)  # a stride-2 convolution with padding rounds up
        centers = (torch.arange(cells) + 0.5) * stride
        center = torch.cartesian_prod(centers, centers).flip(-1).unsqueeze(1)  # x, y, row by row
        half = anchor_shapes(size * stride, scales, ratios) / 2
        boxes.append(torch.cat([center - half, center + half], dim=-1).reshape(-1, 4))
        per_level.append(len(boxes[-1]))
    return AnchorGrid(torch.cat(boxes), tuple(per_level), tuple(levels), scales * ratios)

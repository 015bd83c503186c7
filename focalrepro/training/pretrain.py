"""What ImageNet is to the paper's backbone, crops of single glyphs are to the embedded detectors'.

A detector that must learn what a digit looks like and where it is from the same few hundred steps spends
nearly all of them on the first. So the small backbones learned it beforehand, once for all: to name the digit
in the middle of a crop, or to say that there is none, and where its edges are. The crops are of scenes of
their own, so every embedded dataset, however rare its digits, starts from the same backbone. They show no
digit sample that a validation scene shows. `pretrained/` holds what was learned, because it takes minutes and
differs a little between machines; `python -m focalrepro.training.pretrain` makes it again.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from focalrepro.data.scenes import Glyphs, SceneConfig, draw_scene
from focalrepro.data.synthetic import split_digits
from focalrepro.detector.backbones import Normalise, make_backbone
from focalrepro.files import write_atomic
from focalrepro.hardware import autocast
from focalrepro.progress import bar as progress_bar

FOLDER = Path(__file__).with_name("pretrained")
SCENE = SceneConfig(digits=(3, 6), distractors=(3, 6), largest=40, near=0.5)
SCENES, SIDE = 5000, 128  # how many, and their side in pixels
CROP, JITTER = 48, 8  # a crop's side, and by how much its place varies
STEPS, BATCH, RATE = 10_000, 64, 4e-3
EDGES_WEIGHT, EDGES_BETA = 2.0, 0.02  # of the edges' smooth L1 loss, in crops
NONE = 10  # the class of a crop without a digit in its middle
STREAM = 2  # of random numbers; 0 and 1 are those of the datasets' splits


class CropClassifier(nn.Module):
    """Linear heads on the middle of each of the backbone's maps: every level learns what and where."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        channels = {str(level): count for level, count in backbone.channels.items()}
        self.classes = nn.ModuleDict({level: nn.Linear(c, NONE + 1) for level, c in channels.items()})
        self.edges = nn.ModuleDict({level: nn.Linear(9 * c, 4) for level, c in channels.items()})

    def forward(self, crops: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of every level the class logits [B, 11] and the edges [B, 4] of crops [B, 3, CROP, CROP]."""
        found = []
        for level, features in self.backbone(crops).items():
            side = features.shape[-1]
            middle = slice(side // 3, side - side // 3)
            logits = self.classes[str(level)](features[..., middle, middle].amax((2, 3)))
            found.append((logits, self.edges[str(level)](F.adaptive_avg_pool2d(features, 3).flatten(1))))
        return found


def draw_crops(scenes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops uint8 [n, 3, CROP + JITTER, CROP + JITTER], classes [n] of what is in their middle, and its box
    float32 [n, 4] in the crop's pixels, NaN where there is nothing.

    Of each scene: every digit, everything that only looks like one, and a place that is near to neither.
    """
    glyphs = Glyphs(*split_digits()["train"])
    side = CROP + JITTER
    crops, classes, boxes = [], [], []
    for number in range(scenes):
        rng = np.random.default_rng([STREAM, number])
        scene = draw_scene(rng, glyphs, SIDE, SCENE)
        things = np.concatenate([scene.boxes, scene.others]).astype(float)
        middles = things.reshape(-1, 2, 2).mean(1)
        labels = [*scene.digits, *[NONE] * len(scene.others)]
        ground = rng.uniform(0, SIDE, 2)
        if np.abs(middles - ground).max(1).min() >= CROP / 4:
            middles, labels = np.concatenate([middles, ground[None]]), [*labels, NONE]
            things = np.concatenate([things, np.full((1, 4), np.nan)])
        padded = np.pad(scene.pixels.transpose(2, 0, 1), ((0, 0), (side, side), (side, side)))
        corners = np.round(middles).astype(int) - side // 2
        crops += [padded[:, y + side : y + 2 * side, x + side : x + 2 * side] for x, y in corners]
        classes += labels
        boxes.append(things - np.tile(corners, 2))
    return np.stack(crops), np.array(classes), np.concatenate(boxes).astype(np.float32)


def pretrained_weights(name: str) -> Path:
    """The file with the weights of one of the small backbones; ValueError for any other."""
    path = FOLDER / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.safetensors")))
        raise ValueError(f"backbone {name!r} never saw the digits; weights 'digits' are there for {known}")
    return path


def pretrain(name: str, scenes: int = SCENES, steps: int = STEPS) -> dict[str, Tensor]:
    """The backbone's weights after `steps` on crops of `scenes`. Deterministic on one machine and thread."""
    crops, classes, boxes = draw_crops(scenes)
    normalise = Normalise()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CropClassifier(make_backbone(name))
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    rng = np.random.default_rng(0)
    for _ in progress_bar(range(steps), desc=f"{name} on crops", unit="step"):
        picked = rng.integers(len(crops), size=BATCH)
        x, y = rng.integers(JITTER + 1, size=2)
        cut = torch.from_numpy(crops[picked, :, y : y + CROP, x : x + CROP])
        target = torch.from_numpy(classes[picked])
        edges = torch.from_numpy((boxes[picked] - [x, y, x, y]) / CROP - 0.5).float()
        there = ~edges.isnan().any(1)
        with autocast(torch.device("cpu")):
            found = model(normalise(cut).contiguous(memory_format=torch.channels_last))
        loss = sum(
            F.cross_entropy(logits.float(), target)
            + EDGES_WEIGHT * F.smooth_l1_loss(where[there].float(), edges[there], beta=EDGES_BETA)
            for logits, where in found
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    right = [f"{(logits.argmax(1) == target).float().mean():.0%}" for logits, _ in found]
    print(f"{name}: right on the last crops, by level: {', '.join(right)}")
    return {key: value.contiguous() for key, value in model.backbone.state_dict().items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for backbone in ("small", "small_deep"):
        write_atomic(FOLDER / f"{backbone}.safetensors", save(pretrain(backbone)))

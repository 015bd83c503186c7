"""A kept model as torchvision's own RetinaNet: the same detections, without this package."""

import json
import keyword
import sys
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from focalrepro.config import RunConfig
from focalrepro.detector import torchvision_retinanet as theirs
from focalrepro.detector.anchors import RATIOS
from focalrepro.detector.backbones import ResNet, SmallNet
from focalrepro.files import write_atomic
from focalrepro.study import kept

TAKEN = {*sys.stdlib_module_names, *keyword.kwlist, "torch", "torchvision", "safetensors"}


def export(run: str, file: Path) -> list[Path]:
    """Writes a state dict of torchvision's RetinaNet and the module that makes that model and loads it,
    FILE.safetensors and FILE.py; the paths.

    Errors: as `kept.find`, `kept.load` and `recipe_of`; ValueError for another suffix, or where either is
    there and nothing that this made.
    """
    if file.suffix != ".safetensors":
        raise ValueError(f"{file}: FILE must end in .safetensors")
    if not file.stem.isidentifier() or file.stem in TAKEN:
        what = "the module beside it could not be imported, or would hide another"
        raise ValueError(f"{file}: {what}; give a name such as model.safetensors")
    code, source = file.with_suffix(".py"), Path(theirs.__file__).read_text(encoding="utf-8")
    if code.exists() and code.read_text(encoding="utf-8") != source:
        raise ValueError(f"{code}: is there and would be lost; give another name than {file.name}")
    if file.exists() and "recipe" not in _metadata(file):
        raise ValueError(f"{file}: is there, was not made by this, and would be lost; give another name")
    store, record = kept.find(run)
    model, names = kept.load(store, record)
    recipe = recipe_of(model, record.config, names)
    metadata = {"recipe": json.dumps(recipe), "run": record.run_id}
    write_atomic(file, save(state_of(model, recipe), metadata))
    write_atomic(code, source)
    return [file, code]


def _metadata(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, "pt") as content:
            return content.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def recipe_of(model: nn.Module, config: RunConfig, names: list[str]) -> dict[str, Any]:
    """What `torchvision_retinanet.build` needs; ValueError names a field that torchvision cannot express."""
    backbone, channels = model.backbone, config.fpn_channels
    top = len(config.levels) - len(model.used)
    last = backbone.channels[model.used[-1]]
    levels = f"needs {top} levels above the backbone's; torchvision adds P6 and P7"
    for ok, field, why in (
        (config.detector == "retinanet", "detector", "is no RetinaNet"),
        (isinstance(backbone, ResNet | SmallNet), "backbone", "is no network of torchvision's"),
        (config.resize == "squash", "resize", "pads images, where nothing is found; torchvision would"),
        (config.kept_channels == 1, "kept_channels", "projects the backbone's maps; torchvision does not"),
        (top in (0, 2), "last_level", levels),
        (not top or last != channels, "fpn_channels", "is C5's number; there torchvision makes P6 from P5"),
        (config.image_size % 2**config.last_level == 0, "image_size", "is no multiple of the last stride"),
    ):
        if not ok:
            raise ValueError(f"not for torchvision: RunConfig.{field} {getattr(config, field)!r} {why}")
    stages = [[stage[0][0].out_channels, len(stage)] for stage in getattr(backbone, "stages", [])]
    inference = {"score_thresh": config.score_threshold, "nms_thresh": config.nms}
    inference |= {"detections_per_img": config.max_detections, "topk_candidates": config.topk}
    return {
        **{"backbone": config.backbone, "stages": stages, "used": model.used, "top": bool(top)},
        **{"inputs": [backbone.channels[level] for level in model.used], "channels": channels},
        **{"convs": config.head_convs, "size": config.image_size, "levels": config.levels},
        **{"groups": min(32, channels // 4) if config.head_norm == "group" else 0, "classes": names},
        **{"anchor_size": config.anchor_size, "scales": config.anchor_scales},
        **{"ratios": RATIOS[config.anchor_ratios], "inference": inference},
    }


def state_of(model: nn.Module, recipe: dict[str, Any]) -> dict[str, Tensor]:
    """The weights by torchvision's names."""
    heads = {"class_head": "classification_head.cls_logits", "box_head": "regression_head.bbox_reg"}
    state = {}
    for key, value in model.state_dict().items():
        room, _, rest = key.partition(".")
        if room in heads:
            part, _, last = heads[room].partition(".")
            number, what = rest.removeprefix("layers.").split(".")
            i, kind = divmod(int(number), 2)  # a convolution, then its norm or nothing, then the last one
            key = f"head.{part}." + (last if i == recipe["convs"] else f"conv.{i}.{kind}") + f".{what}"
        elif room == "fpn":
            key = f"backbone.{key}".replace("convs.0.", "p6.").replace("convs.1.", "p7.")
        else:
            key = key.replace("backbone.stages.", "backbone.body.")
        state[key] = value.contiguous()
    wanted = theirs.build(recipe).state_dict()  # a ResNet's later stages are not in use
    return {key: value for key, value in state.items() if key in wanted}

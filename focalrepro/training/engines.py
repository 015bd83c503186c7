"""One training step that serves run after run: on a GPU, warming up and capturing one takes seconds each time.

Runs that differ only in what SWEPT names share their shapes, so the captured graph, the data on the device and the
memory can stay; weights, optimizer state, α and γ are set anew in place.
"""

import torch

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.training.initial import initial_model
from focalrepro.training.loop import Step, TrainData

SWEPT = (
    *(
        "alpha",
        "gamma",
        "beta",
        "gamma_object",
        "epsilon",
        "prior",
        "seed",
        "lr",
        "steps",
        "warmup",
        "schedule",
        "train_fraction",
    ),
    *("score_threshold", "topk", "nms", "max_detections"),
)


class Engines:
    """Gives each run of a process its step; the last one is kept for the next run that fits it.

    The model of an earlier run is overwritten by a later one, so this is for campaigns, which keep records and no
    models. everywhere: also on the CPU, where it saves nothing; for tests.
    """

    def __init__(self, everywhere: bool = False) -> None:
        self.everywhere = everywhere
        self.kept: tuple[tuple, Step] | None = None

    def drop(self) -> None:
        """Forgets the kept step, after an error that may have left it, or the device, in pieces."""
        self.kept = None

    def step(self, config: RunConfig, data: DetectionData, device: torch.device) -> Step:
        """A step with the initial weights of the config's seed."""
        neutral = RunConfig()
        shape = config.replace(**{field: getattr(neutral, field) for field in SWEPT})
        key = (shape, data.digest, device)
        if self.kept and self.kept[0] == key:
            step = self.kept[1]
            step.restart(config, _with_prior(initial_model(config, data), config, step.source))
            return step
        self.kept = None  # its memory first, then the new one
        step = new_step(config, data, device)
        if self.everywhere or device.type == "cuda":
            self.kept = (key, step)
        return step


def new_step(config: RunConfig, data: DetectionData, device: torch.device, progress: bool = False) -> Step:
    """A step of its own."""
    model = initial_model(config, data, progress=progress)
    source = TrainData(config, data, device, model, progress)
    model = _with_prior(model, config, source)
    model = model.to(device, memory_format=torch.channels_last).train()
    return Step(model, source, config, device)


def _with_prior(model: RetinaNet, config: RunConfig, source: TrainData) -> RetinaNet:
    """Where the config leaves π to the data, it is the share of object among all pairs of an anchor and a class.

    Chen et al. 2019 (arXiv 1909.04868), section 4.1.
    """
    if config.prior == 0:
        pairs = source.match.shape[-1] * model.class_head.outputs
        model.class_head.set_prior(source.positives / pairs)
    return model

"""A run's step: made new, or, on a GPU, the last run's set back to a beginning.

There, loading the images or cached maps and warming up and capturing a step take seconds each, which a short
run would feel.
"""

import torch

from focalrepro.config import RunConfig
from focalrepro.data import DetectionData
from focalrepro.detector.retinanet import RetinaNet
from focalrepro.training.batches import READ, SplitData, TrainData
from focalrepro.training.initial import initial_model
from focalrepro.training.ranks import ALONE, Ranks
from focalrepro.training.step import Step
from focalrepro.training.two_stage import TwoStageStep

# Runs that differ only in these share their shapes, and so a step.
SWEPT = (
    *("alpha", "gamma", "beta", "gamma_object", "epsilon", "prior", "seed", "lr", "steps", "warmup"),
    *("schedule", "train_fraction", "score_threshold", "topk", "nms", "max_detections"),
)


class Engines:
    """Gives each run of a process its step; keeps the last one, and the data on the device, for the next.

    The graph and its memory stay, and weights, optimizer state, α and γ are set anew in place; where the next
    run needs another step (another loss, say), the data stays all the same. The model of an earlier run is
    overwritten by a later one, so this is for campaigns, which save what they keep at once. everywhere: also
    on the CPU, where it saves little; for tests.
    """

    def __init__(self, everywhere: bool = False) -> None:
        self.everywhere = everywhere
        self.kept: tuple[tuple, Step] | None = None
        self.source: tuple[tuple, SplitData] | None = None

    def step(self, config: RunConfig, data: DetectionData, device: torch.device) -> Step:
        """A step with the initial weights of the config's seed."""
        neutral = RunConfig()
        shape = config.replace(**{field: getattr(neutral, field) for field in SWEPT})
        # What a frozen stage that nothing trained makes of an image is its seed's own.
        drawn = config.seed if config.frozen == "stage1" and config.weights == "none" else None
        key = (shape, data.digest, device, drawn)
        if self.kept and self.kept[0] == key:
            step = self.kept[1]
            step.restart(config, _with_prior(initial_model(config, data), config, step.source))
            return step
        self.kept = None  # its memory first, then the new one
        if not (self.everywhere or device.type == "cuda"):
            return new_step(config, data, device)
        read = (*(getattr(config, field) for field in READ), data.digest, device, drawn)
        if self.source and self.source[0] != read:
            self.source = None
        if device.type == "cuda":
            torch.cuda.empty_cache()  # so that what was given up counts as free, to other workers, too
        step = new_step(config, data, device, source=self.source[1] if self.source else None)
        self.source = (read, step.source)
        if config.detector == "retinanet":
            self.kept = (key, step)
        return step


def new_step(
    config: RunConfig,
    data: DetectionData,
    device: torch.device,
    ranks: Ranks = ALONE,
    source: SplitData | None = None,
) -> Step:
    """A step of its own. source: the data on the device, of a config that agrees in `batches.READ`."""
    model = initial_model(config, data)
    two_stages = config.detector == "faster_rcnn"
    source = source or (SplitData if two_stages else TrainData)(config, data, device, model)
    model = model if two_stages else _with_prior(model, config, source)
    model = model.to(device, memory_format=torch.channels_last).train()
    if two_stages:
        return TwoStageStep(model, source, config, device)
    return Step(model, source, config, device, ranks)


def _with_prior(model: RetinaNet, config: RunConfig, source: TrainData) -> RetinaNet:
    """Where the config leaves π to the data, it is the share of objects among pairs of anchor and class.

    Chen et al. 2019 (arXiv 1909.04868), section 4.1.
    """
    if config.prior == 0:
        pairs = source.match.shape[-1] * model.class_head.outputs
        model.class_head.set_prior(max(source.positives, 1 / len(source)) / pairs)  # none: as if it were one
    return model

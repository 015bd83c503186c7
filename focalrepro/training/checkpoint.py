"""Where a training stood: kept every few minutes, so that one which was killed goes on from there.

On a CPU it ends with the same numbers as if it had never stopped.
"""

import io
import pickle
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from focalrepro.files import write_atomic
from focalrepro.hardware import has_bf16
from focalrepro.training.step import Step
from focalrepro.training.two_stage import TwoStageStep

EVERY = 300.0  # seconds between two; a training that is shorter writes none


@dataclass
class Checkpoint:
    """A file for one run's training, which is whole or not there.

    every: seconds between two. since: when the last one was written, or the training began.
    """

    path: Path
    every: float = EVERY
    since: float = field(default_factory=time.perf_counter)

    def restore(self, step: Step | TwoStageStep, history: Tensor) -> tuple[int, float]:
        """Puts a step and its history [steps, 3] where they stood; the steps done and the seconds they took.

        0, 0.0 where nothing is kept, or what is kept is damaged or of another torch, device or precision,
        which would make other numbers: the training then begins anew.
        """
        kept: dict[str, Any] = {}
        with suppress(OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            kept = torch.load(self.path, map_location=step.device, weights_only=True)
        if kept.get("made") != _made(step):
            return 0, 0.0
        step.model.load_state_dict(kept["model"], strict=False)  # what is frozen is as it began
        step.optimizer.load_state_dict(kept["optimizer"])
        if isinstance(average := getattr(step, "average", None), Tensor):
            average.copy_(kept["average"])
        torch.set_rng_state(kept["random"].cpu())
        history[: kept["done"]] = kept["history"]
        return kept["done"], kept["seconds"]

    def keep(self, step: Step | TwoStageStep, history: Tensor, seconds: float) -> None:
        """Writes where a step stands, if it is time; history [done, 3], seconds: of the training so far."""
        if time.perf_counter() - self.since < self.every:
            return
        moving = {name for name, p in step.model.named_parameters() if p.requires_grad}
        moving |= {name for name, _ in step.model.named_buffers()}
        buffer = io.BytesIO()
        values = {
            "made": _made(step),
            "done": len(history),
            "seconds": seconds,
            "history": history,
            "model": {name: v for name, v in step.model.state_dict().items() if name in moving},
            "optimizer": step.optimizer.state_dict(),
            "average": getattr(step, "average", None),
            "random": torch.get_rng_state(),  # the two-stage detector draws its regions by chance
        }
        torch.save(values, buffer)
        write_atomic(self.path, buffer.getvalue())
        self.since = time.perf_counter()

    def drop(self) -> None:
        """Removes the file: its run is done."""
        self.path.unlink(missing_ok=True)


def _made(step: Step | TwoStageStep) -> list[str]:
    return [str(torch.__version__), step.device.type, str(has_bf16(step.device))]

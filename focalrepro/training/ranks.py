"""One training by several processes at once (torchrun), each with its share of every batch.

PyTorch's DDP sums the gradients, and the loss is divided by what all ranks have together, so the numbers are
those of one process up to the order of sums.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from focalrepro.config import RunConfig

PATIENCE = timedelta(hours=12)  # the others wait while rank 0 evaluates


@dataclass(frozen=True)
class Ranks:
    """This process's place among those that train one model; by default it is the only one."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> tuple["Ranks", torch.device]:
        """The place that torchrun's environment gives, and the device that is this rank's own of a machine's.

        Waits for the others; nothing happens in a process that torchrun did not start. Errors: ValueError
        over several machines that could not be started again together.
        """
        count = int(os.environ.get("WORLD_SIZE", 1))
        if count == 1:
            return cls(), device
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            # The store of torchrun's agent outlives the processes: started again, they must not find the
            # addresses of those before them. But machines count their own restarts, each its own.
            outlives = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            if outlives and os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
                what = "torchrun over several machines: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on each"
                raise ValueError(f"{what}, so that processes which it starts again find each other")
            store, rank, _ = next(dist.rendezvous("env://"))
            if outlives:
                store = dist.PrefixStore("life-" + os.environ["TORCHELASTIC_RESTART_COUNT"], store)
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
        return cls(dist.get_rank(), count), device

    def check(self, config: RunConfig) -> None:
        """ValueError where a config's training is no sum over images, or its batch has no equal shares."""
        if self.count == 1:
            return
        for name, whole in (("loss", "ghm"), ("normalizer", "picked"), ("detector", "faster_rcnn")):
            if (value := getattr(config, name)) == whole or "@" in value:
                raise ValueError(f"RunConfig.{name} {value!r} needs whole batches: run it without torchrun")
        if config.batch_size % self.count:
            raise ValueError(f"RunConfig.batch_size {config.batch_size} has no {self.count} equal shares")

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over the ranks.

        ValueError where it normalises over a batch: each rank would do so over its own part.
        """
        if self.count == 1:
            return network
        if any(isinstance(m, nn.BatchNorm2d) and m.weight.requires_grad for m in network.modules()):
            raise ValueError("this backbone's batch norm needs whole batches: run it without torchrun")
        return DistributedDataParallel(network, static_graph=True)  # a body may have more than is used

    def share(self, batches: Tensor) -> Tensor:
        """This rank's part [steps, batch / ranks] of an order of images [steps, batch]."""
        return batches[:, self.rank :: self.count]

    def total(self, value: Tensor) -> Tensor:
        """The sum of the ranks' values; no gradient goes through it."""
        if self.count > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
        return value

    def agree(self, values: list) -> list:
        """Rank 0's values, on every rank."""
        whole = [values]  # as one object: torch cannot send a list of none, nor lists of two lengths
        if self.count > 1:
            dist.broadcast_object_list(whole)
        return whole[0]

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            dist.barrier()


ALONE = Ranks()

"""The processes that train one model together, and which of Lightning's strategies diagnostics can look into."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from lightning_regimes.probe import ProbeError


def process_group(trainer: Any) -> dist.ProcessGroup | None:
    """Return the group of the processes that hold whole copies of the model; ``None`` for a single process.

    Raises:
        ProbeError: the strategy shards the model, or is not known to keep it whole.
    """
    # By name, since lightning and pytorch_lightning each have their own class of every strategy.
    strategies = [base.__name__ for base in type(trainer.strategy).__mro__]
    shards = {"FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy"} & set(strategies)
    if shards:
        raise ProbeError(
            f"{strategies[0]} shards the parameters, and diagnostics look at whole ones: train with DDP or on one "
            "device, or leave the callback out"
        )
    if trainer.world_size == 1:
        return None
    if "DDPStrategy" not in strategies or not dist.is_initialized():
        raise ProbeError(
            f"{strategies[0]} with {trainer.world_size} processes is not supported: train with DDP or on one device, "
            "or leave the callback out"
        )
    return dist.group.WORLD

"""Loss surfaces as W&B artifacts, a version a measurement."""

from typing import Any

import numpy as np

from lightning_regimes.recording.record import Record

_SURFACE = "landscape/values"


def log_surface(run: Any, record: Record) -> None:
    """Log the grid of a loss surface, its axes and the path of training as ``surface.npz``; nothing without a surface.

    The artifact is named after the run, its versions have the alias ``step-<step>``.
    """
    if _SURFACE not in record.arrays:
        return
    import wandb

    metadata = {"step": record.step, "global_step": record.global_step, **record.scalars}
    artifact = wandb.Artifact(f"loss-surface-{run.id}", type="loss-surface", metadata=metadata)
    with artifact.new_file("surface.npz", mode="wb") as file:
        np.savez(file, **{key.partition("/")[2]: record.arrays[key] for key in record.arrays})  # type: ignore[arg-type]
    run.log_artifact(artifact, aliases=["latest", f"step-{record.step}"])

"""Trained engines as files, and the one that comes with the package."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from lightning_regimes.spectral.recurrence_engine import RecurrenceEngine
from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.spectral_probe import SpectralProbe

SHIPPED = Path(__file__).with_name("learned_solve.safetensors")
"""An engine of degree 8, what ``configs/autospec_solve.yaml`` ends with: 2000 batches of spectra, seed 0."""


def save_engine(engine: RecurrenceEngine, path: Path | str) -> None:
    """Write the weights in float32, and the settings beside them, as safetensors.

    Args:
        engine: of any degree.
        path: of the file.
    """
    from safetensors.torch import save_file

    tensors = {name: entry.detach().cpu().float().contiguous() for name, entry in engine.state_dict().items()}
    save_file(tensors, str(path), metadata={name: str(value) for name, value in engine.settings.items()})


def load_engine(path: Path | str) -> RecurrenceEngine:
    """Return the engine of a file.

    Args:
        path: what :func:`save_engine` has written.

    Raises:
        ValueError: the file holds no engine.
    """
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        settings = file.metadata() or {}
        if not {"degree", "probe_size", "width", "base"} <= settings.keys():
            raise ValueError(f"{path} holds no engine: its metadata are {sorted(settings)}")
        engine = RecurrenceEngine(
            int(settings["degree"]),
            probe_size=int(settings["probe_size"]),
            width=int(settings["width"]),
            base=settings["base"],
        )
        engine.load_state_dict({name: file.get_tensor(name).to(torch.float64) for name in file.keys()})  # noqa: SIM118
    return engine.requires_grad_(False).eval()


def learned(probe: SpectralProbe, degree: int = 8) -> ResidualRecurrence:
    """Return the coefficients that the shipped engine writes for a probe of ten steps.

    It was trained on spectra alone, on none of the matrices that it is tried on; use it as the ``rule`` of a
    :class:`PolynomialPreconditioner`.

    Args:
        probe: of a positive definite operator.
        degree: 8, of which the engine is.

    Raises:
        ValueError: another degree, or a probe of more than ten values.
    """
    found: ResidualRecurrence = _shipped()(probe, degree)
    return found


@lru_cache(maxsize=1)
def _shipped() -> RecurrenceEngine:
    return load_engine(SHIPPED)

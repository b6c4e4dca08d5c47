"""Sweeps: many runs of one experiment over axes of its configuration, in local processes or on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_regimes.sweep.engine import Engine, Result
    from lightning_regimes.sweep.execution import run_sweep
    from lightning_regimes.sweep.ledger import LEDGER_FILE, Ledger
    from lightning_regimes.sweep.local_engine import LocalEngine
    from lightning_regimes.sweep.parameter_space import Parameter
    from lightning_regimes.sweep.ray_engine import RayEngine
    from lightning_regimes.sweep.recorded_sweep import RecordedSweep
    from lightning_regimes.sweep.seed_pair import SeedComparison, SeedPair, seed_pairs
    from lightning_regimes.sweep.specification import SweepSpecification
    from lightning_regimes.sweep.trial import Trial

_SUBMODULES = {
    "LEDGER_FILE": "ledger",
    "Engine": "engine",
    "Ledger": "ledger",
    "LocalEngine": "local_engine",
    "Parameter": "parameter_space",
    "RayEngine": "ray_engine",
    "RecordedSweep": "recorded_sweep",
    "Result": "engine",
    "SeedComparison": "seed_pair",
    "SeedPair": "seed_pair",
    "SweepSpecification": "specification",
    "Trial": "trial",
    "run_sweep": "execution",
    "seed_pairs": "seed_pair",
}

__all__ = [
    "LEDGER_FILE",
    "Engine",
    "Ledger",
    "LocalEngine",
    "Parameter",
    "RayEngine",
    "RecordedSweep",
    "Result",
    "SeedComparison",
    "SeedPair",
    "SweepSpecification",
    "Trial",
    "run_sweep",
    "seed_pairs",
]

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)

"""LightningDataModules; each loads when it's first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_regimes.datamodules.advection_diffusion import AdvectionDiffusion
    from lightning_regimes.datamodules.burgers_1d import Burgers1D
    from lightning_regimes.datamodules.collocation import Collocation
    from lightning_regimes.datamodules.darcy import Darcy
    from lightning_regimes.datamodules.digits import HandwrittenDigits
    from lightning_regimes.datamodules.field_files import FieldFiles
    from lightning_regimes.datamodules.gaussian_noise import GaussianNoise
    from lightning_regimes.datamodules.graph_nodes import GraphNodes
    from lightning_regimes.datamodules.graph_source import GraphSource, SourceGraph
    from lightning_regimes.datamodules.linear_teacher import LinearTeacher
    from lightning_regimes.datamodules.navier_stokes import NavierStokes
    from lightning_regimes.datamodules.ode_trajectories import ODETrajectories
    from lightning_regimes.datamodules.poisson_fields import PoissonFields
    from lightning_regimes.datamodules.pyg_dataset import PyGDataset
    from lightning_regimes.datamodules.robustness_graph import RobustnessGraph
    from lightning_regimes.datamodules.stochastic_block_model import StochasticBlockModel
    from lightning_regimes.datamodules.synthetic_spectra import SyntheticSpectra
    from lightning_regimes.datamodules.text_tokens import TextTokens
    from lightning_regimes.datamodules.the_well import TheWell

_SUBMODULES = {
    "AdvectionDiffusion": "advection_diffusion",
    "Burgers1D": "burgers_1d",
    "HandwrittenDigits": "digits",
    "Collocation": "collocation",
    "Darcy": "darcy",
    "FieldFiles": "field_files",
    "GaussianNoise": "gaussian_noise",
    "GraphNodes": "graph_nodes",
    "GraphSource": "graph_source",
    "LinearTeacher": "linear_teacher",
    "NavierStokes": "navier_stokes",
    "ODETrajectories": "ode_trajectories",
    "PoissonFields": "poisson_fields",
    "PyGDataset": "pyg_dataset",
    "RobustnessGraph": "robustness_graph",
    "SourceGraph": "graph_source",
    "StochasticBlockModel": "stochastic_block_model",
    "SyntheticSpectra": "synthetic_spectra",
    "TextTokens": "text_tokens",
    "TheWell": "the_well",
}

__all__ = [
    "AdvectionDiffusion",
    "Burgers1D",
    "Collocation",
    "Darcy",
    "FieldFiles",
    "GaussianNoise",
    "GraphNodes",
    "GraphSource",
    "HandwrittenDigits",
    "LinearTeacher",
    "NavierStokes",
    "ODETrajectories",
    "PoissonFields",
    "PyGDataset",
    "RobustnessGraph",
    "SourceGraph",
    "StochasticBlockModel",
    "SyntheticSpectra",
    "TextTokens",
    "TheWell",
]

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)

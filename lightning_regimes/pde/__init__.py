"""Differential equations: residuals, conditions, reference solvers."""

from lightning_regimes.pde.allen_cahn import AllenCahn
from lightning_regimes.pde.burgers import Burgers
from lightning_regimes.pde.conditions import Condition, Periodic, Rate, Value
from lightning_regimes.pde.convection import Convection
from lightning_regimes.pde.damped_pendulum import DampedPendulum
from lightning_regimes.pde.darcy import DarcyFlow
from lightning_regimes.pde.derivatives import Field, differentiable, gradient
from lightning_regimes.pde.field_correction import FieldCorrection, field_correction
from lightning_regimes.pde.gaussian_sources import GaussianSources
from lightning_regimes.pde.heldout import INTERIOR, heldout_points
from lightning_regimes.pde.helmholtz import Helmholtz
from lightning_regimes.pde.kolmogorov import KolmogorovFlow
from lightning_regimes.pde.lorenz import Lorenz
from lightning_regimes.pde.lotka_volterra import LotkaVolterra
from lightning_regimes.pde.navier_stokes import NavierStokesFlow
from lightning_regimes.pde.ode_system import ODESystem
from lightning_regimes.pde.points import Domain, PointSampler, grid_points, sobol_sampler, uniform_sampler
from lightning_regimes.pde.poisson import Poisson
from lightning_regimes.pde.problem import Problem
from lightning_regimes.pde.random_field import GaussianRandomField
from lightning_regimes.pde.reaction import Reaction
from lightning_regimes.pde.reaction_diffusion import ReactionDiffusion
from lightning_regimes.pde.steady_transport import SteadyTransport
from lightning_regimes.pde.two_body import TwoBody
from lightning_regimes.pde.van_der_pol import VanDerPol
from lightning_regimes.pde.viscous_burgers import ViscousBurgers
from lightning_regimes.pde.vorticity import VorticityEquation, integrate_vorticity
from lightning_regimes.pde.wave import Wave

__all__ = [
    "INTERIOR",
    "AllenCahn",
    "Burgers",
    "Condition",
    "Convection",
    "DampedPendulum",
    "DarcyFlow",
    "Domain",
    "Field",
    "FieldCorrection",
    "GaussianRandomField",
    "GaussianSources",
    "Helmholtz",
    "KolmogorovFlow",
    "Lorenz",
    "LotkaVolterra",
    "NavierStokesFlow",
    "ODESystem",
    "Periodic",
    "PointSampler",
    "Poisson",
    "Problem",
    "Rate",
    "Reaction",
    "ReactionDiffusion",
    "SteadyTransport",
    "TwoBody",
    "Value",
    "VanDerPol",
    "ViscousBurgers",
    "VorticityEquation",
    "Wave",
    "differentiable",
    "field_correction",
    "gradient",
    "grid_points",
    "heldout_points",
    "integrate_vorticity",
    "sobol_sampler",
    "uniform_sampler",
]

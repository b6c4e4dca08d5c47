"""Optimizers, and factories that build them for a module."""

from lightning_regimes.optim.compact_lbfgs import CompactLBFGS
from lightning_regimes.optim.factory import (
    AdamFactory,
    AdamThenLBFGSFactory,
    LBFGSFactory,
    OptimizerFactory,
    SGDFactory,
    trainable_parameters,
)
from lightning_regimes.optim.htmuon import HTMuon
from lightning_regimes.optim.imported_factory import ImportedOptimizerFactory
from lightning_regimes.optim.layer_balanced_lr import LayerBalancedLR
from lightning_regimes.optim.layer_groups import layer_names, layerwise_lr_groups
from lightning_regimes.optim.layer_split_probe import LayerSplits, probe_layer_split
from lightning_regimes.optim.learning_rate_adjustment import learning_rate_scale
from lightning_regimes.optim.matrix_factories import HTMuonFactory, MatrixOptimizerFactory, MuonFactory, RMNPFactory
from lightning_regimes.optim.matrix_optimizer import MatrixOptimizer
from lightning_regimes.optim.matrix_param_groups import (
    ParameterRouting,
    RoutedParameter,
    matrix_param_groups,
    route_parameters,
    tag_parameters,
)
from lightning_regimes.optim.muon import Muon
from lightning_regimes.optim.newton_schulz import newton_schulz
from lightning_regimes.optim.nncg import NNCG, NNCGStep
from lightning_regimes.optim.not_finite import NotFiniteError
from lightning_regimes.optim.nystrom_preconditioner import NystromApproximation, nystrom_approximation
from lightning_regimes.optim.projected import ProjectedOptimizer, ProjectedSGDFactory
from lightning_regimes.optim.rescaled_lbfgs import RescaledLBFGS
from lightning_regimes.optim.rmnp import RMNP
from lightning_regimes.optim.row_dominance import RowDominance, row_dominance
from lightning_regimes.optim.row_normalize import row_factors, row_normalize
from lightning_regimes.optim.schedules import CosineWithWarmup, cosine_with_warmup
from lightning_regimes.optim.second_order_factories import NNCGFactory, SharpnessAwareFactory
from lightning_regimes.optim.sharpness_aware import SharpnessAware
from lightning_regimes.optim.spectral_power import normalize_power, polar_factor, spectral_power
from lightning_regimes.optim.staged import AdamThenLBFGS
from lightning_regimes.optim.streaming_spectral_power import streaming_spectral_power

__all__ = [
    "NNCG",
    "RMNP",
    "AdamFactory",
    "AdamThenLBFGS",
    "AdamThenLBFGSFactory",
    "CompactLBFGS",
    "CosineWithWarmup",
    "HTMuon",
    "HTMuonFactory",
    "ImportedOptimizerFactory",
    "LBFGSFactory",
    "LayerBalancedLR",
    "LayerSplits",
    "MatrixOptimizer",
    "MatrixOptimizerFactory",
    "Muon",
    "MuonFactory",
    "NNCGFactory",
    "NNCGStep",
    "NotFiniteError",
    "NystromApproximation",
    "OptimizerFactory",
    "ParameterRouting",
    "ProjectedOptimizer",
    "ProjectedSGDFactory",
    "RMNPFactory",
    "RescaledLBFGS",
    "RoutedParameter",
    "RowDominance",
    "SGDFactory",
    "SharpnessAware",
    "SharpnessAwareFactory",
    "cosine_with_warmup",
    "layer_names",
    "layerwise_lr_groups",
    "learning_rate_scale",
    "matrix_param_groups",
    "newton_schulz",
    "normalize_power",
    "nystrom_approximation",
    "polar_factor",
    "probe_layer_split",
    "route_parameters",
    "row_dominance",
    "row_factors",
    "row_normalize",
    "spectral_power",
    "streaming_spectral_power",
    "tag_parameters",
    "trainable_parameters",
]

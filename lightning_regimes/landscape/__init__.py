"""The shape of the training loss around a point: surfaces, their topology, paths between minima, similarity."""

from lightning_regimes.landscape.basin_metric import basin_metric
from lightning_regimes.landscape.cka_result import CKAResult
from lightning_regimes.landscape.contour_tree import contour_tree_gaps
from lightning_regimes.landscape.curve_paths import Curve
from lightning_regimes.landscape.diagram_distance import bottleneck, wasserstein
from lightning_regimes.landscape.diagram_features import PersistenceImage, betti_curve, persistence_image
from lightning_regimes.landscape.directions import Directions, directions
from lightning_regimes.landscape.evaluation import evaluate_surface
from lightning_regimes.landscape.landscape_profile import LandscapeProfile
from lightning_regimes.landscape.loss_barrier import LossBarrier, loss_barrier
from lightning_regimes.landscape.merge_tree import MergeTree, merge_tree
from lightning_regimes.landscape.mode_connectivity import ConnectingCurve, mode_connectivity
from lightning_regimes.landscape.permutation_specification import PermutationSpecification, infer_specification
from lightning_regimes.landscape.persistence import PersistenceDiagram, persistence
from lightning_regimes.landscape.probed_similarity import probed_cka
from lightning_regimes.landscape.similarity import cka
from lightning_regimes.landscape.smad import smad
from lightning_regimes.landscape.surface import LossSurface
from lightning_regimes.landscape.weight_matching import WeightMatching, weight_matching

__all__ = [
    "CKAResult",
    "ConnectingCurve",
    "Curve",
    "Directions",
    "LandscapeProfile",
    "LossBarrier",
    "LossSurface",
    "MergeTree",
    "PermutationSpecification",
    "PersistenceDiagram",
    "PersistenceImage",
    "WeightMatching",
    "basin_metric",
    "betti_curve",
    "bottleneck",
    "cka",
    "contour_tree_gaps",
    "directions",
    "evaluate_surface",
    "infer_specification",
    "loss_barrier",
    "merge_tree",
    "mode_connectivity",
    "persistence",
    "persistence_image",
    "probed_cka",
    "smad",
    "wasserstein",
    "weight_matching",
]

"""Graph kernel complexity: which edges of a graph make its labels hard to learn, sanitization by it, and attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_regimes.graph.block_descent_attacks import GRBCD, PRBCD
    from lightning_regimes.graph.dense_attacks import PGD, MetattackLite
    from lightning_regimes.graph.detection import Detection
    from lightning_regimes.graph.edge_scores import graph_kernel_complexity, kc_scores
    from lightning_regimes.graph.kc_result import KCResult
    from lightning_regimes.graph.kces import KCES
    from lightning_regimes.graph.kces_report import KCESReport
    from lightning_regimes.graph.random_attacks import DICE, RandomEdges
    from lightning_regimes.graph.similarity_pruning import CosinePrune, JaccardPrune, LowRankSVD
    from lightning_regimes.graph.surrogate import train_surrogate
    from lightning_regimes.graph.target_source import pseudo_labels

_SUBMODULES = {
    "CosinePrune": "similarity_pruning",
    "DICE": "random_attacks",
    "Detection": "detection",
    "GRBCD": "block_descent_attacks",
    "JaccardPrune": "similarity_pruning",
    "KCES": "kces",
    "KCESReport": "kces_report",
    "KCResult": "kc_result",
    "LowRankSVD": "similarity_pruning",
    "MetattackLite": "dense_attacks",
    "PGD": "dense_attacks",
    "PRBCD": "block_descent_attacks",
    "RandomEdges": "random_attacks",
    "graph_kernel_complexity": "edge_scores",
    "kc_scores": "edge_scores",
    "pseudo_labels": "target_source",
    "train_surrogate": "surrogate",
}

__all__ = [
    "DICE",
    "GRBCD",
    "KCES",
    "PGD",
    "PRBCD",
    "CosinePrune",
    "Detection",
    "JaccardPrune",
    "KCESReport",
    "KCResult",
    "LowRankSVD",
    "MetattackLite",
    "RandomEdges",
    "graph_kernel_complexity",
    "kc_scores",
    "pseudo_labels",
    "train_surrogate",
]

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)

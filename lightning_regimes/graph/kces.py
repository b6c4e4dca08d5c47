"""Kernel complexity edge sanitization: take out the edges that make a graph's labels harder to learn."""

from __future__ import annotations

import time
from typing import Any, Literal

from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from lightning_regimes.graph.aggregation import Aggregation, check_aggregation
from lightning_regimes.graph.complexity_solver import Solver, check_numbers, check_solver
from lightning_regimes.graph.edge_mask import Directed, check_directed, check_graph, edges_of, keep_columns, symmetrized
from lightning_regimes.graph.edge_scores import graph_kernel_complexity
from lightning_regimes.graph.edge_suspicion import Score, check_score, suspicion
from lightning_regimes.graph.kces_report import KCESReport, spanning_forest
from lightning_regimes.graph.pruning_ratio import mixture_ratio, pruned, validation_curve
from lightning_regimes.graph.target_source import LabelSource, check_label_source, pseudo_labels
from lightning_regimes.graph.undirected_edges import arcs_of

Ratio = float | Literal["kernel-val", "gmm"]


class KCES(BaseTransform):
    """Prune the edges that kernel complexity doubts most.

    Nothing is trained, and the graph network that comes after has no part in it. The report is in ``data.kces``. The
    scores are a derivation in the manner of the paper, see `kc_scores`. What is said about attacks is about attacks
    that do not know of this defence.

    Args:
        ratio: the share of the edges to prune; ``"kernel-val"`` takes the one with the best accuracy of a closed-form
            kernel classifier on ``val_mask``; ``"gmm"`` the share of the upper of two Gaussians over the logarithms of
            the scores.
        score: the recipe, see `suspicion`.
        labels: for ``score`` ``"absolute"`` and ``"signed"``.
        lam: the ridge, None for the default of each label source.
        aggregation: as for `kc_scores`.
        solver: likewise.
        rank: likewise.
        min_ratio: a floor under a ratio that is chosen. An attack that spares the validation nodes makes
            ``"kernel-val"`` prune too little.
        max_ratio: a bound above it.
        keep_connected: keep a spanning forest of the least doubted edges.
        directed: what to do with a directed graph; ``"symmetrize"`` adds the missing arcs.
        allow_leak: permits ``labels="oracle"``.
        memory_limit: for the exact solver, in GiB.
        seed: of the Nyström landmarks.

    Raises:
        TypeError: the graph is heterogeneous.
        ValueError: an argument is not as described, or the graph lacks labels or masks.

    References:
        Jia et al., KCES: Training-Free Defense for Robust Graph Neural Networks via Kernel Complexity,
        arXiv:2506.11611.
    """

    def __init__(
        self,
        ratio: Ratio = 0.1,
        *,
        score: Score = "auto",
        labels: LabelSource = "pseudo",
        lam: float | None = None,
        aggregation: Aggregation = "mean",
        solver: Solver = "auto",
        rank: int = 300,
        min_ratio: float = 0.0,
        max_ratio: float = 0.4,
        keep_connected: bool = False,
        directed: Directed = "error",
        allow_leak: bool = False,
        memory_limit: float = 4.0,
        seed: int = 0,
    ) -> None:
        if isinstance(ratio, str):
            if ratio not in ("kernel-val", "gmm"):
                raise ValueError(f'`ratio` is a share, "kernel-val" or "gmm", got {ratio!r}')
        elif not 0 <= ratio < 1:
            raise ValueError(f"`ratio` is at least 0 and below 1, got {ratio}")
        if not 0 <= min_ratio <= max_ratio < 1:
            raise ValueError(f"`min_ratio` and `max_ratio` are 0 <= min <= max < 1, got {min_ratio} and {max_ratio}")
        check_score(score)
        check_label_source(labels, allow_leak=allow_leak)
        check_aggregation(aggregation)
        check_solver(solver)
        check_numbers(lam, rank)
        check_directed(directed)
        self.ratio, self.score, self.labels = ratio, score, labels
        self.min_ratio, self.max_ratio = min_ratio, max_ratio
        self.keep_connected, self.directed = keep_connected, directed
        self.settings: dict[str, Any] = {
            "lam": lam,
            "aggregation": aggregation,
            "solver": solver,
            "rank": rank,
            "allow_leak": allow_leak,
            "memory_limit": memory_limit,
            "seed": seed,
        }

    def __repr__(self) -> str:
        return f"KCES(ratio={self.ratio!r}, score={self.score!r})"

    def sanitize(self, data: Data) -> KCESReport:
        """Score the edges of an undirected graph and say which stay; the graph is not changed."""
        began = time.perf_counter()
        check_graph(data)
        for name in ("y", "train_mask"):
            if data.get(name) is None:
                raise ValueError(f"`data.{name}` is needed, got None")
        edges = edges_of(data)
        x, y, train_mask = data.get("x"), data.y, data.train_mask
        doubt = suspicion(data.edge_index, x, y, train_mask, score=self.score, labels=self.labels, **self.settings)
        protected = spanning_forest(edges.pairs, doubt.values, edges.num_nodes) if self.keep_connected else None
        curve = None
        if self.ratio == "kernel-val":
            if data.get("val_mask") is None or not bool(data.val_mask.any()):
                raise ValueError('`data.val_mask` selects a node with `ratio="kernel-val"`, got none')
            curve = validation_curve(
                edges,
                doubt.values,
                x,
                y,
                train_mask,
                data.val_mask,
                min_ratio=self.min_ratio,
                max_ratio=self.max_ratio,
                protected=protected,
            )
            ratio = curve.best()
        elif self.ratio == "gmm":
            first = next(iter(doubt.results.values()))
            ratio = mixture_ratio(first.scores, min_ratio=self.min_ratio, max_ratio=self.max_ratio)
        else:
            ratio = float(self.ratio)
        keep = pruned(edges.num_edges, ratio, doubt.values, protected=protected)
        source, result = list(doubt.results.items())[-1]
        after = graph_kernel_complexity(arcs_of(edges.pairs[keep]), x, y, train_mask, labels=source, **self.settings)
        accuracy = None
        if source == "pseudo" and data.get("val_mask") is not None and bool(data.val_mask.any()):
            guessed = pseudo_labels(x, y, train_mask)
            accuracy = float((guessed == y)[data.val_mask].double().mean())
        return KCESReport(
            edges=edges.pairs,
            suspicion=doubt.values,
            keep=keep,
            keep_columns=edges.columns(keep),
            num_nodes=edges.num_nodes,
            ratio=ratio,
            gkc_before=result.gkc,
            gkc_after=float(after),
            score=doubt.score,
            solver=result.settings.solver,
            seconds=time.perf_counter() - began,
            pseudo_label_accuracy=accuracy,
            curve=curve,
            results=doubt.results,
        )

    def apply(self, data: Data, keep: Tensor) -> Data:
        """Return the graph with the columns of ``edge_index`` that a report's ``keep_columns`` names."""
        return keep_columns(data, keep)

    def forward(self, data: Data) -> Data:
        data = symmetrized(data, self.directed)
        report = self.sanitize(data)
        result = self.apply(data, report.keep_columns)
        result.kces = report
        return result

"""Scores of all edges of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_regimes.graph.complexity_solver import ComplexitySettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class KCResult:
    r"""The kernel complexity that each edge adds.

    Attributes:
        edges: the ends a < b of the edges, sorted, shape (edges, 2).
        scores: :math:`\mathrm{GKC}(G) - \mathrm{GKC}(G \setminus e)`, signed, shape (edges,), float64.
        gkc: the complexity of the whole graph.
        settings: labels, ridge, kernel, aggregation and solver.
    """

    edges: Tensor
    scores: Tensor
    gkc: float
    settings: ComplexitySettings

    @property
    def magnitude(self) -> Tensor:
        """The scores without sign, shape (edges,)."""
        return self.scores.abs()

    @property
    def num_edges(self) -> int:
        """Number of undirected edges."""
        return self.edges.shape[0]

    def top(self, count: int, *, absolute: bool = False) -> Tensor:
        """Return the rows of ``edges`` with the highest scores, highest first."""
        scores = self.magnitude if absolute else self.scores
        return scores.argsort(descending=True, stable=True)[:count]

    def figure(self) -> Figure:
        """Draw the scores as a histogram on a logarithmic axis, by sign."""
        from lightning_regimes.graph.kc_figure import draw_scores

        return draw_scores(self)

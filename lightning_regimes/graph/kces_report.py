"""What a sanitizer found and did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_regimes.graph.detection import Detection, detect
from lightning_regimes.graph.edge_suspicion import cosine_similarity
from lightning_regimes.graph.kc_result import KCResult
from lightning_regimes.graph.pruning_ratio import RatioCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class KCESReport:
    """The edges of a graph, how much each is doubted, and which stay.

    Attributes:
        edges: the ends a < b, shape (edges, 2).
        suspicion: higher goes first, shape (edges,).
        keep: which edges stay, shape (edges,).
        keep_columns: which columns of the given ``edge_index`` stay.
        num_nodes: number of nodes.
        ratio: the share that was to go.
        gkc_before: the complexity of the given graph, on the last of the label sources in use.
        gkc_after: that of the pruned graph.
        score: the recipe.
        solver: of the scores.
        seconds: time of it all.
        pseudo_label_accuracy: of the pseudo-labels on the validation nodes, None without either.
        curve: validation accuracy over ratios, None if the ratio was not chosen by it.
        results: the kernel complexity scores, by the source of their labels.
    """

    edges: Tensor
    suspicion: Tensor
    keep: Tensor
    keep_columns: Tensor
    num_nodes: int
    ratio: float
    gkc_before: float
    gkc_after: float
    score: str
    solver: str
    seconds: float
    pseudo_label_accuracy: float | None = None
    curve: RatioCurve | None = None
    results: dict[str, KCResult] = field(default_factory=dict)

    @property
    def num_edges(self) -> int:
        """Number of edges before."""
        return len(self.keep)

    @property
    def num_pruned(self) -> int:
        """Number of edges that went."""
        return int((~self.keep).sum())

    def detection(self, clean_edge_index: Tensor) -> Detection:
        """Compare with the graph before an attack."""
        return detect(self.edges, self.suspicion, self.keep, clean_edge_index, self.num_nodes)

    def top_edges(
        self, count: int = 20, *, x: Tensor | None = None, y: Tensor | None = None, train_mask: Tensor | None = None
    ) -> list[dict[str, Any]]:
        """Return the edges that are doubted most, one dictionary each: ends, scores, and what features and labels say.

        ``same_label`` is None unless both ends are training nodes.
        """
        index = self.suspicion.argsort(descending=True, stable=True)[:count]
        pairs = self.edges[index]
        cosine = None if x is None else cosine_similarity(x, pairs)
        table = []
        for place, (row, (i, j)) in enumerate(zip(index.tolist(), pairs.tolist(), strict=True)):
            known = y is not None and train_mask is not None and bool(train_mask[i] & train_mask[j])
            entry: dict[str, Any] = {"i": i, "j": j, "suspicion": float(self.suspicion[row])}
            entry |= {f"kc_{source}": float(result.scores[row]) for source, result in self.results.items()}
            entry["cosine"] = None if cosine is None else float(cosine[place])
            entry["same_label"] = bool(y[i] == y[j]) if known and y is not None else None
            entry["pruned"] = not bool(self.keep[row])
            table.append(entry)
        return table

    def figure(self) -> Figure:
        """Draw the suspicion of kept and pruned edges."""
        from matplotlib.figure import Figure

        from lightning_regimes.graph.figure_colours import ACCENT, CONTRAST

        figure = Figure(figsize=(6.0, 3.6), layout="constrained")
        axes = figure.subplots()
        groups = [self.suspicion[self.keep].cpu().numpy(), self.suspicion[~self.keep].cpu().numpy()]
        axes.hist(groups, bins=50, stacked=True, color=[ACCENT, CONTRAST], label=["kept", "pruned"])
        axes.set_xlabel(f"suspicion ({self.score})")
        axes.set_ylabel("edges")
        figure.legend(loc="outside upper left", ncols=2, fontsize="small")
        return figure


def spanning_forest(pairs: Tensor, values: Tensor, num_nodes: int) -> Tensor:
    """Return which edges belong to the spanning forest of the least doubted ones, shape (edges,)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    order = values.argsort(stable=True).argsort() + 1
    first, second = pairs.cpu().T.numpy()
    forest = minimum_spanning_tree(coo_matrix((order.cpu().numpy(), (first, second)), shape=(num_nodes, num_nodes)))
    kept = torch.zeros(len(pairs), dtype=torch.bool)
    kept[torch.isin(order.cpu(), torch.from_numpy(forest.data.astype("int64")))] = True
    return kept.to(pairs.device)

"""Kernel complexity scores of all edges: exact, low-rank, and a factorisation for each edge.

Graphs of a contextual block model with mean degree 5 and 64 features, labels of all nodes, ridge 10. The naive time is
that of 20 edges, scaled to all. CPU seconds of the process, one thread.

A second table has whole sanitizers on a graph with 1433 binary features, beside those of DeepRobust where it is
installed (``pip install --no-deps deeprobust numba llvmlite gensim smart_open wrapt`` is what the two need).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import time
import warnings
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_scipy_sparse_matrix

from lightning_regimes.graph import KCES, JaccardPrune, KCResult, LowRankSVD, graph_kernel_complexity, kc_scores
from lightning_regimes.graph.undirected_edges import arcs_of

NAIVE_EDGES = 20

#: Arcs, features, classes and training mask.
Graph = tuple[Tensor, Tensor, Tensor, Tensor]


def block_model(num_nodes: int, degree: float = 5.0, features: int = 64, classes: int = 5) -> Graph:
    """Return arcs, features, classes and training mask; four of five edges or more are inside a class."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(classes, (num_nodes,), generator=generator)
    centres = torch.randn(classes, features, generator=generator)
    x = 0.5 * centres[y] + torch.randn(num_nodes, features, generator=generator)
    count = int(num_nodes * degree / 2)
    first, second = torch.randint(num_nodes, (2, 5 * count), generator=generator)
    chance = torch.where(y[first] == y[second], 1.0, 0.06)
    taken = (torch.rand(5 * count, generator=generator) < chance) & (first != second)
    keys = torch.minimum(first, second)[taken] * num_nodes + torch.maximum(first, second)[taken]
    keys = keys.unique()
    keys = keys[torch.randperm(len(keys), generator=generator)[:count]]
    pairs = torch.stack([keys // num_nodes, keys % num_nodes], dim=1)
    return arcs_of(pairs), x, y, torch.rand(num_nodes, generator=generator) < 0.1


def naive_seconds(arcs: Tensor, x: Tensor, y: Tensor, train_mask: Tensor, exact: KCResult) -> tuple[float, float]:
    """Return the time of a factorisation for each edge, and the largest relative difference of the scores."""
    rows = torch.linspace(0, exact.num_edges - 1, NAIVE_EDGES).long()
    began = time.process_time()
    scores = []
    for row in rows.tolist():
        pairs = torch.cat([exact.edges[:row], exact.edges[row + 1 :]])
        without = graph_kernel_complexity(
            arcs_of(pairs), x, y, train_mask, labels="oracle", lam=10.0, allow_leak=True, solver="exact"
        )
        scores.append(exact.gkc - float(without))
    seconds = (time.process_time() - began) * exact.num_edges / NAIVE_EDGES
    truth = torch.tensor(scores, dtype=torch.float64)
    return seconds, float((truth - exact.scores[rows]).abs().max() / truth.abs().max())


def scored(graph: Graph, solver: str, rank: int) -> tuple[float, KCResult]:
    arcs, x, y, train_mask = graph
    began = time.process_time()
    result = kc_scores(
        arcs,
        x,
        y,
        train_mask,
        labels="oracle",
        allow_leak=True,
        lam=10.0,
        solver=solver,  # type: ignore[arg-type]
        rank=rank,
    )
    return time.process_time() - began, result


def rank_correlation(first: Tensor, second: Tensor) -> float:
    ranks = torch.stack([first.argsort().argsort(), second.argsort().argsort()]).double()
    return float(torch.corrcoef(ranks)[0, 1])


def binary_graph(num_nodes: int, features: int = 1433, words: int = 18) -> Data:
    """Return a block model with about as many words a node as Cora, most of them of the node's class."""
    arcs, _, y, train_mask = block_model(num_nodes, degree=4.0, classes=7)
    generator = torch.Generator().manual_seed(1)
    chance = torch.full((7, features), 0.5 * words / features)
    for label in range(7):
        own = torch.randperm(features, generator=generator)[: features // 7]
        chance[label, own] += 0.5 * words / len(own)
    return Data(x=torch.bernoulli(chance[y], generator=generator), y=y, edge_index=arcs, train_mask=train_mask)


def sanitizers(data: Data) -> dict[str, Callable[[], int]]:
    """Return by their names what to time; each returns the number of edges that are left."""
    ours = {
        "Jaccard 0.01": JaccardPrune(0.01),
        "SVD 50": LowRankSVD(50),
        "KCES 0.1, exact": KCES(0.1, solver="exact"),
        "KCES 0.1, low rank 300": KCES(0.1, solver="nystrom"),
    }
    found: dict[str, Callable[[], int]] = {
        name: lambda transform=transform: transform(data).edge_index.shape[1] // 2  # type: ignore[misc]
        for name, transform in ours.items()
    }
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deeprobust.graph.defense import GCNSVD, GCNJaccard

        adjacency = to_scipy_sparse_matrix(data.edge_index, num_nodes=len(data.y)).tocsr()
        jaccard = GCNJaccard(data.x.shape[1], 16, 7)
        jaccard.threshold = 0.01
        features = data.x.numpy().astype("float64")
        found["Jaccard 0.01, DeepRobust"] = lambda: (
            jaccard.drop_dissimilar_edges(features, adjacency.copy()).count_nonzero() // 2
        )
        found["SVD 50, DeepRobust"] = lambda: int(
            (GCNSVD(data.x.shape[1], 16, 7).truncatedSVD(adjacency.astype("float64"), 50) > 0.01).sum() // 2
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[200, 1000, 2000])
    parser.add_argument("--large", type=int, default=170_000, help="nodes of the low-rank run, 0 for none")
    parser.add_argument("--sanitizers", type=int, default=2500, help="nodes of the second table, 0 for none")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("nodes", "edges", "solver", "seconds", "naive / exact", "agreement")
    for num_nodes in options.nodes:
        graph = block_model(num_nodes)
        seconds, exact = scored(graph, "exact", 300)
        naive, error = naive_seconds(*graph, exact)
        size = (f"{num_nodes}", f"{exact.num_edges}")
        table.add_row(*size, "exact", f"{seconds:.2f}", f"{naive / seconds:.0f}", f"relative error {error:.0e}")
        seconds, near = scored(graph, "nystrom", 300)
        tenth = exact.num_edges // 10
        overlap = float(torch.isin(near.top(tenth), exact.top(tenth)).double().mean())
        agreement = f"Spearman {rank_correlation(near.scores, exact.scores):.3f}, top tenth {overlap:.2f}"
        table.add_row(*size, "low rank 300", f"{seconds:.2f}", "", agreement)
    if options.large:
        seconds, large = scored(block_model(options.large, degree=13.7, features=128), "nystrom", 128)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        finite = "finite" if bool(large.scores.isfinite().all()) else "NOT FINITE"
        size = (f"{options.large}", f"{large.num_edges}")
        table.add_row(*size, "low rank 128", f"{seconds:.1f}", "", f"{finite}, {peak:.1f} GiB at most")
    Console(width=130).print(table)
    if options.sanitizers:
        data = binary_graph(options.sanitizers)
        table = Table("sanitizer", "edges", "left", "seconds")
        for name, run in sanitizers(data).items():
            # DeepRobust prints what it does, Numba compiles and libraries load at the first call.
            with contextlib.redirect_stdout(io.StringIO()):
                if not name.startswith("KCES"):
                    run()
                began = time.process_time()
                left = run()
                seconds = time.process_time() - began
            table.add_row(name, f"{data.edge_index.shape[1] // 2}", f"{left}", f"{seconds:.3f}")
        Console(width=130).print(table)


if __name__ == "__main__":
    main()

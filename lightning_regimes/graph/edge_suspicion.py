"""One number an edge that says how much a sanitizer should doubt it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.graph.edge_scores import kc_scores
from lightning_regimes.graph.kc_result import KCResult
from lightning_regimes.graph.target_source import LabelSource, check_features, pseudo_label_outputs

Score = Literal[
    "auto",
    "combined",
    "absolute",
    "signed",
    "combined+cosine",
    "signed+cosine",
    "combined+cosine+agreement",
    "signed+cosine+agreement",
]


@dataclass(frozen=True, eq=False)
class Suspicion:
    """How much each edge is doubted.

    Attributes:
        values: higher is doubted more, shape (edges,).
        results: the kernel complexity scores in it, by the source of their labels.
        score: the recipe in use.
    """

    values: Tensor
    results: dict[str, KCResult]
    score: Score


def check_score(score: str) -> None:
    """Refuse an unknown recipe."""
    if score not in get_args(Score):
        raise ValueError(f"`score` is one of {', '.join(get_args(Score))}, got {score!r}")


def fractional_rank(values: Tensor) -> Tensor:
    """Return the places of values in ascending order as shares of 1; equal values have the mean of theirs."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    mean_place = last - (counts.double() - 1) / 2
    result: Tensor = mean_place[inverse] / max(1, len(values))
    return result


def cosine_similarity(x: Tensor, pairs: Tensor) -> Tensor:
    """Return the cosine between the features of the ends of each edge; 0 where a row is zero."""
    rows = torch.nn.functional.normalize(x.double(), dim=1)
    result: Tensor = torch.linalg.vecdot(rows[pairs[:, 0]], rows[pairs[:, 1]])
    return result


def has_informative_features(x: Tensor | None) -> bool:
    """Return whether features say something about a node: they are there, no identity matrix, and not all equal."""
    if x is None or bool((x == x[:1]).all()):
        return False
    if x.shape[0] != x.shape[1]:
        return True
    nonzero = x != 0
    return not bool((nonzero.sum(0) == 1).all() and (nonzero.sum(1) == 1).all())


def suspicion(
    edge_index: Tensor,
    x: Tensor | None,
    y: Tensor,
    train_mask: Tensor,
    *,
    score: Score = "auto",
    labels: LabelSource = "pseudo",
    lam: float | None = None,
    **settings: Any,
) -> Suspicion:
    """Rank the edges of a graph from kernel complexity, and from similarity where the recipe says so.

    - ``"combined"``: the rank of the absolute scores on training labels plus that of the signed scores on
      pseudo-labels.
    - ``"absolute"`` and ``"signed"``: the scores on ``labels``.
    - ``"…+cosine"``: plus the rank of the negative cosine of the features of both ends.
    - ``"…+agreement"``: plus the rank of the negative cosine of the outputs that the pseudo-labels of both ends are
      the largest of, less their mean over all nodes.
    - ``"auto"``: ``"combined"``, or ``"absolute"`` on training labels if the features say nothing.

    Args:
        edge_index: both arcs of each edge, shape (2, arcs).
        x: features, or None.
        y: classes, shape (nodes,); only those in ``train_mask`` are read.
        train_mask: boolean, shape (nodes,).
        score: the recipe.
        labels: for ``"absolute"`` and ``"signed"``.
        lam: the ridge, None for the default of each label source.
        **settings: as for `kc_scores`.
    """
    check_score(score)
    check_features(x, len(y))
    needs_features = score.startswith("combined") or "+" in score or labels == "pseudo"
    if not has_informative_features(x) and (score == "auto" or needs_features):
        if score != "auto":
            warnings.warn(
                f"`score={score!r}` needs features that tell nodes apart, these are missing, constant or an identity "
                'matrix: `score="absolute"` on training labels takes its place',
                stacklevel=2,
            )
        score, labels = "absolute", "train"
    elif score == "auto":
        score = "combined"

    sources: tuple[LabelSource, ...] = ("train", "pseudo") if score.startswith("combined") else (labels,)
    results: dict[str, KCResult] = {
        source: kc_scores(edge_index, x, y, train_mask, labels=source, lam=lam, **settings) for source in sources
    }
    return Suspicion(rank_together(results, x, y, train_mask, score=score, labels=labels), results, score)


def rank_together(
    results: Mapping[str, KCResult],
    x: Tensor | None,
    y: Tensor,
    train_mask: Tensor,
    *,
    score: Score,
    labels: LabelSource = "pseudo",
) -> Tensor:
    """Return the suspicion of each edge by a recipe other than ``"auto"``, from scores that are known, shape (edges,).

    Args:
        results: the scores on each source of labels that the recipe takes.
        x: features, which similarities need.
        y: classes, shape (nodes,); only those in ``train_mask`` are read.
        train_mask: boolean, shape (nodes,).
        score: the recipe, see `suspicion`.
        labels: for ``"absolute"`` and ``"signed"``.
    """
    base, *similarities = score.split("+")
    if base == "combined":
        values = fractional_rank(results["train"].magnitude) + fractional_rank(results["pseudo"].scores)
    else:
        values = results[labels].magnitude if base == "absolute" else results[labels].scores
        values = fractional_rank(values) if similarities else values
    pairs = next(iter(results.values())).edges
    for similarity in similarities:
        assert x is not None
        rows = x
        if similarity == "agreement":
            outputs = pseudo_label_outputs(x, y, train_mask)
            rows = outputs - outputs.mean(0)
        values = values + fractional_rank(-cosine_similarity(rows, pairs))
    return values

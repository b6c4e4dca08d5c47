"""Kernel ridge regression onto classes in closed form: a classifier without training."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.graph.arc_cosine import arc_cosine_gram
from lightning_regimes.graph.regularized_cholesky import regularized_cholesky


def kernel_ridge(features: Tensor, y: Tensor, train_mask: Tensor, *, lam: float, normalize: bool = True) -> Tensor:
    r"""Return the outputs :math:`H_{\cdot L} (H_{LL} + \lambda I)^{-1} Y_L` of all nodes.

    Y are one-hot labels less their mean, which is added again.

    Args:
        features: dense, shape (nodes, features).
        y: classes, shape (nodes,); only those of training nodes are read.
        train_mask: boolean, shape (nodes,).
        lam: the ridge.
        normalize: whether rows are scaled to unit norm.

    Returns:
        Outputs of shape (nodes, classes).
    """
    train = features[train_mask]
    targets = torch.nn.functional.one_hot(y[train_mask].long()).to(features.dtype)
    mean = targets.mean(0)
    factor = regularized_cholesky(arc_cosine_gram(train, normalize=normalize), lam)
    dual = torch.cholesky_solve(targets - mean, factor)
    return arc_cosine_gram(features, train, normalize=normalize) @ dual + mean

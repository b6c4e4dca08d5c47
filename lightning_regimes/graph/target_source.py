"""Which labels a graph kernel complexity is about."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.graph.kernel_ridge import kernel_ridge

LabelSource = Literal["train", "pseudo", "oracle"]

#: The ridge of the pseudo-labels' kernel on features of unit norm.
PSEUDO_LABEL_RIDGE = 0.1


@dataclass(frozen=True, eq=False)
class Targets:
    """Rows in use and what they should say.

    Attributes:
        used: the nodes, shape (rows,).
        values: one-hot labels, or outputs in their place, less their mean over the rows, in float64, shape (rows,
            classes).
    """

    used: Tensor
    values: Tensor


def check_features(x: Tensor | None, num_nodes: int) -> None:
    """Refuse features that are no matrix of finite numbers."""
    if x is None:
        return
    if x.layout != torch.strided:
        raise ValueError(f"`x` is a dense tensor, got {x.layout}: use `x.to_dense()`")
    if x.ndim != 2 or len(x) != num_nodes:
        raise ValueError(f"`x` has shape (nodes, features) with {num_nodes} nodes, got {tuple(x.shape)}")
    num_bad = int((~torch.isfinite(x)).any(1).sum())
    if num_bad:
        raise ValueError(f"`x` is finite, got NaN or infinity in {num_bad} of {len(x)} rows")


def check_labels(y: Tensor, train_mask: Tensor) -> None:
    """Refuse labels of training nodes that are no classes, or of one class only."""
    if y is None or train_mask is None:
        raise ValueError(f"`{'y' if y is None else 'train_mask'}` is needed, got None")
    if y.ndim != 1:
        raise ValueError(f"`y` holds one class a node, shape (nodes,), got {tuple(y.shape)}")
    if train_mask.dtype != torch.bool or train_mask.shape != y.shape:
        raise ValueError(
            f"`train_mask` is boolean of shape {tuple(y.shape)}, got {train_mask.dtype} {tuple(train_mask.shape)}"
        )
    if not train_mask.any():
        raise ValueError("`train_mask` selects at least one node of each of two classes, got none")
    of_train = y[train_mask]
    if y.is_floating_point() and not bool((of_train == of_train.round()).all()):
        raise ValueError("`y` is a class for each training node, got NaN or a fraction")
    if int(of_train.min()) < 0:
        raise ValueError(f"`y` is a class from 0 for each training node, got {int(of_train.min())}")
    if len(of_train.unique()) < 2:
        raise ValueError("`y` has two classes or more in `train_mask`, got one")


def pseudo_labels(x: Tensor, y: Tensor, train_mask: Tensor) -> Tensor:
    r"""Label all nodes from their features alone, in closed form.

    A kernel ridge regression with the arc-cosine kernel on features of unit norm is fitted to the training nodes; each
    other node gets its largest output. No edge has a part in this, so no change of edges can.

    Args:
        x: features, shape (nodes, features).
        y: classes, shape (nodes,). Only those in ``train_mask`` are read, and stay.
        train_mask: boolean, shape (nodes,).

    Raises:
        ValueError: an argument is not as described.
    """
    labels = pseudo_label_outputs(x, y, train_mask).argmax(1)
    labels[train_mask] = y[train_mask].long()
    return labels


def pseudo_label_outputs(x: Tensor, y: Tensor, train_mask: Tensor) -> Tensor:
    """Return the outputs whose largest is the pseudo-label, shape (nodes, classes); input as for `pseudo_labels`."""
    check_labels(y, train_mask)
    check_features(x, len(y))
    return kernel_ridge(x.double(), y, train_mask, lam=PSEUDO_LABEL_RIDGE)


def check_label_source(source: str, *, allow_leak: bool) -> None:
    """Refuse an unknown source of labels, and that of all true labels unless it is permitted."""
    if source not in get_args(LabelSource):
        raise ValueError(f"`labels` is one of {', '.join(get_args(LabelSource))}, got {source!r}")
    if source == "oracle" and not allow_leak:
        raise ValueError('`labels="oracle"` reads the labels of test nodes: it takes `allow_leak=True`, got False')


def find_targets(x: Tensor | None, y: Tensor, train_mask: Tensor, source: LabelSource, *, allow_leak: bool) -> Targets:
    """Return the rows and targets of a label source.

    Raises:
        ValueError: the source is unknown, is ``"oracle"`` without permission, or needs features.
    """
    check_label_source(source, allow_leak=allow_leak)
    check_labels(y, train_mask)
    if source == "oracle":
        warnings.warn(
            '`labels="oracle"` reads the labels of test nodes: what comes out is no defence, and accuracy on them is '
            "too high",
            stacklevel=2,
        )
    if source != "train" and x is None and source == "pseudo":
        raise ValueError('`labels="pseudo"` needs features, got `x=None`: use `labels="train"`')
    used = torch.arange(len(y), device=y.device)
    if source == "pseudo":
        assert x is not None
        # Where the guess is a close one its outputs say so, and the largest alone does not.
        values = pseudo_label_outputs(x, y, train_mask)
        return Targets(used, values - values.mean(0))
    if source == "train":
        used = train_mask.nonzero().squeeze(1)
    elif int(y.min()) < 0:
        raise ValueError('`y` is a class from 0 for each node with `labels="oracle"`, got a negative one')
    values = torch.nn.functional.one_hot(y[used].long()).double()
    return Targets(used, values - values.mean(0))

"""How similar the representations of two networks are: centred kernel alignment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from torch import Tensor, nn

from lightning_regimes.landscape.activations import Forward, activations, at_rest, matching_layers
from lightning_regimes.landscape.cka_result import CKAResult, Pairs
from lightning_regimes.landscape.cka_sums import CKASums
from lightning_regimes.landscape.independence_criterion import Estimator


def cka(
    module_a: nn.Module,
    module_b: nn.Module,
    batches: Iterable[Any],
    layers: str | Sequence[str] | None = None,
    *,
    layers_b: str | Sequence[str] | None = None,
    estimator: Estimator = "unbiased",
    pairs: Pairs = "matching",
    forward: Forward | None = None,
) -> CKAResult:
    r"""Measure the linear centred kernel alignment of layers of two networks.

    .. math:: \mathrm{CKA} = \frac{\sum_i n_i \, \mathrm{HSIC}(X_i X_i^T, Y_i Y_i^T)}
        {\sqrt{\sum_i n_i \, \mathrm{HSIC}(X_i X_i^T, X_i X_i^T) \, \sum_i n_i \, \mathrm{HSIC}(Y_i Y_i^T, Y_i Y_i^T)}}

    with the activations :math:`X_i, Y_i` of batch i, a row a sample, in float64. The sums are taken before the ratio:
    with the unbiased estimator of the Hilbert–Schmidt independence criterion (HSIC) the value then doesn't depend on
    how the samples are split into batches, up to noise. The biased one grows as batches shrink.

    Both networks run in evaluation mode, and nothing in them changes.

    Args:
        module_a: the first network.
        module_b: the second one; may be the same or of another architecture.
        batches: of samples; the activations of one batch are held at a time.
        layers: names of submodules of ``module_a``, or glob patterns. Default: all without children that the forward
            pass runs through and that return a tensor with a row a sample, and, for matching pairs without
            ``layers_b``, that ``module_b`` has as well. A layer that is called several times counts with its last call.
        layers_b: the same for ``module_b``. Default: ``layers``.
        estimator: ``"unbiased"`` needs batches of at least 4 samples, ``"biased"`` of 2.
        pairs: ``"matching"`` compares each layer with the one at the same place of ``layers_b``, ``"all"`` with all.
        forward: ``forward(module, batch)`` runs the network. Default: the module is called with the batch, or with the
            first entry of a tuple or list.

    Returns:
        The values. Where a layer is constant over the samples of each batch, or not finite, or where the unbiased
        estimate of its own HSIC isn't positive, its values are NaN, and a warning names it.

    Raises:
        ValueError: no batches, one that is too small, no such layer, or layers that don't match.
        TypeError: a layer that was asked for doesn't return a tensor.

    References:
        Kornblith, Norouzi, Lee, Hinton, Similarity of Neural Network Representations Revisited, arXiv:1905.00414;
        Nguyen, Raghu, Kornblith, Do Wide and Deep Networks Learn the Same Things?, arXiv:2010.15327, equations 2 to 4.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"`estimator` is one of {', '.join(get_args(Estimator))}, got {estimator!r}")
    if pairs not in get_args(Pairs):
        raise ValueError(f"`pairs` is one of {', '.join(get_args(Pairs))}, got {pairs!r}")
    if isinstance(batches, Tensor | str):
        raise ValueError(f"`batches` is a sequence of batches, got {type(batches).__name__}; put it into a list")
    run = forward or _forward
    sums: CKASums | None = None
    names_a = matching_layers(module_a, layers, "layers")
    names_b = matching_layers(
        module_b, layers if layers_b is None else layers_b, "layers" if layers_b is None else "layers_b"
    )
    with contextlib.ExitStack() as stack:
        for module in (module_a, module_b):
            stack.enter_context(at_rest(module))
        for index, batch in enumerate(batches):
            found_a = activations(module_a, names_a, batch, run, strict=layers is not None)
            found_b = found_a
            if module_b is not module_a or names_b != names_a:
                found_b = activations(module_b, names_b, batch, run, strict=layers is not None or layers_b is not None)
            if sums is None:
                if pairs == "matching" and layers_b is None:
                    common = [name for name in found_a if name in found_b]
                    sums = CKASums(common, common, pairs, estimator)
                else:
                    sums = CKASums(list(found_a), list(found_b), pairs, estimator)
            sums.add(found_a, found_b, index)
    if sums is None:
        raise ValueError("`batches` is empty")
    return sums.result()


def _forward(module: nn.Module, batch: Any) -> Any:
    return module(batch[0] if isinstance(batch, tuple | list) else batch)

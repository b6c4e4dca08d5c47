"""Sums over batches from which the alignment of two networks' layers follows."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_regimes.landscape.cka_result import CKAResult, Pairs
from lightning_regimes.landscape.independence_criterion import Estimator, Features, centered, independence_criterion
from lightning_regimes.processes import Processes


class CKASums:
    """HSIC summed over batches, for each layer with itself and for each pair."""

    def __init__(self, layers_a: list[str], layers_b: list[str], pairs: Pairs, estimator: Estimator) -> None:
        if not layers_a or not layers_b:
            raise ValueError("the networks have no layers to compare; name them in `layers` and `layers_b`")
        if pairs == "matching" and len(layers_a) != len(layers_b):
            raise ValueError(
                f"`pairs` is 'matching', but {len(layers_a)} layers meet {len(layers_b)}; use 'all', or name as many"
            )
        self._layers_a, self._layers_b, self._pairs, self._estimator = layers_a, layers_b, pairs, estimator
        shape = (len(layers_a),) if pairs == "matching" else (len(layers_a), len(layers_b))
        self._cross = np.zeros(shape)
        self._own_a, self._own_b = np.zeros(len(layers_a)), np.zeros(len(layers_b))
        self._varies_a, self._varies_b = np.zeros(len(layers_a), bool), np.zeros(len(layers_b), bool)
        self._num_samples = 0

    def add(self, found_a: dict[str, Tensor], found_b: dict[str, Tensor], index: int) -> None:
        """Add the activations of a batch, by layer, a row a sample; ``index`` is for the messages.

        Raises:
            ValueError: a layer is missing, the layers differ in the number of samples, or these are too few.
        """
        features_a = [_features(found_a, name) for name in self._layers_a]
        features_b = [_features(found_b, name) for name in self._layers_b]
        counts = {len(each.rows) for each in (*features_a, *features_b)}
        smallest = 4 if self._estimator == "unbiased" else 2
        if len(counts) > 1:
            raise ValueError(f"the layers return different numbers of samples for batch {index}: {sorted(counts)}")
        count = counts.pop()
        if count < smallest:
            raise ValueError(
                f"the {self._estimator} estimator needs at least {smallest} samples a batch, batch {index} of "
                f"`batches` has {count}; drop it or join it with another"
            )
        self._num_samples += count
        for own, varies, features in (
            (self._own_a, self._varies_a, features_a),
            (self._own_b, self._varies_b, features_b),
        ):
            own += [count * independence_criterion(each, each, self._estimator) for each in features]
            varies |= [not each.is_constant for each in features]
        if self._pairs == "matching":
            self._cross += [
                count * independence_criterion(a, b, self._estimator)
                for a, b in zip(features_a, features_b, strict=True)
            ]
        else:
            self._cross += [
                [count * independence_criterion(a, b, self._estimator) for b in features_b] for a in features_a
            ]

    def shared(self, processes: Processes, device: torch.device) -> None:
        """Add up the sums of several processes, each of which has some of the batches."""
        if processes.count == 1:
            return
        parts = (self._cross, self._own_a, self._own_b, self._varies_a, self._varies_b, np.array([self._num_samples]))
        sizes = [part.size for part in parts]
        flat = np.concatenate([part.astype(np.float64).ravel() for part in parts])
        total = processes.sum(
            lambda: torch.from_numpy(flat).to(device), shape=(sum(sizes),), dtype=torch.float64, device=device
        )
        cross, own_a, own_b, varies_a, varies_b, count = np.split(total.cpu().numpy(), np.cumsum(sizes)[:-1])
        self._cross, self._own_a, self._own_b = cross.reshape(self._cross.shape), own_a, own_b
        self._varies_a, self._varies_b, self._num_samples = varies_a > 0, varies_b > 0, int(count[0])

    def result(self) -> CKAResult:
        """Return the ratios of the sums; a warning names the layers for which there are none."""
        norm_a, norm_b = self._norms(self._own_a, self._varies_a), self._norms(self._own_b, self._varies_b)
        unusable = dict.fromkeys(
            name
            for names, norms in ((self._layers_a, norm_a), (self._layers_b, norm_b))
            for name, norm in zip(names, norms.tolist(), strict=True)
            if not math.isfinite(norm)
        )
        if unusable:
            warnings.warn(
                f"CKA is undefined (NaN) for {', '.join(unusable)}: the activations are the same for all samples of a "
                "batch, not finite, or too few to tell",
                stacklevel=3,
            )
        scale = norm_a * norm_b if self._pairs == "matching" else np.outer(norm_a, norm_b)
        return CKAResult(
            values=self._cross / scale,
            layers=tuple(self._layers_a),
            layers_b=tuple(self._layers_b),
            pairs=self._pairs,
            num_samples=self._num_samples,
        )

    @staticmethod
    def _norms(own: NDArray[np.float64], varies: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.sqrt(np.where(varies & np.isfinite(own) & (own > 0), own, np.nan))


def _features(found: dict[str, Tensor], name: str) -> Features:
    if name not in found:
        raise ValueError(f"the forward pass doesn't run through the layer {name!r} for every batch")
    return centered(found[name])

"""Centred kernel alignment of the layers of two networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pairs = Literal["matching", "all"]


@dataclass(frozen=True, eq=False)
class CKAResult:
    """Centred kernel alignment of layers of two networks, 1 for representations that differ by a rotation and a scale.

    Attributes:
        values: shape (number of layers,), or (layers of the first, layers of the second) for all pairs; NaN where a
            layer is constant. Up to one; the unbiased estimate may lie a little below zero.
        layers: names in the first network.
        layers_b: names in the second one.
        pairs: ``"matching"`` or ``"all"``.
        num_samples: over all batches.
    """

    values: NDArray[np.float64]
    layers: tuple[str, ...]
    layers_b: tuple[str, ...]
    pairs: Pairs
    num_samples: int

    def value(self, layer: str, layer_b: str | None = None) -> float:
        """Return the value of a layer and, for all pairs, of a layer of the second network (default: the same name).

        Raises:
            KeyError: there is no such pair.
        """
        if layer not in self.layers:
            raise KeyError(f"no layer {layer!r}; there are {', '.join(self.layers)}")
        row = self.layers.index(layer)
        if self.pairs == "matching":
            if layer_b not in (None, self.layers_b[row]):
                raise KeyError(f"{layer!r} was compared with {self.layers_b[row]!r} only; use `pairs='all'`")
            return float(self.values[row])
        other = layer if layer_b is None else layer_b
        if other not in self.layers_b:
            raise KeyError(f"no layer {other!r} in the second network; there are {', '.join(self.layers_b)}")
        return float(self.values[row, self.layers_b.index(other)])

    def figure(self) -> Figure:
        """Draw the values: a heat map of all pairs, or a bar a layer."""
        from lightning_regimes.landscape.similarity_figure import draw_similarity

        return draw_similarity(self)

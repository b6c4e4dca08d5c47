"""A network that reads a probe and writes the coefficients of an approximate inverse."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

from lightning_regimes.spectral.chebyshev_recurrence import chebyshev, clipped_lower
from lightning_regimes.spectral.corrections import corrections
from lightning_regimes.spectral.probe_features import num_features, probe_features
from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.spectral_probe import SpectralProbe

Base = Literal["clipped", "smoothing"]


class RecurrenceEngine(nn.Module):
    r"""Corrections of a classical rule, learned in the manner of AutoSpec.

    A network of three layers maps the probe, relative to its largest value, and the dimension of the operator to a
    change of the lower end a of the Chebyshev interval and to factors of its coefficients,

    .. math:: a \, e^{c}, \qquad \alpha_j \, e^{\frac12 \tanh u_j}, \qquad \beta_j \, e^{\frac12 \tanh v_j}

    The dimension matters since conjugate gradients find few low eigenvalues by themselves, and a share of a spectrum
    is few of a small operator and many of a large one.

    Its last layer begins with zeros, so that before training it is the rule itself. It is in float64, scales with the
    operator, and serves any size of one.

    Args:
        degree: d of the residual polynomial.
        probe_size: Ritz values of the probes; one that has fewer is filled up.
        width: of the two hidden layers.
        base: the rule that is corrected: ``"clipped"`` or ``"smoothing"`` (see :func:`clipped`, :func:`smoothing`).
        seed: of the initial weights.

    Raises:
        ValueError: a size below 1, or an unknown rule.

    References:
        Z. Liu, O. Balabanov, Y. Yang, M. Mahoney, Learning to Discover Iterative Spectral Algorithms,
        arXiv:2602.09530, for the idea; sizes, features and corrections are of this package.
    """

    def __init__(
        self,
        degree: int = 8,
        *,
        probe_size: int = 10,
        width: int = 96,
        base: Base = "clipped",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if degree < 1 or probe_size < 1 or width < 1:
            raise ValueError(
                f"`degree`, `probe_size` and `width` are at least 1, got {degree}, {probe_size} and {width}"
            )
        if base not in get_args(Base):
            raise ValueError(f"`base` is one of {', '.join(get_args(Base))}, got {base!r}")
        self.degree = degree
        self.probe_size = probe_size
        #: What another engine needs to have for these weights.
        self.settings = {"degree": degree, "probe_size": probe_size, "width": width, "base": base}
        self.base: Base = base
        self.network = corrections(num_features(probe_size), width, 2 * degree, seed)

    def forward(self, probe: SpectralProbe, degree: int | None = None) -> ResidualRecurrence:
        """Return the coefficients for a probe, or for each of a batch.

        Args:
            probe: of positive definite operators.
            degree: if given, what the caller takes the degree to be.

        Raises:
            ValueError: the degree is not that of the engine, or the probe has too many values.
        """
        if degree is not None and degree != self.degree:
            raise ValueError(f"this engine is of degree {self.degree}, got {degree}")
        parameter, device = next(self.network.parameters()), probe.ritz.device
        probe = probe.to(parameter.device, parameter.dtype)
        scale = probe.ritz[..., -1]
        relative = probe.scaled(1 / scale)
        outputs = self.network(probe_features(relative, self.probe_size))
        cut, alpha, beta = outputs.split([1, self.degree, self.degree - 1], dim=-1)
        upper = relative.upper
        base = clipped_lower(relative, self.degree) if self.base == "clipped" else upper / 30
        lower = torch.minimum(base * cut.squeeze(-1).exp(), 0.9 * upper)
        start = chebyshev(lower, upper, self.degree)
        first, rest = start.beta.split([1, self.degree - 1], dim=-1)
        corrected = torch.cat([first, rest * (0.5 * beta.tanh()).exp()], -1)
        found = ResidualRecurrence(start.alpha * (0.5 * alpha.tanh()).exp(), corrected)
        return found.scaled(scale).to(device)

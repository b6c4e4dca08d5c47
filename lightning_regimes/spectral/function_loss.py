"""How far a polynomial is from a function on a spectrum, as something to minimise."""

from __future__ import annotations

from torch import Tensor

from lightning_regimes.spectral.chebyshev_series import ChebyshevSeries


def relative_error_loss(
    series: ChebyshevSeries,
    function_values: Tensor,
    eigenvalues: Tensor,
    *,
    exponent: float = 16.0,
    tolerance: float = 0.01,
    best: Tensor | None = None,
    aversion: float = 5.0,
) -> Tensor:
    r"""Return the mean over a batch of how much larger the relative error is than what is good enough.

    .. math:: \log (1 + \epsilon / \tau), \qquad \epsilon = \Bigl( \frac1n \sum_i
        \Bigl| \frac{P(\lambda_i)}{f(\lambda_i)} - 1 \Bigr|^q \Bigr)^{1/q}

    The smoothed error ε tends to the largest one as q grows, which is that of P(A) b in the eigenvector in which it is
    worst. Without τ, easy operators, whose errors a small change multiplies by millions, would outweigh all others.

    Args:
        series: P of a batch.
        function_values: f(λ), shape (B, n).
        eigenvalues: λ, shape (B, n).
        exponent: q; a small one at first and a large one later find better minima than a large one at once.
        tolerance: τ.
        best: the least possible error of each of the batch, shape (B,). With it, operators count by
            :math:`((\epsilon + \tau) / (\epsilon_\text{best} + \tau))^a`, so that few are far from what is possible.
        aversion: a.
    """
    error = (series.evaluate(eigenvalues) / function_values - 1).abs()
    largest = error.detach().amax(-1, keepdim=True).clamp(min=1e-14)
    smoothed = largest.squeeze(-1) * ((error / largest).pow(exponent).mean(-1) + 1e-30).pow(1 / exponent)
    losses = (smoothed / tolerance).log1p()
    if best is None:
        return losses.mean()
    regret = (largest.squeeze(-1) + tolerance) / (best + tolerance)
    weights = regret.pow(aversion)
    return (weights * losses).sum() / weights.sum()

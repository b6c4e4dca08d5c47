"""Closed forms of the loss after one and two steps with a learning rate for each layer."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

Network: TypeAlias = Literal["two_layer", "three_layer"]
"""The network of :func:`two_layer_loss` or of :func:`three_layer_loss`."""


def two_layer_surrogate_loss(first: Tensor | float, second: Tensor | float, *, width: int, steps: int = 1) -> Tensor:
    r"""Return the mean test loss of :func:`two_layer_loss` after one or two steps along the target's part alone.

    With :math:`s = \eta_1 + \eta_2` and :math:`u = \eta_1 \eta_2 / h^3`:

    .. math:: L_1 &= \Bigl(\frac{s}{h^2} - 1\Bigr)^2 + \frac1h + \frac{u^2}{h} \\
        L_2 &= \Bigl(\frac{2 s (1 + u)}{h^2} - 1\Bigr)^2 + \frac{(1 + u)^4 + 16 u^2}{h} + \frac{8 u (1 + u)^2}{h^2}

    The gradient is that with the residual :math:`W_1 W_2 / h - \beta` replaced by −β. For it, :math:`L_2` is the exact
    mean over the Haar measure, and :math:`L_1` is without the term :math:`2 u / h^2`. The true gradient gives the same
    to leading order only where h is large or s is small: for :math:`s = 2 h^{3/2}` and h = 100, :math:`L_2` is 0.08
    off.

    Args:
        first: :math:`\eta_1`, the same at both steps.
        second: :math:`\eta_2`, broadcast with it.
        width: h.
        steps: 1 or 2.

    Raises:
        ValueError: another number of steps.

    References:
        Layer balancing, arXiv:2606.00340.
    """
    _require_steps(steps)
    total, product = _sum_and_product(first, second)
    h = float(width)
    u = product / h**3
    if steps == 1:
        return (total / h**2 - 1) ** 2 + (1 + u**2) / h
    signal = 2 * total * (1 + u) / h**2 - 1
    return signal**2 + ((1 + u) ** 4 + 16 * u**2) / h + 8 * u * (1 + u) ** 2 / h**2


def three_layer_surrogate_loss(first: Tensor | float, second: Tensor | float, *, width: int, steps: int = 1) -> Tensor:
    r"""Return the mean test loss of :func:`three_layer_loss` after one or two steps along the target's part alone.

    With :math:`s = \eta_1 + \eta_2` and :math:`q = \eta_1 \eta_2`:

    .. math:: L_1 &= \Bigl(\frac{s}{h} - 1\Bigr)^2 + \frac1h + \frac{q^2}{h^4} \\
        L_2 &= \Bigl(\frac{2 s (h + q)}{h^2} - 1\Bigr)^2 + \frac1h + \frac{2 q}{h^2} + \frac{10 q + q^2}{h^3}
        + \frac{37 q^2}{h^4} + \frac{12 q^3}{h^5} + \frac{q^4}{h^6}

    The gradient is that with the residual replaced by −β. For it, and for :math:`|a| = |\beta| = 1`, :math:`L_2` is
    the exact mean over the Haar measure, and :math:`L_1` is without the term :math:`2 q / h^3`.

    Args:
        first: :math:`\eta_1`, the same at both steps.
        second: :math:`\eta_2`, broadcast with it.
        width: h.
        steps: 1 or 2.

    Raises:
        ValueError: another number of steps.

    References:
        Layer balancing, arXiv:2606.00340.
    """
    _require_steps(steps)
    total, q = _sum_and_product(first, second)
    h = float(width)
    if steps == 1:
        return (total / h - 1) ** 2 + 1 / h + q**2 / h**4
    signal = 2 * total * (h + q) / h**2 - 1
    noise = 1 / h + 2 * q / h**2 + (10 * q + q**2) / h**3 + 37 * q**2 / h**4 + 12 * q**3 / h**5 + q**4 / h**6
    return signal**2 + noise


def equal_split_threshold(scaled_sum: float, *, network: Network = "two_layer") -> float:
    r"""Return the width above which equal rates are a local optimum of the surrogate after two steps.

    At a fixed sum, the loss is a function of the product of the rates, which is largest where they are equal, and falls
    with it where the signal outgrows the noise. For the two-layer network with :math:`s = \sigma h^{3/2}` and
    :math:`u = \sigma^2 / 4` that is

    .. math:: \sigma h^{3/2} > \bigl[(1 + u)^3 + 8 u + 2 \sigma^2 (1 + u)\bigr] h + 2 (1 + u) (1 + 3 u)

    or :math:`\sqrt h > ((1 + u)^3 + 8 u) / \sigma + 2 \sigma (1 + u)` to leading order; and for the three-layer network
    with :math:`s = \sigma h^{1/2}`

    .. math:: \sigma h^{3/2} > \tfrac12 (1 + u) (1 + 4 \sigma^2) h + \tfrac12 (5 + 37 u + 18 u^2 + 2 u^3)

    After one step, equal rates are the worst at any width. The true gradient has its threshold elsewhere: for the
    two-layer network with σ = 0.9, 1.5, 1.9 it is 104, 116, 176 by :func:`two_layer_loss`, and 37, 106, 216 here.

    Args:
        scaled_sum: σ, positive.
        network: which one.

    Raises:
        ValueError: an argument is out of its range.
    """
    if network not in get_args(Network):
        raise ValueError(f"`network` is one of {', '.join(get_args(Network))}, got {network!r}")
    if not scaled_sum > 0:
        raise ValueError(f"`scaled_sum` is positive, got {scaled_sum}")
    u = scaled_sum**2 / 4
    if network == "two_layer":
        quadratic = (1 + u) ** 3 + 8 * u + 2 * scaled_sum**2 * (1 + u)
        constant = 2 * (1 + u) * (1 + 3 * u)
    else:
        quadratic = (1 + u) * (1 + 4 * scaled_sum**2) / 2
        constant = (5 + 37 * u + 18 * u**2 + 2 * u**3) / 2
    return _positive_root(scaled_sum, quadratic, constant) ** 2


def _positive_root(cubic: float, quadratic: float, constant: float) -> float:
    """Positive root of a x³ − b x² − c with positive a, b and c, by Newton's method from above, where it is convex."""
    x: float = quadratic / cubic + (constant / cubic) ** (1 / 3)
    while True:
        value = (cubic * x - quadratic) * x**2 - constant
        following = x - value / ((3 * cubic * x - 2 * quadratic) * x)
        if following >= x:
            return x
        x = following


def _require_steps(steps: int) -> None:
    if steps not in (1, 2):
        raise ValueError(f"`steps` is 1 or 2, for which there is a closed form, got {steps}")


def _sum_and_product(first: Tensor | float, second: Tensor | float) -> tuple[Tensor, Tensor]:
    eta, other = (torch.as_tensor(rate, dtype=torch.float64) for rate in (first, second))
    return eta + other, eta * other

"""How the split of a learning rate over the layers of a linear network decides its loss, exactly, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LearningRates = Tensor | Sequence[Sequence[float]]

_NODES = 64
_FEWEST_ANGLES = 1024
_MOST_ANGLES = 2**15


def two_layer_loss(
    learning_rates: LearningRates, *, width: int, angles: Tensor | None = None, signal_only: bool = False
) -> Tensor:
    r"""Train :math:`W_1 W_2 / h` towards an orthogonal target by gradient descent, with a rate for each layer.

    Weights h × h start Haar-orthogonal, the target is :math:`\beta = Q / \sqrt h` with Q orthogonal, the inputs are
    white, the training loss is :math:`\frac12 \|W_1 W_2 / h - \beta\|_F^2`, and :math:`L = \|W_1 W_2 / h -
    \beta\|_F^2` is the test loss. All matrices commute with :math:`O = (W_1 W_2)^T Q` at the start, so that each
    eigenvalue :math:`e^{i\theta}` of O has its own three numbers: :math:`w_1 = w_2 = 1`, :math:`t = e^{i\theta} /
    \sqrt h`, and

    .. math:: r = \frac{w_1 w_2}{h} - t, \quad w_1 \leftarrow w_1 - \frac{\eta_1}{h} r \bar w_2, \quad
        w_2 \leftarrow w_2 - \frac{\eta_2}{h} \bar w_1 r, \quad L = \sum_\theta |r|^2

    Without ``angles`` the loss is the mean over the Haar measure. :math:`|r(\theta)|^2` is an even trigonometric
    polynomial, and the traces of even powers of O are 1 on average, those of odd powers 0, so that

    .. math:: \operatorname{E} L = (h - 1) \frac{1}{2\pi} \int |r(\theta)|^2 d\theta
        + \frac{|r(0)|^2 + |r(\pi)|^2}{2}

    which is exact as long as the polynomial, of degree up to :math:`3^n` after n steps, is of low degree beside h.
    Learning rates of the order :math:`h^{3/2}` change the loss within a step.

    Args:
        learning_rates: :math:`\eta_1, \eta_2` at each step, shape (..., n, 2).
        width: h, at least 2.
        angles: θ of one instance, shape (h,), see :func:`relative_angles`; default the mean over instances.
        signal_only: take the gradient of the target's part alone, with :math:`-t` in place of r.

    Returns:
        L before the first and after each step, shape (..., n + 1), float64; it may overflow where training diverges.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Layer balancing, arXiv:2606.00340, for the setting.
    """
    rates = _require_rates(learning_rates)
    _require_width(width)
    if angles is not None:
        if angles.shape != (width,):
            raise ValueError(f"`angles` has one angle for each of the {width} units, got shape {tuple(angles.shape)}")
        return _mode_losses(rates, width, angles.double(), signal_only).sum(-1)
    count = min(max(2 * 3 ** min(rates.shape[-2], 12), _FEWEST_ANGLES), _MOST_ANGLES)
    theta = torch.linspace(0, math.pi, count + 1, dtype=torch.float64, device=rates.device)
    losses = _mode_losses(rates, width, theta, signal_only)
    ends = (losses[..., 0] + losses[..., -1]) / 2
    mean: Tensor = (losses[..., 1:-1].sum(-1) + ends) / count
    return (width - 1) * mean + ends


def three_layer_loss(
    learning_rates: LearningRates,
    *,
    width: int,
    overlap: float | None = None,
    readout_square: float = 1.0,
    target_square: float = 1.0,
    signal_only: bool = False,
) -> Tensor:
    r"""Train :math:`W_1 W_2 a / \sqrt h` towards a vector by gradient descent on two matrices of the three layers.

    Weights h × h start Haar-orthogonal, a is fixed, the inputs are white, the training loss is :math:`\frac12 |r|^2`
    with :math:`r = W_1 W_2 a / \sqrt h - \beta`, and :math:`L = |r|^2` is the test loss. Nothing leaves the plane of
    :math:`W_1 W_2 a` and β, so that two units do what h do: the same network with

    .. math:: W_1 = W_2 = I_2, \quad a = (\sqrt c, 0), \quad
        \beta = \Bigl(\frac{\rho}{\sqrt c}, \sqrt{b - \frac{\rho^2}{c}}\Bigr), \quad
        c = |a|^2, \quad b = |\beta|^2, \quad \rho = \beta^T W_1 W_2 a

    the factor :math:`1 / \sqrt h` kept. Without ``overlap`` the loss is the mean over the Haar measure, for which
    :math:`\rho / \sqrt{bc}` is a coordinate of a random unit vector: by Gauss quadrature, exact for polynomials of
    degree 127 in ρ, that is, for four steps and to rounding beyond. Learning rates of the order :math:`\sqrt h` change
    the loss within a step.

    Args:
        learning_rates: :math:`\eta_1, \eta_2` of the two matrices at each step, shape (..., n, 2).
        width: h, at least 2.
        overlap: ρ of one instance; default the mean over instances.
        readout_square: c, 1 on average for entries of variance 1/h.
        target_square: b, 1 on average for entries of variance 1/h.
        signal_only: take the gradient of the target's part alone, with −β in place of r.

    Returns:
        L before the first and after each step, shape (..., n + 1), float64; it may overflow where training diverges.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Layer balancing, arXiv:2606.00340, for the setting.
    """
    rates = _require_rates(learning_rates)
    _require_width(width)
    if not (readout_square > 0 and target_square > 0):
        raise ValueError(f"`readout_square` and `target_square` are positive, got {readout_square} and {target_square}")
    largest = math.sqrt(readout_square * target_square)
    if overlap is None:
        cosines, weights = _sphere_quadrature(width)
        losses = _plane_losses(rates, width, largest * cosines, readout_square, target_square, signal_only)
        return losses @ weights
    if not abs(overlap) <= largest * (1 + 1e-12):
        raise ValueError(f"`overlap` is at most the product of the norms, {largest:g}, got {overlap}")
    one = torch.tensor([overlap], dtype=torch.float64)
    return _plane_losses(rates, width, one, readout_square, target_square, signal_only)[..., 0]


def relative_angles(product: Tensor, target: Tensor) -> Tensor:
    r"""Return the angles θ of the eigenvalues :math:`e^{i\theta}` of :math:`(W_1 W_2)^T Q`, shape (h,), float64.

    Args:
        product: :math:`W_1 W_2` at the start, orthogonal, shape (h, h).
        target: Q, orthogonal, shape (h, h).

    Raises:
        ValueError: a matrix is not orthogonal, or the shapes differ.
    """
    for name, matrix in (("product", product), ("target", target)):
        if matrix.ndim != 2 or matrix.shape != (len(product), len(product)):
            raise ValueError(f"`product` and `target` are square and alike, got {name} of {tuple(matrix.shape)}")
        identity = torch.eye(len(matrix), dtype=torch.float64, device=matrix.device)
        if not bool(torch.dist(matrix.double() @ matrix.double().T, identity) < 1e-3):
            raise ValueError(f"`{name}` is an orthogonal matrix, got one whose rows are not orthonormal")
    angles: Tensor = torch.linalg.eigvals(product.double().T @ target.double()).angle()
    return angles


def _mode_losses(rates: Tensor, width: int, theta: Tensor, signal_only: bool) -> Tensor:
    """Return |r|² for each angle, shape (..., n + 1, angles)."""
    target = torch.polar(torch.full_like(theta, width**-0.5), theta)
    first = second = torch.ones_like(target)
    losses = []
    for pair in rates.unbind(-2):
        residual = first * second / width - target
        losses.append(residual.abs().square().expand(*rates.shape[:-2], -1))
        error = -target if signal_only else residual
        eta, other = pair[..., :1] / width, pair[..., 1:] / width
        first, second = first - eta * error * second.conj(), second - other * first.conj() * error
    losses.append((first * second / width - target).abs().square().expand(*rates.shape[:-2], -1))
    return torch.stack(losses, dim=-2)


def _plane_losses(
    rates: Tensor, width: int, overlaps: Tensor, readout_square: float, target_square: float, signal_only: bool
) -> Tensor:
    """Return |r|² for each overlap, shape (..., n + 1, overlaps)."""
    scale = width**-0.5
    along = overlaps / math.sqrt(readout_square)
    target = torch.stack([along, (target_square - along.square()).clamp(min=0).sqrt()], dim=-1)
    # The second matrix only ever shows in its product with the fixed vector.
    hidden = torch.tensor([math.sqrt(readout_square), 0.0], dtype=torch.float64).expand_as(target)
    first = torch.eye(2, dtype=torch.float64).expand(*target.shape, 2)
    losses = []

    def residual() -> Tensor:
        error: Tensor = scale * (first @ hidden[..., None])[..., 0] - target
        return error

    for pair in rates.unbind(-2):
        losses.append(residual().square().sum(-1).expand(*rates.shape[:-2], -1))
        error = (-target if signal_only else residual())[..., None]
        eta, other = (scale * pair[..., index, None, None, None] for index in (0, 1))
        step = other[..., 0] * readout_square * (first.mT @ error)[..., 0]
        first, hidden = first - eta * error * hidden[..., None, :], hidden - step
    losses.append(residual().square().sum(-1).expand(*rates.shape[:-2], -1))
    return torch.stack(losses, dim=-2)


def _sphere_quadrature(width: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights for a coordinate of a random unit vector, by the recurrence of its polynomials."""
    order = torch.arange(1, _NODES, dtype=torch.float64)
    shift = width / 2 - 1
    squares = order * (order + 2 * shift - 1) / (4 * (order + shift) * (order + shift - 1))
    squares[0] = 1 / width
    jacobi = torch.diag(squares.sqrt(), 1)
    nodes, vectors = torch.linalg.eigh(jacobi + jacobi.T)
    return nodes, vectors[0].square()


def _require_rates(learning_rates: LearningRates) -> Tensor:
    rates = torch.as_tensor(learning_rates, dtype=torch.float64).detach().cpu()
    if rates.ndim < 2 or rates.shape[-1] != 2:
        raise ValueError(f"`learning_rates` holds two rates a step, shape (..., n, 2), got {tuple(rates.shape)}")
    if not bool(torch.isfinite(rates).all()):
        raise ValueError("`learning_rates` are finite, got some that are not")
    return rates


def _require_width(width: int) -> None:
    if width < 2:
        raise ValueError(f"`width` is at least 2, got {width}")

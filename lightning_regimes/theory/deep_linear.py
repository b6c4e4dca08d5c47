"""The whole Hessian spectrum of an aligned deep linear network, and the training of its modes, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Values = Tensor | Sequence[float]


@dataclass(frozen=True)
class Bifurcation:
    r"""Eigenvalues split by the counts of Deng et al. for a target of rank r.

    Attributes:
        dominant: the :math:`r^2` largest.
        bulk: the :math:`(d_0 + d_L - 2 r) r` that follow.
        rest: the others, which vanish at the exact minimum.
    """

    dominant: Tensor
    bulk: Tensor
    rest: Tensor

    @property
    def dominant_mean(self) -> float:
        """Mean dominant eigenvalue, the depth L at the exact minimum with unit singular values."""
        return float(self.dominant.mean())

    @property
    def bulk_mean(self) -> float:
        """Mean bulk eigenvalue, 1 at the exact minimum with unit singular values."""
        return float(self.bulk.mean())

    @property
    def ratio(self) -> float:
        """Mean dominant over mean bulk eigenvalue, the depth L at the exact minimum with equal singular values.

        Raises:
            ValueError: the mean bulk eigenvalue is not positive.
        """
        if not self.bulk_mean > 0:
            raise ValueError(f"the ratio needs a positive mean bulk eigenvalue, got {self.bulk_mean:g}")
        return self.dominant_mean / self.bulk_mean


@dataclass(frozen=True)
class DeepLinearSpectrum:
    r"""Spectrum of the loss of a deep linear network.

    Attributes:
        dims: widths :math:`d_0, \ldots, d_L`.
        eigenvalues: of the Hessian, descending, each as often as its multiplicity; shape (number of weights,).
        gauss_newton: :math:`\mu_{ij}` for input mode i and output mode j, shape :math:`(d_0, d_L)`; the nonzero ones
            are the nonzero eigenvalues of the Gauss–Newton part.
    """

    dims: tuple[int, ...]
    eigenvalues: Tensor
    gauss_newton: Tensor

    def bifurcation(self, rank: int) -> Bifurcation:
        """Split the eigenvalues of the Hessian for a target of this rank: `bifurcation` with the network's widths."""
        return bifurcation(self.eigenvalues, rank=rank, input_width=self.dims[0], output_width=self.dims[-1])


@dataclass(frozen=True)
class DeepLinearModes:
    """Modes during training, one row a step, the start first; both of shape (steps + 1, modes).

    Attributes:
        singular_values: of each layer, the same in all layers.
        residuals: of the network, :math:`s^L - t`.
    """

    singular_values: Tensor
    residuals: Tensor


def deep_linear_spectrum(
    dims: Sequence[int], singular_values: Values, residual: Values | None = None
) -> DeepLinearSpectrum:
    r"""Compute every eigenvalue of the Hessian of :math:`\frac12 \|W^L \cdots W^1 - T\|_F^2` in the L weight matrices.

    For layers with common singular values, aligned with one another and with the target,

    .. math:: W^l = Q_l \operatorname{diag}(s) Q_{l-1}^T, \quad
              W^L \cdots W^1 - T = Q_L \operatorname{diag}(\rho) Q_0^T,

    the Hessian falls apart into blocks of at most 2L rows, one for each pair of modes {a, b}, over the variables
    :math:`W^l_{ab}` and :math:`W^l_{ba}` in the bases Q:

    .. math:: H_{(l,i,j),(k,i,j)} &\mathrel{+}= s_i^{L-l} s_j^{l-1} s_i^{L-k} s_j^{k-1} \\
              H_{(k,x,y),(l,y,x)} &\mathrel{+}= \rho_x s_x^{L-k+l-1} s_y^{k-l-1}, \quad k > l, \text{ and symmetric.}

    The first line is the Gauss–Newton part; its eigenvalues are :math:`\mu_{ij} = \sum_l s_i^{2(l-1)} s_j^{2(L-l)}`
    for inputs i and outputs j. Exact at any depth and widths, in O(width² L³).

    Args:
        dims: widths :math:`d_0, \ldots, d_L` from input to output.
        singular_values: s, at most min(dims) of them, zero beyond; a sign is allowed.
        residual: ρ, at most :math:`\min(d_0, d_L)` of them, zero beyond; default zero.

    Raises:
        ValueError: fewer than two widths or one below 1, or values that are too many, not a vector or not finite.

    Example:
        >>> deep_linear_spectrum([2, 2, 2], [1.0]).eigenvalues  # two layers, rank one: the depth 2, and two of the bulk
        tensor([2., 1., 1., 0., 0., 0., 0., 0.], dtype=torch.float64)

    References:
        Deng, Liao, Ouyang, Pang, Yang, Depth, Not Data: An Analysis of Hessian Spectral Bifurcation,
        arXiv:2602.00545, for the Gauss–Newton part.
    """
    widths = tuple(dims)
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"`dims` must hold at least two positive widths, input to output, got {widths}")
    s = _padded(singular_values, "singular_values", limit=min(widths), size=max(widths))
    rho = _padded(() if residual is None else residual, "residual", limit=min(widths[0], widths[-1]), size=max(widths))
    depth = len(widths) - 1
    powers = s[:, None] ** torch.arange(depth)
    squares = powers**2
    return DeepLinearSpectrum(
        dims=widths,
        eigenvalues=torch.cat(list(_block_eigenvalues(widths, powers, rho))).sort(descending=True).values,
        gauss_newton=squares[: widths[0]] @ squares[: widths[-1]].flip(-1).T,
    )


def deep_linear_modes(
    singular_values: Values,
    targets: Values,
    *,
    depth: int,
    learning_rate: float = 0.01,
    momentum: float = 0.9,
    steps: int = 10_000,
) -> DeepLinearModes:
    r"""Train the modes of an aligned deep linear network by gradient descent with momentum.

    Layers that start with the same singular values keep them in common, and each mode moves by itself:

    .. math:: v \leftarrow \beta v + (s^L - t) s^{L-1}, \quad s \leftarrow s - \eta v.

    A mode with target t = 0 and L ≥ 2 decays polynomially, not exponentially: after n steps from :math:`s_0`,

    .. math:: s \approx \left(s_0^{-(2L-2)} + (2L - 2) \frac{\eta}{1 - \beta} n\right)^{-1/(2L-2)}.

    The defaults are those of the published experiments.

    Args:
        singular_values: of each layer at the start, shape (modes,). A product with singular value σ, balanced over the
            layers, has :math:`\sigma^{1/L}`.
        targets: t, singular values of the target in the same order, shape (modes,).
        depth: number of layers L.
        learning_rate: η.
        momentum: β, without dampening or Nesterov's correction.
        steps: number of steps.

    Raises:
        ValueError: an argument is out of its range, or the learning rate is so large that a mode diverges.

    References:
        Deng, Liao, Ouyang, Pang, Yang, Depth, Not Data: An Analysis of Hessian Spectral Bifurcation, arXiv:2602.00545;
        Saxe, McClelland, Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear neural
        networks, arXiv:1312.6120.
    """
    s, target = _vector(singular_values, "singular_values"), _vector(targets, "targets")
    if s.shape != target.shape:
        raise ValueError(f"`targets` must have one value a mode, got {len(target)} for {len(s)} singular values")
    if depth < 1:
        raise ValueError(f"`depth` must be at least 1, got {depth}")
    if not learning_rate > 0:
        raise ValueError(f"`learning_rate` must be positive, got {learning_rate}")
    if not 0 <= momentum < 1:
        raise ValueError(f"`momentum` must be in [0, 1), got {momentum}")
    if steps < 0:
        raise ValueError(f"`steps` must not be negative, got {steps}")
    history = s.repeat(steps + 1, 1)
    velocity = torch.zeros_like(s)
    for step in range(steps):
        root = s ** (depth - 1)
        velocity = momentum * velocity + (root * s - target) * root
        s = s - learning_rate * velocity
        history[step + 1] = s
    residuals = history**depth - target
    if not bool(torch.isfinite(residuals).all()):
        raise ValueError(f"`learning_rate` {learning_rate} makes a mode diverge; choose a smaller one")
    return DeepLinearModes(singular_values=history, residuals=residuals)


def bifurcation(eigenvalues: Values, *, rank: int, input_width: int, output_width: int) -> Bifurcation:
    r"""Split the eigenvalues of a deep linear network by the counts that hold at its minimum.

    With target rank r and unit singular values, :math:`r^2` eigenvalues are L, :math:`(d_0 + d_L - 2 r) r` are 1, and
    the rest are zero.

    Args:
        eigenvalues: shape (m,), in any order, measured or exact.
        rank: r, of the target.
        input_width: :math:`d_0`.
        output_width: :math:`d_L`.

    Raises:
        ValueError: a rank outside 1 … min(widths), or equal to both widths, so that there is no bulk; fewer eigenvalues
            than the dominant and the bulk ones together.

    References:
        Deng, Liao, Ouyang, Pang, Yang, Depth, Not Data: An Analysis of Hessian Spectral Bifurcation, arXiv:2602.00545.
    """
    if not 1 <= rank <= min(input_width, output_width):
        raise ValueError(f"`rank` must be from 1 to the smaller width, got {rank} for {input_width} and {output_width}")
    dominant, bulk = rank**2, (input_width + output_width - 2 * rank) * rank
    if bulk == 0:
        raise ValueError(f"`rank` {rank} equals both widths, which leaves no bulk; it must be smaller than one of them")
    values = _vector(eigenvalues, "eigenvalues").sort(descending=True).values
    if len(values) < dominant + bulk:
        raise ValueError(f"`eigenvalues` must hold at least {dominant} + {bulk} values, got {len(values)}")
    return Bifurcation(*values.split((dominant, bulk, len(values) - dominant - bulk)))


def _block_eigenvalues(dims: tuple[int, ...], powers: Tensor, rho: Tensor) -> Iterator[Tensor]:
    """Yield the eigenvalues of the blocks; `powers` holds s^0 … s^(L-1) for each mode."""
    for mode in range(len(rho)):
        same = torch.tensor([mode])
        jacobian, coupling = _jacobian(dims, powers, same, same), _coupling(powers, rho, same, same)
        yield from _existing(jacobian.mT @ jacobian + coupling + coupling.mT, _exists(dims, same, same))

        second = torch.arange(mode + 1, len(rho))
        first = torch.full_like(second, mode)
        forward, backward = _jacobian(dims, powers, first, second), _jacobian(dims, powers, second, first)
        mixed = _coupling(powers, rho, first, second) + _coupling(powers, rho, second, first).mT
        upper = torch.cat([forward.mT @ forward, mixed], dim=-1)
        lower = torch.cat([mixed.mT, backward.mT @ backward], dim=-1)
        exists = torch.cat([_exists(dims, first, second), _exists(dims, second, first)], dim=-1)
        yield from _existing(torch.cat([upper, lower], dim=-2), exists)


def _exists(dims: tuple[int, ...], row: Tensor, column: Tensor) -> Tensor:
    """Whether entry (row, column) lies inside each layer, shape (pairs, L)."""
    return (row[:, None] < torch.tensor(dims[1:])) & (column[:, None] < torch.tensor(dims[:-1]))


def _jacobian(dims: tuple[int, ...], powers: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Derivative of entry (row, column) of the product in that entry of each layer, shape (pairs, 1, L)."""
    inside = (row < dims[-1]) & (column < dims[0])
    return (powers[row].flip(-1) * powers[column] * inside[:, None])[:, None]


def _coupling(powers: Tensor, rho: Tensor, outer: Tensor, inner: Tensor) -> Tensor:
    """Residual's second derivative in (k, outer, inner) and (l, inner, outer), k > l; shape (pairs, L, L)."""
    depth = powers.shape[1]
    gap = torch.arange(depth)[:, None] - torch.arange(depth)
    below = gap.clamp(min=1)
    # With one layer there is no pair, and the index only has to stay inside.
    outer_power = powers[outer][:, (depth - 1 - below).clamp(min=0)]
    inner_power = powers[inner][:, below - 1]
    return rho[outer][:, None, None] * outer_power * inner_power * (gap > 0)


def _existing(blocks: Tensor, exists: Tensor) -> Iterator[Tensor]:
    """Yield the eigenvalues of the blocks without the variables that lie outside their layer."""
    patterns, membership = exists.unique(dim=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        if bool(pattern.any()):
            yield torch.linalg.eigvalsh(blocks[membership == index][:, pattern][:, :, pattern]).flatten()


def _vector(values: Values, name: str) -> Tensor:
    vector = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if vector.ndim != 1 or not bool(torch.isfinite(vector).all()):
        raise ValueError(f"`{name}` must be a vector of finite numbers, got {values}")
    return vector


def _padded(values: Values, name: str, *, limit: int, size: int) -> Tensor:
    vector = _vector(values, name)
    if len(vector) > limit:
        raise ValueError(f"`{name}` must hold at most {limit} values for these widths, got {len(vector)}")
    return torch.nn.functional.pad(vector, (0, size - len(vector)))

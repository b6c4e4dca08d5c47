"""The error of a trained field without its solution: the change that would satisfy the equation on fresh points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lightning_regimes.pde.derivatives import Field
from lightning_regimes.pde.pointwise_network import PointwiseNetwork

Residual: TypeAlias = Callable[[Field, Tensor], Tensor]
"""By how much a field misses an equation or a condition: ``(N, d)`` points to ``(N, m)`` residuals, row by row."""

# Entries of the parameters that points have of their own at one time: 128 MiB in float64.
_MOST_ENTRIES = 2**24
_DAMPINGS = torch.logspace(-14, 0, 29, dtype=torch.float64)


@dataclass(frozen=True)
class FieldCorrection:
    r"""A change of a network's field, among those to first order in its parameters, that removes the residual.

    Attributes:
        network: the network that is corrected, as it was.
        step: the direction :math:`\delta` of the change :math:`\partial_\theta u \, \delta`, ``(P,)`` in float64, in
            the order of ``parameters()``.
        unexplained: what the corrected field leaves of the residual's norm, at points that the step was not made
            from. Near 0, it satisfies the equation there; near 1, the correction says nothing.
        damping: of the step, in units of the largest eigenvalue of :math:`J J^\top`.
        iterations: how many steps of the simplified Newton method it took.
    """

    network: PointwiseNetwork
    step: Tensor = field(repr=False)
    unexplained: float
    damping: float
    iterations: int

    def __call__(self, points: Tensor) -> Tensor:
        """Return the corrected field, before any ansatz, at points ``(N, d)`` as ``(N, m)`` in float64."""
        return self.network.changed_field(self.step)(self._placed(points))

    def uncorrected(self, points: Tensor) -> Tensor:
        """Return the network's own field in the same precision, ``(N, m)``."""
        return self.network.changed_field(torch.zeros_like(self.step))(self._placed(points))

    def _placed(self, points: Tensor) -> Tensor:
        # In this order: there are devices without float64.
        return points.to(self.step.device).double()


def field_correction(
    network: nn.Module,
    residuals: Mapping[str, Residual],
    points: Mapping[str, Tensor],
    check_points: Mapping[str, Tensor],
    *,
    weights: Mapping[str, float] | None = None,
    ansatz: Callable[[Field], Field] | None = None,
    max_directions: int = 400,
    max_iterations: int = 3,
    seed: int = 0,
) -> FieldCorrection:
    r"""Return the correction of a network's field by Gauss–Newton steps on its residuals at the given points.

    The error :math:`e` of a field satisfies :math:`R(u + e) = 0`, thus :math:`R'(u) e \approx -R(u)`. Among the
    changes :math:`e = \partial_\theta u \, \delta` along a random choice of parameters, the step minimises
    :math:`\|r + J \delta\|^2 + \lambda \|\delta\|^2` with :math:`J = \partial_\theta r`; :math:`\lambda` is the one
    that leaves least of the residual at the check points. With the same :math:`J`, further steps remove what the first
    one leaves of a nonlinear equation, as long as the residual at the check points falls.

    A row of :math:`J` needs the parameters of one point only: with parameters of its own for each point, one backward
    pass gives all rows. All is done in float64, whatever the network's precision.

    Args:
        network: from ``(N, d)`` to ``(N, m)``, each row on its own; evaluated in its present mode, left as it is.
        residuals: of the equation and each condition. At a point they may depend on the field there and at images of
            the point, evaluated as further blocks of ``N`` rows, but not on other points.
        points: where the steps are made, by the names of the residuals, on the device to compute on.
        check_points: where the damping is chosen and the outcome is judged.
        weights: factors ``w_k`` of ``Σ_k w_k mean r_k²``, 1 where not given.
        ansatz: makes the field of the network, the network itself by default.
        max_directions: how many parameters move.
        max_iterations: how many steps to take at most.
        seed: of the choice of the parameters.

    Raises:
        ValueError: a residual depends on the field at other points, isn't finite or has another shape than ``(N, m)``;
            points are missing, a weight is negative or of no residual, or no parameter may move.

    References:
        Solving the linearised equation for the error: H. J. Stetter, "The defect correction principle and
        discretization methods", Numerische Mathematik 29, 1978. Gauss–Newton directions in the tangent space of a
        physics-informed network, there to train it: J. Müller, M. Zeinhofer, "Achieving high accuracy with PINNs via
        energy natural gradient descent", ICML 2023, arXiv:2302.13163.
    """
    _require_consistent(residuals, points, check_points, weights or {}, max_directions)
    device = next(iter(points.values())).device
    model = PointwiseNetwork(network, device)
    terms = _Terms(residuals, weights or {}, ansatz)
    generator = torch.Generator().manual_seed(seed)
    moving = torch.randperm(model.parameters.numel(), generator=generator)[:max_directions].to(device)

    jacobian = terms.jacobian(model, points, moving)
    _require_pointwise(model, terms, points, moving, jacobian)
    least_squares = DampedLeastSquares(jacobian, terms.jacobian(model, check_points, moving))
    step, damping, iterations = torch.zeros_like(model.parameters), 0.0, 0
    field = model.changed_field(step)
    residual, check = terms.values(field, points), terms.values(field, check_points)
    if not (residual.isfinite().all() and check.isfinite().all()):
        raise ValueError("the residuals are not finite")
    initial = check.norm()
    while iterations < max_iterations and check.norm() > 0:
        change, tried_damping = least_squares.step(residual, check)
        tried = step.index_add(0, moving, change)
        field = model.changed_field(tried)
        tried_residual, tried_check = terms.values(field, points), terms.values(field, check_points)
        if not tried_check.norm() < check.norm():
            break
        step, residual, check = tried, tried_residual, tried_check
        damping, iterations = tried_damping, iterations + 1
    unexplained = (check.norm() / initial).item() if initial > 0 else 0.0
    return FieldCorrection(model, step, unexplained, damping, iterations)


class DampedLeastSquares:
    r"""Steps :math:`-J^\top (J J^\top + \lambda)^{-1} r` with the damping that other rows prefer.

    Args:
        jacobian: ``(R, K)``.
        check_jacobian: ``(S, K)``, of rows that steps are not made from.

    Raises:
        ValueError: the Jacobian is not finite.
    """

    def __init__(self, jacobian: Tensor, check_jacobian: Tensor) -> None:
        if not (jacobian.isfinite().all() and check_jacobian.isfinite().all()):
            raise ValueError("the derivatives of the residuals are not finite")
        self._left, self._singular_values, self._right = torch.linalg.svd(jacobian, full_matrices=False)
        self._check = check_jacobian @ self._right.T
        self._dampings = _DAMPINGS.to(jacobian)

    def step(self, residual: Tensor, check_residual: Tensor) -> tuple[Tensor, float]:
        r"""Return the step ``(K,)`` and its :math:`\lambda` over the largest eigenvalue of :math:`J J^\top`.

        Args:
            residual: ``(R,)``.
            check_residual: ``(S,)``.

        Raises:
            ValueError: a residual is not finite.
        """
        if not (residual.isfinite().all() and check_residual.isfinite().all()):
            raise ValueError("the residuals are not finite")
        values = self._singular_values[:, None]
        filtered = values / (values.square() + self._dampings * values[0].square())
        coefficients = -filtered * (self._left.T @ residual)[:, None]
        best = int((check_residual[:, None] + self._check @ coefficients).norm(dim=0).argmin())
        return self._right.T @ coefficients[:, best], self._dampings[best].item()


@dataclass(frozen=True)
class _Terms:
    """The residuals of a field, scaled so that their squares add up to the loss."""

    residuals: Mapping[str, Residual]
    weights: Mapping[str, float]
    ansatz: Callable[[Field], Field] | None

    def values(self, field: Field, points: Mapping[str, Tensor]) -> Tensor:
        """Return the residuals of all terms, ``(R,)``."""
        parts = [
            self._scaled(name, self._evaluate(residual, field, points[name].double()).detach()).reshape(-1)
            for name, residual in self.residuals.items()
        ]
        return torch.cat(parts)

    def jacobian(self, model: PointwiseNetwork, points: Mapping[str, Tensor], moving: Tensor) -> Tensor:
        """Return their derivatives along the moving parameters, ``(R, K)``."""
        at_once = max(1, _MOST_ENTRIES // model.parameters.numel())
        parts = []
        for name, residual in self.residuals.items():
            derivatives = [
                self._linearized(residual, model, part, moving) for part in points[name].double().split(at_once)
            ]
            parts.append(self._scaled(name, torch.cat(derivatives)).flatten(0, 1))
        return torch.cat(parts)

    def _linearized(self, residual: Residual, model: PointwiseNetwork, points: Tensor, moving: Tensor) -> Tensor:
        own = model.parameters.expand(points.shape[0], -1).clone().requires_grad_()
        rows = [
            torch.autograd.grad(column.sum(), own, retain_graph=True, materialize_grads=True)[0][:, moving]
            for column in self._evaluate(residual, model.pointwise_field(own), points).unbind(1)
        ]
        return torch.stack(rows, dim=1)

    def _evaluate(self, residual: Residual, field: Field, points: Tensor) -> Tensor:
        with torch.enable_grad():
            values = residual(field if self.ansatz is None else self.ansatz(field), points)
        if values.ndim != 2 or values.shape[0] != points.shape[0]:
            raise ValueError(
                f"a residual at {points.shape[0]} points has shape ({points.shape[0]}, m), got {tuple(values.shape)}"
            )
        return values

    def _scaled(self, name: str, values: Tensor) -> Tensor:
        num_residuals = values.shape[0] * values.shape[1]
        return values * math.sqrt(self.weights.get(name, 1.0) / num_residuals)


def _require_consistent(
    residuals: Mapping[str, Residual],
    points: Mapping[str, Tensor],
    check_points: Mapping[str, Tensor],
    weights: Mapping[str, float],
    max_directions: int,
) -> None:
    if not residuals:
        raise ValueError("`residuals` must hold at least one")
    for argument, given in (("points", points), ("check_points", check_points)):
        for name in residuals:
            if name not in given or not given[name].shape[0]:
                raise ValueError(f"`{argument}` must hold points of the residual {name!r}, got {sorted(given)}")
    for name, weight in weights.items():
        if name not in residuals or not 0 <= weight < math.inf:
            raise ValueError(
                f"`weights` are not negative, of the residuals {sorted(residuals)}; got {name!r}: {weight}"
            )
    if max_directions < 1:
        raise ValueError(f"`max_directions` is at least 1, got {max_directions}")


def _require_pointwise(
    model: PointwiseNetwork, terms: _Terms, points: Mapping[str, Tensor], moving: Tensor, jacobian: Tensor
) -> None:
    """Compare the Jacobian with a difference quotient, for which no point has parameters of its own."""
    direction = jacobian.sum(dim=0)
    if not (direction.isfinite().all() and direction.any()):
        return
    direction = 1e-4 * direction / direction.norm()
    step = torch.zeros_like(model.parameters).index_add(0, moving, direction)
    forward, backward = (terms.values(model.changed_field(sign * step), points) for sign in (1, -1))
    expected = jacobian @ direction
    difference = ((forward - backward) / 2 - expected).norm() / expected.norm()
    if difference > 1e-2:
        raise ValueError(
            "the derivatives of the residuals, taken point by point, miss a difference quotient by "
            f"{difference.item():.2g} of its size: a residual at a point depends on the field at other points"
        )

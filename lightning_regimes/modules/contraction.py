"""Whether a refinement contracts: how fast a small change of a field fades from one step to the next."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor], Tensor]


def contraction_rate(step: Step, state: Tensor, *, num_iterations: int = 20, seed: int = 0) -> Tensor:
    r"""Estimate the spectral radius ρ of the Jacobian of a step at each sample, (B,), by power iteration.

    Changes of the state grow by ρ a step in the long run: below 1 the iterates settle. For any direction v,

    .. math:: \rho = \lim_n \|J^n v\|^{1/n}

    of which the first half of the iterations is left out, and a mean is taken over the growth of the second, so that
    a complex pair of eigenvalues, under which the growth oscillates, does no harm.

    Args:
        step: from states (B, C, n₁, …) to states, each sample on its own; it takes Jacobian-vector products.
        state: where the Jacobian is taken.
        num_iterations: Jacobian-vector products.
        seed: of the direction to begin with.

    Raises:
        ValueError: fewer than 2 iterations.
    """
    if num_iterations < 2:
        raise ValueError(f"`num_iterations` is at least 2, got {num_iterations}")
    direction = _random_direction(state, seed)
    growths: list[Tensor] = []
    for _ in range(num_iterations):
        direction = _product(step, state, direction)
        growth = direction.flatten(1).norm(dim=1)
        growths.append(growth)
        direction = direction / _along(growth.clamp_min(torch.finfo(state.dtype).tiny), state)
    return torch.stack(growths[num_iterations // 2 :]).log().mean(dim=0).exp()


def contraction_norm(step: Step, state: Tensor, *, num_iterations: int = 20, seed: int = 0) -> Tensor:
    r"""Estimate the norm q of the Jacobian of a step at each sample, (B,), by power iteration on :math:`J^T J`.

    No change of the state grows by more than q in one step; :math:`\rho \le q`. It is approached from below.

    Args:
        step: from states (B, C, n₁, …) to states, each sample on its own.
        state: where the Jacobian is taken.
        num_iterations: products with J and with its transpose.
        seed: of the direction to begin with.

    Raises:
        ValueError: no iteration.
    """
    if num_iterations < 1:
        raise ValueError(f"`num_iterations` is at least 1, got {num_iterations}")
    direction = _random_direction(state, seed)
    norm = torch.zeros(len(state), dtype=state.dtype, device=state.device)
    for _ in range(num_iterations):
        forward = _product(step, state, direction)
        norm = forward.flatten(1).norm(dim=1)
        with torch.enable_grad():
            point = state.detach().requires_grad_()
            (direction,) = torch.autograd.grad(step(point), point, forward)
        length = direction.flatten(1).norm(dim=1)
        direction = direction / _along(length.clamp_min(torch.finfo(state.dtype).tiny), state)
    return norm


def error_floor(bias: Tensor, contraction: Tensor, *, step_size: float) -> Tensor:
    r"""Return the bound :math:`\|e^*\| \le \alpha \|b\| / (1 - q)` on the error of each sample at the fixed point.

    :math:`b = \Phi(x, y)` is what the refinement would still change at the truth. Where the step doesn't contract,
    :math:`q \ge 1`, there is no bound: infinity.

    Args:
        bias: b, (B, C′, n₁, …).
        contraction: q, (B,).
        step_size: α.

    Returns:
        (B,), in the norm that is the root of the mean square.
    """
    size = bias.flatten(1).square().mean(dim=1).sqrt()
    bound = step_size * size / (1 - contraction)
    return torch.where(contraction < 1, bound, torch.inf)


def _product(step: Step, state: Tensor, direction: Tensor) -> Tensor:
    with torch.no_grad():
        product: Tensor = torch.func.jvp(step, (state,), (direction,))[1]
    return product.detach()


def _random_direction(state: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(state.shape, generator=generator, dtype=torch.float64).to(state)
    return direction / _along(direction.flatten(1).norm(dim=1), state)


def _along(values: Tensor, state: Tensor) -> Tensor:
    return values.view(-1, *[1] * (state.ndim - 1))

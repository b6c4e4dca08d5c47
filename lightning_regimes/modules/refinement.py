"""Iterative refinement: a prediction corrected again and again by one network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def refinements(
    refinement: nn.Module, inputs: Tensor, start: Tensor, *, step_size: float, num_steps: int
) -> Iterator[Tensor]:
    r"""Yield the iterates :math:`h_1, \ldots, h_n` of :math:`h_{k+1} = h_k + \alpha\,\Phi([x; h_k])`.

    Gradients flow through all of them.

    Args:
        refinement: Φ, from (B, C + C′, n₁, …) to (B, C′, n₁, …).
        inputs: x, (B, C, n₁, …).
        start: :math:`h_0`, (B, C′, n₁, …).
        step_size: α.
        num_steps: n.
    """
    state = start
    for _ in range(num_steps):
        state = state + step_size * refinement(torch.cat([inputs, state], dim=1))
        yield state


@dataclass(frozen=True)
class StoppedRefinement:
    """Refined fields, each with as many steps as it got.

    Attributes:
        fields: (B, C′, n₁, …).
        num_steps: of each sample, (B,).
    """

    fields: Tensor
    num_steps: Tensor


def refine_until_settled(
    refinement: nn.Module, inputs: Tensor, start: Tensor, *, step_size: float, max_steps: int, tolerance: float
) -> StoppedRefinement:
    r"""Refine each sample until its updates are small or no longer shrink.

    A sample keeps :math:`h_{k + 1}` as its last when :math:`\|h_{k+1} - h_k\| \le \varepsilon \|h_{k + 1}\|`, and
    :math:`h_k` when the update to :math:`h_{k+1}` is longer than the one before, or not finite: iterates that converge
    do neither.

    Args:
        refinement: Φ.
        inputs: x, (B, C, n₁, …).
        start: :math:`h_0`, (B, C′, n₁, …).
        step_size: α.
        max_steps: where all stop.
        tolerance: ε.
    """
    state = start.clone()
    count = torch.zeros(len(start), dtype=torch.long, device=start.device)
    active = torch.arange(len(start), device=start.device)
    last_update = torch.full((len(start),), torch.inf, dtype=start.dtype, device=start.device)
    for _ in range(max_steps):
        update = step_size * refinement(torch.cat([inputs[active], state[active]], dim=1))
        length = update.flatten(1).norm(dim=1)
        shrinks = length <= last_update[active]  # false for a NaN
        taken = active[shrinks]
        state[taken] = state[taken] + update[shrinks]
        count[taken] += 1
        last_update[taken] = length[shrinks]
        active = taken[length[shrinks] > tolerance * state[taken].flatten(1).norm(dim=1)]
        if not len(active):
            break
    return StoppedRefinement(state, count)


def random_number(bounds: tuple[int, int], *, seed: int, step: int) -> int:
    """Return one of two numbers and all between, decided by the seed and the step alone.

    So it is the same after a resume, in all processes, and whatever else draws random numbers.

    Args:
        bounds: the lowest and the highest number.
        seed: of a training.
        step: of that training.
    """
    generator = torch.Generator().manual_seed(hash((seed, step)) % 2**63)
    return int(torch.randint(bounds[0], bounds[1] + 1, (), generator=generator))

"""The order and signs of hidden units in which one network comes closest to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from lightning_regimes.landscape.permutation_specification import PermutationSpecification, infer_specification

State: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class WeightMatching:
    r"""A network whose units are in the order of another one's.

    Attributes:
        state: state dict of the permuted second network; it computes the same function as before.
        permutations: by name, for each unit of the first network the unit of the second that stands there now.
        signs: by name, ±1 for each unit of the first network; all +1 where no change of sign was allowed.
        similarity: :math:`\sum_W \langle W_a, \pi(W_b) \rangle` over the permuted tensors, which was maximised.
        num_sweeps: sweeps over all permutations until nothing changed any more.
        converged: whether that was reached.
    """

    state: dict[str, Tensor]
    permutations: dict[str, Tensor]
    signs: dict[str, Tensor]
    similarity: float
    num_sweeps: int
    converged: bool


def weight_matching(
    first: nn.Module | State,
    second: nn.Module | State,
    specification: PermutationSpecification | None = None,
    *,
    sign: bool = False,
    iterations: int = 100,
    seed: int = 0,
) -> WeightMatching:
    r"""Permute the hidden units of a second network so that its weights come closest to those of a first one.

    .. math:: \pi^* = \arg\min_\pi \|\theta_a - \pi(\theta_b)\|^2
        = \arg\max_\pi \sum_l \langle W^a_l, P_l W^b_l P_{l-1}^T \rangle

    One permutation at a time is the solution of a linear assignment problem; these are solved in random order until
    none changes, which is a local maximum.

    Args:
        first: module or state dict, which stays.
        second: of the same architecture, whose units are permuted.
        specification: which axes belong together. Default: inferred from ``first`` or ``second``, one of which then is
            a module that :func:`~lightning_regimes.landscape.permutation_specification.infer_specification` knows.
        sign: also change signs of units, where the activation is odd.
        iterations: largest number of sweeps.
        seed: of the order.

    Raises:
        ValueError: names or shapes differ, there is no specification, or an argument is out of its range.

    References:
        Ainsworth, Hayase, Srinivasa, Git Re-Basin: Merging Models modulo Permutation Symmetries, arXiv:2209.04836,
        algorithm 1; H. W. Kuhn, The Hungarian method for the assignment problem, 1955. Signs as in A. M. Chen, H. Lu,
        R. Hecht-Nielsen, On the geometry of feedforward neural network error surfaces, Neural Computation 5 (1993).
    """
    if iterations < 1:
        raise ValueError(f"`iterations` is at least 1, got {iterations}")
    if specification is None:
        module = next((each for each in (first, second) if isinstance(each, nn.Module)), None)
        if module is None:
            raise ValueError("`specification` is needed for two state dicts: it can be inferred from a module only")
        specification = infer_specification(module)
    states = [
        {name: value for name, value in _state(each).items() if isinstance(value, Tensor)} for each in (first, second)
    ]
    sizes = specification.sizes(states[0])
    _refuse_differences(states[0], states[1])
    if sign and not specification.odd:
        raise ValueError("`sign` is set, but no hidden unit of this network has an odd activation")

    alignment = _Alignment(specification, sizes, states[0], states[1], sign=sign)
    generator = np.random.default_rng(seed)
    names = list(sizes)
    num_sweeps, converged = 0, False
    while num_sweeps < iterations and not converged:
        num_sweeps += 1
        changed = [alignment.improve(names[index]) for index in generator.permutation(len(names)).tolist()]
        converged = not any(changed)
    return WeightMatching(
        state={name: alignment.permuted(name, tensor).clone() for name, tensor in states[1].items()},
        permutations=alignment.permutations,
        signs=alignment.signs,
        similarity=alignment.similarity(),
        num_sweeps=num_sweeps,
        converged=converged,
    )


class _Alignment:
    """The current permutations and signs, and how to improve one of them."""

    def __init__(
        self, specification: PermutationSpecification, sizes: Mapping[str, int], first: State, second: State, sign: bool
    ) -> None:
        self._axes, self._unsigned = specification.axes, specification.unsigned
        self._odd = specification.odd if sign else frozenset()
        self.permutations = {name: torch.arange(size) for name, size in sizes.items()}
        self.signs = {name: torch.ones(size, dtype=torch.float64) for name, size in sizes.items()}
        # Running statistics are no weights: they follow, but don't decide.
        matched = [name for name in self._axes if name.rpartition(".")[2] not in ("running_mean", "running_var")]
        self._first = {name: first[name].detach().double().cpu() for name in matched}
        self._second = {name: second[name].detach().double().cpu() for name in matched}

    def permuted(self, name: str, tensor: Tensor, *, except_axis: int | None = None) -> Tensor:
        """Return a tensor with its axes permuted and its signs changed."""
        for axis, entry in enumerate(self._axes.get(name, ())):
            if entry is None or axis == except_axis:
                continue
            permutation, signs = self.permutations[entry], self.signs[entry]
            block = tensor.shape[axis] // len(permutation)
            index = (permutation[:, None] * block + torch.arange(block)).flatten().to(tensor.device)
            tensor = tensor.index_select(axis, index)
            if entry in self._odd and name not in self._unsigned:
                shape = [-1 if dimension == axis else 1 for dimension in range(tensor.ndim)]
                tensor = tensor * signs.repeat_interleave(block).to(tensor).view(shape)
        return tensor

    def improve(self, permutation: str) -> bool:
        """Match the units of one permutation, all others fixed; return whether that is better than before."""
        size = len(self.permutations[permutation])
        signed, plain = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
        for name, entries in self._axes.items():
            if name not in self._first:
                continue
            for axis, entry in enumerate(entries):
                if entry == permutation:
                    second = self.permuted(name, self._second[name], except_axis=axis)
                    rows = [tensor.movedim(axis, 0).reshape(size, -1) for tensor in (self._first[name], second)]
                    products = plain if name in self._unsigned else signed
                    products += rows[0] @ rows[1].T
        can_flip = permutation in self._odd
        gains = plain + signed.abs() if can_flip else plain + signed
        rows_of, columns = linear_sum_assignment(gains.numpy(), maximize=True)
        chosen = torch.from_numpy(columns)
        flips = torch.where(signed[rows_of, columns] < 0, -1.0, 1.0).double() if can_flip else torch.ones(size).double()
        before = self.permutations[permutation], self.signs[permutation], self.similarity()
        self.permutations[permutation], self.signs[permutation] = chosen, flips
        # The assignment is not all there is where one permutation acts on two axes of a tensor.
        if self.similarity() > before[2] + 1e-12 * abs(before[2]):
            return True
        self.permutations[permutation], self.signs[permutation] = before[:2]
        return False

    def similarity(self) -> float:
        """Return the sum of products of all permuted weights."""
        return sum(
            float((first * self.permuted(name, self._second[name])).sum()) for name, first in self._first.items()
        )


def _state(solution: nn.Module | State) -> State:
    return solution.state_dict() if isinstance(solution, nn.Module) else solution


def _refuse_differences(first: State, second: State) -> None:
    for name in sorted(first.keys() ^ second.keys()):
        raise ValueError(f"`first` and `second` are of one architecture, but only one of them has {name!r}")
    for name, tensor in first.items():
        if tensor.shape != second[name].shape:
            raise ValueError(
                f"`first` and `second` are of one architecture, but {name!r} has the shapes {tuple(tensor.shape)} and "
                f"{tuple(second[name].shape)}"
            )

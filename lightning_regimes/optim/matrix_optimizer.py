"""The base of optimizers that treat matrices as matrices, and everything else with AdamW."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from lightning_regimes.optim.adamw_step import adamw_step
from lightning_regimes.optim.learning_rate_adjustment import AdjustLearningRate, learning_rate_scale
from lightning_regimes.optim.matrix_group import (
    check_gradients,
    check_group,
    check_momenta,
    group_from_other,
    row_blocks,
)
from lightning_regimes.optim.neuron_normalization import normalize_neurons
from lightning_regimes.optim.parameter_tags import split_by_algorithm
from lightning_regimes.optim.sharded_matrix import own_part, own_part_like, whole

# Entries of matrices of one shape that are worked on at once: more fills memory and is no faster.
_BATCH_ENTRIES = 2**26


class MatrixOptimizer(Optimizer, ABC):
    r"""Momentum whose update is a function of the matrix as a whole, and AdamW for what is no matrix, in one optimizer.

    .. math:: M \leftarrow \mu M + (1 - \mu) G, \quad \tilde M = \mu M + (1 - \mu) G, \quad
        W \leftarrow (1 - \eta \lambda) W - \eta \, s(m, n) \, f(\tilde M)

    A subclass says what f is. A parameter of more than two dimensions is the matrix (out, everything else). Being one
    optimizer, it works with automatic optimization, gradient clipping, schedulers and checkpoints as any other.

    Which parameters are matrices is said by the key ``algorithm`` of a group, ``"matrix"`` or ``"adamw"``
    (:func:`~lightning_regimes.optim.matrix_param_groups` builds such groups); a group without the key is split by the
    marks of :func:`~lightning_regimes.optim.tag_parameters`; without marks, whatever has two or more dimensions counts
    as a matrix, with a warning. A matrix group may have, besides all arguments, the keys

    - ``num_heads``: each matrix is that number of matrices of equally many rows, one for each attention head;
    - ``split_sizes``: numbers of rows of the matrices that one is made of, such as a fused QKV projection.

    The state of ``torch.optim.Muon`` can be loaded. A parameter without a gradient is skipped, a gradient that is not
    finite is an error before anything has changed, and gradients are never written to. Sharded parameters (FSDP2) keep
    sharded states.

    Args:
        params: parameters, pairs (name, parameter), or groups.
        own_settings: settings that only the subclass knows, for groups that do not have their own.
        lr: η, learning rate of matrices.
        weight_decay: λ, decoupled decay of matrices.
        momentum: μ, decay of the running mean of the gradient.
        nesterov: whether the update looks ahead; without, the running mean itself is what f is applied to.
        adjust_lr_fn: how the learning rate follows from the shape, see :func:`learning_rate_scale`.
        cautious_weight_decay: whether to decay only entries that the update moves towards zero.
        adamw_lr: learning rate of all else; None is ``lr``.
        adamw_betas: decay of AdamW's moments.
        adamw_eps: added to AdamW's denominator.
        adamw_weight_decay: decoupled decay of all else; None is ``weight_decay``.
        maximize: whether to go uphill.

    Raises:
        ValueError: a setting is out of range, a matrix group holds something that is no matrix, or there is no matrix.
    """

    def __init__(
        self,
        params: ParamsT,
        own_settings: Mapping[str, Any] | None = None,
        *,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        adjust_lr_fn: AdjustLearningRate | None = "original",
        cautious_weight_decay: bool = False,
        adamw_lr: float | None = None,
        adamw_betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-8,
        adamw_weight_decay: float | None = None,
        maximize: bool = False,
    ) -> None:
        common = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "adjust_lr_fn": adjust_lr_fn,
            "cautious_weight_decay": cautious_weight_decay,
            "adamw_lr": adamw_lr,
            "adamw_betas": adamw_betas,
            "adamw_eps": adamw_eps,
            "adamw_weight_decay": adamw_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, common | dict(own_settings or {}))
        if all(group["algorithm"] == "adamw" for group in self.param_groups):
            raise ValueError(
                f"{type(self).__name__} got no matrix, that is no real parameter of two or more dimensions: use AdamW, "
                "and shard with `fully_shard` (FSDP2) if the parameters are flattened by FSDP1"
            )

    @abstractmethod
    def update(self, matrices: Tensor, group: dict[str, Any]) -> Tensor:
        """Return f of each matrix, before the learning rate and its scale.

        Args:
            matrices: momenta, shape (b, m, n).
            group: whose settings hold.

        Returns:
            Shape (b, m, n), not a view of ``matrices``.
        """

    def learning_rate_scale(self, group: dict[str, Any], rows: int, columns: int) -> float:
        """Return s(m, n), see :func:`~lightning_regimes.optim.learning_rate_adjustment.learning_rate_scale`."""
        return learning_rate_scale(group["adjust_lr_fn"], rows, columns)

    def check_settings(self, group: dict[str, Any]) -> None:
        """Raise ValueError if a setting that only the subclass knows is out of range."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step and return what the closure returns.

        Args:
            closure: evaluates the loss and its gradient, once.

        Raises:
            RuntimeError: the gradient of a matrix is sparse or not finite; nothing has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            matrix_groups = [group for group in self.param_groups if group["algorithm"] == "matrix"]
            check_gradients(matrix_groups)
            for group in self.param_groups:
                if group["algorithm"] == "matrix":
                    self._step_matrices(group)
                else:
                    adamw_step(group, self.state)
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, or two if it holds both kinds of parameters and does not say which algorithm is theirs."""
        for group in split_by_algorithm(param_group, optimizer=type(self).__name__):
            if group["algorithm"] == "adamw":
                for name in ("lr", "weight_decay"):
                    own = self.defaults[f"adamw_{name}"]
                    group.setdefault(name, self.defaults[name] if own is None else own)
                group.setdefault("betas", self.defaults["adamw_betas"])
                group.setdefault("eps", self.defaults["adamw_eps"])
                foreign = self.defaults.keys() - {"lr", "weight_decay", "eps", "maximize"}
            else:
                foreign = {name for name in self.defaults if name.startswith("adamw_")}
            super().add_param_group(group)
            added = self.param_groups[-1]
            for name in foreign:
                added.pop(name, None)
            check_group(added)
            if added["algorithm"] == "matrix":
                self.check_settings(added)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of such an optimizer, of ``torch.optim.Muon``, or of another with its keys.

        Raises:
            ValueError: the groups are not those of this optimizer, or a momentum is not finite.
        """
        saved = state_dict["param_groups"]
        if len(saved) == len(self.param_groups):
            groups = [group_from_other(group, own) for group, own in zip(saved, self.param_groups, strict=True)]
            state_dict = state_dict | {"param_groups": groups}
        super().load_state_dict(state_dict)
        check_momenta(self.param_groups, self.state)

    def _momentum(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """Update the running mean of the gradient, and return it or Nesterov's look ahead."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient, memory_format=torch.preserve_format)
        mean: Tensor = state["momentum_buffer"]
        mean.lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(mean, group["momentum"]) if group["nesterov"] else mean

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """Do the step of one group, the matrices of one shape together."""
        for parameters in _same_shape(group["params"]):
            momenta = [whole(self._momentum(parameter, group)) for parameter in parameters]
            matrices = torch.stack([momentum.flatten(1) for momentum in momenta])
            rows, columns = matrices.shape[1:]
            sizes = row_blocks(group, rows)
            updates = self._update_blocks(parameters, matrices, sizes, group)
            if group.get("normuon_beta2") is not None:
                updates = self._normalize_neurons(parameters, updates, group["normuon_beta2"])
            scales = [self.learning_rate_scale(group, size, columns) for size in sizes]
            if len(set(scales)) > 1:
                for block, scale in zip(updates.split(sizes, dim=1), scales, strict=True):
                    block.mul_(scale / scales[0])
            for parameter, update in zip(parameters, updates.unbind(), strict=True):
                self._apply(parameter, update.view(parameter.shape), scales[0], group)

    def _update_blocks(
        self, parameters: list[Tensor], matrices: Tensor, sizes: list[int], group: dict[str, Any]
    ) -> Tensor:
        """Return the updates of stacked matrices, one for each parameter, that consist of blocks of these sizes."""
        if len(sizes) == 1:
            return self.update(matrices, group)
        if len(set(sizes)) == 1:
            blocks = matrices.unflatten(1, (len(sizes), -1))
            return self.update(blocks.flatten(0, 1), group).view_as(blocks).flatten(1, 2)
        return torch.cat([self.update(block, group) for block in matrices.split(sizes, dim=1)], dim=1)

    def _normalize_neurons(self, parameters: list[Tensor], updates: Tensor, beta2: float) -> Tensor:
        name = "second_momentum_buffer"
        for parameter in parameters:
            if name not in self.state[parameter]:
                kept = torch.promote_types(updates.dtype, torch.float32)
                self.state[parameter][name] = torch.zeros_like(updates[0, :, :1], dtype=kept)
        means = torch.stack([self.state[parameter][name] for parameter in parameters])
        updates = normalize_neurons(updates, means, beta2=beta2)
        for parameter, mean in zip(parameters, means.unbind(), strict=True):
            self.state[parameter][name].copy_(mean)
        return updates

    def _apply(self, parameter: Tensor, update: Tensor, scale: float, group: dict[str, Any]) -> None:
        """Take the decay and the update from a parameter, in what this process holds of it."""
        own, part = own_part(parameter), own_part_like(update, parameter)
        self._decay(own, part, group)
        lr = -group["lr"] if not group["maximize"] else group["lr"]
        if isinstance(lr, Tensor):
            own.addcmul_(part, (lr * scale).to(own.device))
        else:
            own.add_(part, alpha=lr * scale)

    def _decay(self, parameter: Tensor, update: Tensor, group: dict[str, Any]) -> None:
        decay = group["lr"] * group["weight_decay"]
        if not group["weight_decay"]:
            return
        if group["cautious_weight_decay"]:
            # Only where the update goes towards zero as well. In place, as memory costs more here than arithmetic.
            product = update * parameter
            is_decayed = product.lt_(0) if group["maximize"] else product.gt_(0)
            parameter.sub_(is_decayed.mul_(decay).mul_(parameter))
        else:
            parameter.mul_(1 - decay)


def _same_shape(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield lists of parameters with a gradient that have the same matrix, none of too many entries."""
    shapes: dict[Any, list[Tensor]] = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            shape = (parameter.shape[0], parameter.shape[1:].numel())
            shapes[shape, parameter.grad.dtype, parameter.device].append(parameter)
    for (shape, _, _), members in shapes.items():
        length = max(1, _BATCH_ENTRIES // max(1, shape[0] * shape[1]))
        yield from (members[start : start + length] for start in range(0, len(members), length))

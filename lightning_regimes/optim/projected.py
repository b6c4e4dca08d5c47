"""Updates projected on a subspace or on its complement: Dom-SGD and Bulk-SGD, for any optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_regimes.optim.factory import OptimizerConfiguration, OptimizerFactory, scheduled, trainable_parameters

Keep: TypeAlias = Literal["dominant", "bulk", "all"]
"""Which part of an update is taken: that in the subspace, that in its complement, or the whole."""

_ORTHONORMAL = 1e-3


class ProjectedOptimizer(Optimizer):
    r"""Any optimizer, of whose updates only the part in a subspace, or only the rest, is taken.

    .. math:: \theta_{t+1} = \theta_t + P \Delta_t, \qquad P = V V^T \text{ or } I - V V^T,

    with :math:`\Delta_t` the update of the wrapped optimizer and V, shape (n, k), orthonormal columns that somebody
    hands over by :meth:`set_subspace`; until then the whole update is taken. For SGD without momentum this is the
    projection of the gradient. Where there is momentum or another state, that state sees the whole gradient, and the
    update is projected on the subspace of the moment.

    Parameter groups and state are those of the wrapped optimizer. A checkpoint is that of the wrapped optimizer and
    the subspace, as large as k times the parameters, so that a training resumes exactly; a checkpoint of the bare
    optimizer can be loaded, too, and one of these by a bare optimizer.

    Args:
        optimizer: the optimizer whose updates are projected; do not step it beside this one.
        keep: ``"dominant"`` the part in the subspace, ``"bulk"`` the rest, ``"all"`` the whole update, which makes it
            the control.

    Raises:
        ValueError: ``keep`` is none of these.

    References:
        M. Song, K. Ahn, C. Yun, Does SGD really happen in tiny subspaces?, ICLR 2025, arXiv:2405.16002, section 3.
    """

    def __init__(self, optimizer: Optimizer, *, keep: Keep = "bulk") -> None:
        if keep not in get_args(Keep):
            raise ValueError(f"`keep` is one of {', '.join(get_args(Keep))}, got {keep!r}")
        # Copies, since the base class writes into the groups that it is given.
        super().__init__([dict(group) for group in optimizer.param_groups], optimizer.defaults)
        self.optimizer = optimizer
        self.keep: Keep = keep
        self._subspace: Tensor | None = None
        self._parameters: list[Tensor] = []
        self._share()

    @property
    def subspace(self) -> Tensor | None:
        """The orthonormal columns, shape (n, k); None as long as the whole update is taken."""
        return self._subspace

    def set_subspace(self, vectors: Tensor | None, parameters: Sequence[Tensor] | None = None) -> None:
        """Project updates from now on; or, without vectors, take the whole update again.

        Args:
            vectors: shape (n, k), orthonormal columns.
            parameters: whose entries the n rows stand for, one after the other, with two rows for a complex entry;
                by default all of this optimizer, in its order. The others count as orthogonal to the subspace.

        Raises:
            ValueError: a parameter is not in this optimizer, or the vectors do not fit or are not orthonormal.
        """
        if vectors is None:
            self._subspace, self._parameters = None, []
            return
        own = self._own_parameters()
        chosen = own if parameters is None else list(parameters)
        known = {id(parameter) for parameter in own}
        strangers = sum(id(parameter) not in known for parameter in chosen)
        if strangers:
            raise ValueError(f"`parameters` belong to this optimizer, but {strangers} of {len(chosen)} do not")
        size = sum(_real(parameter).numel() for parameter in chosen)
        if vectors.ndim != 2 or vectors.shape[0] != size or not 1 <= vectors.shape[1] <= size:
            raise ValueError(
                f"`vectors` has one row for each of {size} parameters and 1 to {size} columns, "
                f"got shape {tuple(vectors.shape)}"
            )
        error = (vectors.T @ vectors - torch.eye(vectors.shape[1]).to(vectors)).abs().max()
        if not bool(error <= _ORTHONORMAL):
            raise ValueError(
                f"`vectors` has orthonormal columns, got inner products that are off by {float(error):.2g}"
            )
        self._subspace, self._parameters = vectors.detach(), chosen

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step of the wrapped optimizer, project what it changed, and return what it returns.

        Args:
            closure: evaluates the loss and its gradient; the wrapped optimizer calls it as often as it needs.
        """
        if self._subspace is None or self.keep == "all":
            return self.optimizer.step(closure)
        parameters = self._own_parameters()
        before = [parameter.detach().clone() for parameter in parameters]
        loss = self.optimizer.step(closure)
        with torch.no_grad():
            self._project(parameters, before, self._subspace)
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the wrapped optimizer."""
        if "optimizer" in self.__dict__:
            self.optimizer.add_param_group(param_group)
        else:
            super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return that of the wrapped optimizer, and the subspace if there is one."""
        state = self.optimizer.state_dict()
        if self._subspace is not None:
            indices = {id(parameter): index for index, parameter in enumerate(self._own_parameters())}
            rows = [indices[id(parameter)] for parameter in self._parameters]
            state["subspace"] = {"vectors": self._subspace, "parameters": rows}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of such an optimizer or of a bare one."""
        state = dict(state_dict)
        subspace = state.pop("subspace", None)
        self.optimizer.load_state_dict(state)
        self._share()
        if subspace is None:
            self.set_subspace(None)
            return
        own = self._own_parameters()
        chosen = [own[index] for index in subspace["parameters"]]
        self.set_subspace(subspace["vectors"].to(chosen[0].device), chosen)

    def __getstate__(self) -> dict[str, Any]:
        names = ("optimizer", "keep", "_subspace", "_parameters")
        return super().__getstate__() | {name: self.__dict__[name] for name in names}

    def _share(self) -> None:
        # Loading a state gives the wrapped optimizer new containers.
        self.state = self.optimizer.state
        self.param_groups = self.optimizer.param_groups
        self.defaults = self.optimizer.defaults

    def _own_parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _project(self, parameters: list[Tensor], before: list[Tensor], vectors: Tensor) -> None:
        """Replace the change since ``before`` by its projection."""
        old = {id(parameter): earlier for parameter, earlier in zip(parameters, before, strict=True)}
        update = torch.cat(
            [_real(parameter - old[id(parameter)]).flatten().to(vectors) for parameter in self._parameters]
        )
        part = vectors @ (vectors.T @ update)
        if self.keep == "bulk":
            part = update - part
        else:
            for parameter in parameters:
                parameter.copy_(old[id(parameter)])
        pieces = part.split([_real(parameter).numel() for parameter in self._parameters])
        for parameter, piece in zip(self._parameters, pieces, strict=True):
            earlier = _real(old[id(parameter)])
            _real(parameter).copy_(earlier + piece.view_as(earlier).to(earlier))


@dataclass(frozen=True, kw_only=True)
class ProjectedSGDFactory(OptimizerFactory):
    """SGD whose updates are projected by whoever hands over the subspace (see :class:`ProjectedOptimizer`).

    The callback :class:`~lightning_regimes.callbacks.DominantProjection` does.

    Attributes:
        keep: ``"dominant"`` for Dom-SGD, ``"bulk"`` for Bulk-SGD, ``"all"`` for SGD.
        lr: learning rate.
        momentum: of the heavy ball.
        weight_decay: coupled decay.
        lr_scheduler: class or function that builds a scheduler from the optimizer, stepped after each optimizer step.
    """

    keep: Keep = "bulk"
    lr: float = 1e-2
    momentum: float = 0.0
    weight_decay: float = 0.0
    lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None

    def __call__(self, module: nn.Module) -> OptimizerConfiguration:
        """Return the projected optimizer, with its scheduler if there is one."""
        sgd = SGD(trainable_parameters(module), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        optimizer = ProjectedOptimizer(sgd, keep=self.keep)
        return scheduled(optimizer, self.lr_scheduler)


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor

"""The part of the Hessian that does not come from the curvature of the network itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_regimes.curvature.gradient_graph import explained_failures, gradient_graph
from lightning_regimes.curvature.linear_operator import columnwise, require_operand
from lightning_regimes.probe import LossProbe, ProbeError

OutputFunction = Callable[[Any, Any], Tensor]
OutputLossFunction = Callable[[Tensor, Any], Tensor]


class GaussNewtonOperator:
    r"""The generalized Gauss–Newton matrix of a loss that is a function of a module's outputs.

    .. math:: G = \sum_b w_b \, J_b^T \, \nabla_f^2 \ell_b \, J_b, \qquad J_b = \partial f_b / \partial \theta

    It is the Hessian of the loss with the outputs replaced by their linearisation: equal to the Hessian where the
    outputs are linear in the parameters or fit the data, and positive semidefinite where :math:`\ell` is convex in
    them. For the cross entropy of logits it is the Fisher information matrix.

    A product takes three passes over graphs that are kept, those of all batches, until :meth:`close`, the end of a
    ``with`` block, or as long as the operator. J v is the derivative of :math:`J^T u` with respect to u along v.

    Args:
        probe: the point, the batches and their weights; its own loss is not used.
        outputs: ``outputs(module, batch)`` returning f, one real tensor of any shape.
        loss_of_outputs: ``loss_of_outputs(outputs, batch)`` returning :math:`\ell`, the mean loss of the batch. On the
            parameters it depends through the outputs only.

    Raises:
        TypeError: an argument or what it returns is of the wrong kind.
        ProbeError: the loss is not finite, does not depend on the outputs or these not on the parameters, or cannot
            be differentiated twice.

    References:
        N. Schraudolph, Fast curvature matrix-vector products for second-order gradient descent, Neural Computation 14
        (2002), doi:10.1162/08997660260028683; J. Martens, New insights and perspectives on the natural gradient
        method, arXiv:1412.1193.
    """

    def __init__(self, probe: LossProbe, *, outputs: OutputFunction, loss_of_outputs: OutputLossFunction) -> None:
        for name, function in (("outputs", outputs), ("loss_of_outputs", loss_of_outputs)):
            if not callable(function):
                raise TypeError(f"`{name}` is a callable, got {type(function).__name__}")
        self._probe = probe
        self._leaves = list(probe.parameters.values())
        self._is_closed = False
        #: Number of products with a vector so far.
        self.num_matvecs = 0
        self._linearizations: list[_Linearization] = []

        def gradient() -> Tensor:
            self._linearizations = [
                _linearization(probe, index, outputs, loss_of_outputs)
                for index, weight in enumerate(probe.weights)
                if weight > 0
            ]
            total = torch.zeros(self.shape[0], dtype=self.dtype, device=self.device)
            for part in self._linearizations:
                total.add_(probe.flatten([None if piece is None else piece.detach() for piece in part.gradient]))
            return total

        with probe.isolated():
            self._start: Tensor | None = probe.sum(gradient)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n)`` with n the number of real parameters."""
        return self._probe.num_parameters, self._probe.num_parameters

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the probe."""
        return self._probe.dtype

    @property
    def device(self) -> torch.device:
        """Device of the probe."""
        return self._probe.device

    def isolated(self) -> AbstractContextManager[None]:
        """Hold the module at the probe's parameters over several products, each of which is then cheaper."""
        return self._probe.isolated()

    def start_vector(self) -> Tensor | None:
        """Return the gradient of the loss, which leans towards the leading eigenvectors; ``None`` once closed."""
        return self._start

    def close(self) -> None:
        """Let go of the graphs; the operator cannot be applied any more."""
        self._linearizations, self._start = [], None
        self._is_closed = True

    def __enter__(self) -> GaussNewtonOperator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return G v for a vector (n,), or G V column by column for a matrix (n, m).

        Raises:
            TypeError: the tensor has another dtype than the operator.
            ValueError: it has another shape or is on another device, or the operator is closed.
            ProbeError: the product is not finite, or the loss cannot be differentiated twice.
        """
        require_operand(self, other)
        if self._is_closed:
            raise ValueError("the operator is closed and has let go of its graphs; make a new one")
        with self._probe.isolated():
            return columnwise(self._product, other)

    def _product(self, vector: Tensor) -> Tensor:
        total = self._probe.sum(lambda: self._own_product(vector))
        self.num_matvecs += 1
        if not bool(torch.isfinite(total).all()):
            raise ProbeError(
                "the product of the Gauss-Newton matrix with a vector is not finite; the loss has no second derivative "
                "at these outputs, or overflows: try `dtype=torch.float64` for the probe"
            )
        return total

    def _own_product(self, vector: Tensor) -> Tensor:
        pieces = self._probe.unflatten(vector)
        total = torch.zeros_like(vector)
        with explained_failures():
            for part in self._linearizations:
                image = part.image(pieces)
                if image is not None:
                    products = torch.autograd.grad(
                        part.outputs, self._leaves, grad_outputs=image, retain_graph=True, allow_unused=True
                    )
                    total.add_(self._probe.flatten(products))
        return total


@dataclass(frozen=True)
class _Linearization:
    r"""The graphs of one batch.

    Attributes:
        outputs: f.
        shift: u = 0, shaped like f.
        gradient: :math:`w J^T (\nabla_f \ell + u)`, one entry a leaf.
        slope: :math:`\nabla_f \ell`.
    """

    outputs: Tensor
    shift: Tensor
    gradient: list[Tensor | None]
    slope: Tensor

    def image(self, pieces: list[Tensor]) -> Tensor | None:
        r"""Return :math:`w \nabla_f^2 \ell \, J v`, or ``None`` for zero, where the loss is linear in the outputs."""
        if not self.slope.requires_grad:
            return None
        pairs = [(part, piece) for part, piece in zip(self.gradient, pieces, strict=True) if part is not None]
        parts, directions = zip(*pairs, strict=True)
        (tangent,) = torch.autograd.grad(parts, self.shift, grad_outputs=directions, retain_graph=True)
        (image,) = torch.autograd.grad(
            self.slope, self.outputs, grad_outputs=tangent, retain_graph=True, allow_unused=True
        )
        return image


def _linearization(
    probe: LossProbe, index: int, outputs: OutputFunction, loss_of_outputs: OutputLossFunction
) -> _Linearization:
    captured: list[tuple[Tensor, Tensor, Tensor]] = []

    def shifted_loss(module: Any, batch: Any) -> Tensor:
        values = outputs(module, batch)
        if not isinstance(values, Tensor) or not values.is_floating_point():
            kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
            raise TypeError(f"`outputs` returns one real tensor (`torch.view_as_real` of a complex one), got {kind}")
        loss = loss_of_outputs(values, batch)
        if not isinstance(loss, Tensor):
            raise TypeError(f"`loss_of_outputs` returns a scalar tensor, got {type(loss).__name__}")
        shift = torch.zeros_like(values, requires_grad=True)
        captured.append((values, loss, shift))
        return loss + (values * shift).sum()

    # With this loss in the place of the probe's, one gradient serves J v and the start vector, and what is looked
    # for in the graph of a Hessian is looked for here, too.
    gradient = gradient_graph(probe, index, loss=shifted_loss)
    ((values, loss, shift),) = captured
    if all(part is None for part in gradient):
        raise ProbeError(
            "the outputs do not depend on any of the probed parameters; check that `outputs` computes them with the "
            "module it is given, and what `parameters` of the probe selects"
        )
    slope: Tensor | None = None
    if loss.requires_grad:
        with explained_failures():
            (slope,) = torch.autograd.grad(loss, values, create_graph=True, allow_unused=True)
    if slope is None:
        raise ProbeError("the loss does not depend on the outputs; `loss_of_outputs` must use the tensor it is given")
    return _Linearization(values, shift, gradient, slope)

"""Products with the Hessian by carrying a direction forward through the computation of the gradient."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lightning_regimes.curvature.gradient_graph import plain_gradient
from lightning_regimes.probe import LossProbe, ProbeError


class ForwardOverReverse:
    r""":math:`H v = \frac{d}{d\epsilon} \nabla L(\theta + \epsilon v)` at 0, by dual numbers.

    Exact, like the reverse engine, over the batches of this process. No graph is kept: the memory is that of one
    gradient of one batch, about twice over. To be used inside ``probe.isolated()``.

    Args:
        probe: the loss.

    References:
        B. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994), section 3,
        doi:10.1162/neco.1994.6.1.147.
    """

    def __init__(self, probe: LossProbe) -> None:
        self._probe = probe
        self._gradient = plain_gradient(probe)

    def gradient(self) -> Tensor:
        """Return the weighted gradient, shape (n,)."""
        return self._gradient

    def product(self, vector: Tensor) -> Tensor:
        """Return H v, shape (n,)."""
        total = torch.zeros_like(vector)
        for index, weight in enumerate(self._probe.weights):
            if weight > 0:
                total.add_(self._batch_product(index, vector), alpha=weight)
        return total

    def _batch_product(self, index: int, vector: Tensor) -> Tensor:
        probe = self._probe
        with forward_ad.dual_level(), _explained_failures():
            duals = [
                forward_ad.make_dual(leaf, piece)
                for leaf, piece in zip(probe.parameters.values(), probe.unflatten(vector), strict=True)
            ]
            with probe.moved(duals):
                with _MeanSquaredErrorInSteps():
                    value = probe.batch_loss(index)
                gradients = torch.autograd.grad(value, duals, allow_unused=True)
            tangents = [None if part is None else forward_ad.unpack_dual(part).tangent for part in gradients]
            return probe.flatten(tangents)


class _MeanSquaredErrorInSteps(TorchFunctionMode):
    """Takes the mean of a squared error apart from the error.

    Together, their gradient has no forward derivative where the target has none: torch divides a symbolic zero in
    place.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        plain = options.get("weight") is None and options.get("size_average") is None and options.get("reduce") is None
        if func is functional.mse_loss and plain and options.get("reduction", "mean") == "mean":
            return func(*args, **{**options, "reduction": "none"}).mean()
        return func(*args, **options)


@contextlib.contextmanager
def _explained_failures() -> Iterator[None]:
    """Turn torch's errors about forward derivatives into errors that name the cause and the remedy."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        cause = _cause(str(error))
        if cause is None:
            raise
        raise ProbeError(
            f'{cause}, which `engine="forward_over_reverse"` needs; use `engine="reverse"`, which differentiates the '
            "gradient backwards"
        ) from error


def _cause(message: str) -> str | None:
    missing = re.search(r"forward AD with ([\w:]+) that does not support it", message)
    if missing:
        return f"torch has no forward derivative of {missing.group(1)}"
    if "jvp" in message and ("custom autograd.Function" in message or "custom Function" in message):
        return "a custom autograd function in the loss has no forward derivative (`jvp`)"
    if "Nested forward mode" in message:
        return "the loss takes forward derivatives itself and cannot be given another"
    if "ZeroTensors are immutable" in message:
        return "torch has no forward derivative of the gradient of an operation with a constant argument"
    if "forward AD" in message or "forward mode AD" in message:
        return f"the loss has no forward derivative ({message.splitlines()[0]})"
    return None

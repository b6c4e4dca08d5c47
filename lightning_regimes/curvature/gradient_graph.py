"""The gradient of a batch loss as a graph that can be differentiated again, and why it sometimes cannot."""

from __future__ import annotations

import contextlib
import re
import weakref
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node
from torch.utils.checkpoint import CheckpointFunction
from torch.utils.hooks import RemovableHandle

from lightning_regimes.probe import LossFunction, LossProbe, ProbeError

_ERROR_NODE = "torch::autograd::Error"

INDEPENDENT = (
    "the loss does not depend on any of the probed parameters; check that it is computed from registered "
    "submodules, and what `parameters` of the probe selects"
)
"""What is said of a loss without a gradient."""


def gradient_graph(probe: LossProbe, index: int, *, loss: LossFunction | None = None) -> list[Tensor | None]:
    r"""Return the weighted gradient :math:`w_b \nabla L_b` of a batch, with its graph, one entry a leaf.

    ``loss`` replaces the probe's own. ``None`` stands for a leaf that the batch loss does not depend on. To be called
    inside ``probe.isolated()``, as is what differentiates the result.

    Raises:
        ProbeError: the loss is not finite, or its second derivative cannot be computed.
    """
    leaves = list(probe.parameters.values())
    value = _finite_loss(probe, index, loss)
    weight = probe.weights[index]
    with explained_failures(), _visible_graph(value):
        gradients = torch.autograd.grad(
            value if weight == 1 else value * weight, leaves, create_graph=True, allow_unused=True
        )
    return list(gradients)


def plain_gradient(probe: LossProbe) -> Tensor:
    r"""Return :math:`\sum_b w_b \nabla L_b` over the batches of this process, shape (n,), without a graph.

    To be called inside ``probe.isolated()``.

    Raises:
        ProbeError: the loss is not finite, depends on none of the parameters, or is checkpointed reentrantly.
    """
    leaves = list(probe.parameters.values())
    total = torch.zeros(probe.num_parameters, dtype=probe.dtype, device=probe.device)
    is_connected = not any(probe.weights)
    for index, weight in enumerate(probe.weights):
        if weight > 0:
            value = _finite_loss(probe, index)
            _custom_nodes(value)
            gradients = torch.autograd.grad(value, leaves, allow_unused=True)
            is_connected = is_connected or any(gradient is not None for gradient in gradients)
            total.add_(probe.flatten(gradients), alpha=weight)
    if not is_connected:
        raise ProbeError(INDEPENDENT)
    return total


def graph_bytes(probe: LossProbe, index: int) -> int:
    """Return how many bytes the graph of :func:`gradient_graph` holds; it is built once for that and let go."""
    saved: list[weakref.ref[Tensor]] = []

    def keep(tensor: Tensor) -> Tensor:
        # The tensor itself would tie a node to its own output, a cycle that only the garbage collector frees.
        kept = tensor.detach()
        saved.append(weakref.ref(kept))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        gradients = gradient_graph(probe, index)
    held = [tensor for reference in saved if (tensor := reference()) is not None]
    held += [gradient for gradient in gradients if gradient is not None]
    own = {leaf.untyped_storage().data_ptr() for leaf in probe.parameters.values()}
    sizes: dict[int, int] = {}
    for tensor in held:
        if tensor.layout == torch.strided and (storage := tensor.untyped_storage()).data_ptr() not in own:
            # A view of a whole data set, as a batch may be, holds no more for it than the batch.
            size = min(storage.nbytes(), tensor.numel() * tensor.element_size())
            sizes[storage.data_ptr()] = max(size, sizes.get(storage.data_ptr(), 0))
    return sum(sizes.values())


@contextlib.contextmanager
def explained_failures() -> Iterator[None]:
    """Turn autograd's errors about second derivatives into errors that name the cause and the remedy."""
    try:
        yield
    except (torch.OutOfMemoryError, ProbeError):
        raise
    except RuntimeError as error:
        raise ProbeError(_explanation(str(error))) from error


def _explanation(message: str) -> str:
    missing = re.search(r"derivative for '?([\w:]+)'? is not implemented", message)
    if missing:
        return (
            f"the Hessian needs the derivative of {missing.group(1)}, which torch does not have; replace that "
            "operation by its unfused form in `diagnostic_loss`"
        )
    if "cudnn" in message.lower():
        return f"a cuDNN kernel in the loss has no second derivative ({message}); use its native form"
    return f"the second derivative of the loss cannot be computed: {message}"


@contextlib.contextmanager
def _visible_graph(loss: Tensor) -> Iterator[None]:
    """Refuse a gradient that a custom autograd function computes inside without recording how.

    Its second derivative would silently count as zero: the gradient is a constant to autograd, and the error that
    ``once_differentiable`` leaves behind lies on no path from the gradient to the parameters.
    """
    opaque: set[str] = set()

    def observe(node: Node) -> RemovableHandle:
        def check(grad_inputs: tuple[Tensor | None, ...], grad_outputs: tuple[Tensor | None, ...]) -> None:
            for gradient in grad_inputs:
                if gradient is not None and (gradient.grad_fn is None or gradient.grad_fn.name() == _ERROR_NODE):
                    opaque.add(node.name().removesuffix("Backward"))

        return node.register_hook(check)

    handles = [observe(node) for node in _custom_nodes(loss)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if opaque:
        raise ProbeError(
            f"the custom autograd function {min(opaque)} computes its gradient without a graph, so that there is no "
            "Hessian through it; use one that can be differentiated twice in `diagnostic_loss` (torchdiffeq's "
            "`odeint` in place of `odeint_adjoint`)"
        )


def _finite_loss(probe: LossProbe, index: int, loss: LossFunction | None = None) -> Tensor:
    value = probe.batch_loss(index, loss=loss)
    if not bool(torch.isfinite(value)):
        raise ProbeError(f"the loss of probe batch {index} is {value.item()}; there is no curvature at this point")
    return value


def _custom_nodes(loss: Tensor) -> list[Node]:
    """Return the nodes of custom autograd functions; refuse those that only ``backward`` can go through."""
    custom = [node for node in _nodes(loss) if isinstance(node, BackwardCFunction)]
    if any(getattr(node, "_forward_cls", None) is CheckpointFunction for node in custom):
        raise ProbeError(
            "reentrant checkpointing has no derivatives but those of `backward()`; use "
            "`checkpoint(..., use_reentrant=False)`"
        )
    return custom


def _nodes(loss: Tensor) -> list[Node]:
    """Return the nodes of the graph of the loss."""
    pending = [loss.grad_fn]
    seen: dict[Node, None] = {}
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen[node] = None
            pending.extend(following for following, _ in node.next_functions)
    return list(seen)

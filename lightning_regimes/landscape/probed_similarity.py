"""How far the representations of a network have moved from those at other weights, on the batches of a probe."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_regimes.batches import num_samples
from lightning_regimes.landscape.activations import activations, matching_layers
from lightning_regimes.landscape.cka_result import CKAResult
from lightning_regimes.landscape.cka_sums import CKASums
from lightning_regimes.landscape.endpoint import Solution, endpoint
from lightning_regimes.landscape.independence_criterion import Estimator
from lightning_regimes.probe import LossProbe


def probed_cka(
    probe: LossProbe,
    other: Solution,
    layers: str | Sequence[str] | None = None,
    *,
    estimator: Estimator = "unbiased",
) -> CKAResult:
    """Measure the alignment of each layer at the point of a probe with the same layer at other weights.

    What the layers return is taken while the module computes its loss, whatever its batches look like. Buffers and
    parameters that are not probed come with the weights. Otherwise as
    :func:`~lightning_regimes.landscape.similarity.cka`.

    Args:
        probe: the first network, and the batches, over all its processes.
        other: the second one, as a state dict, a module, or a flat vector in the order of the probe's parameters.
        layers: names of submodules or glob patterns. Default: all without children that return a tensor with a row a
            sample of the batch.
        estimator: of the independence criterion.

    Raises:
        TypeError: ``other`` is none of the three, or a layer that was asked for returns no tensor.
        ValueError: ``other`` doesn't fit, a batch is too small, or there is no such layer.
    """
    far = endpoint(probe, other, same_fixed=False)
    names = matching_layers(probe.module, layers, "layers")

    def found(index: int) -> dict[str, Tensor]:
        def run(module: object, batch: object) -> None:
            probe.batch_value(index)

        layered = activations(probe.module, names, None, run, strict=layers is not None)
        if layers is not None:
            return layered
        count = num_samples(probe.batch(index))
        return {name: output for name, output in layered.items() if len(output) == count}

    def own() -> CKASums:
        sums: CKASums | None = None
        for index in range(probe.num_batches):
            here = found(index)
            with probe.moved(probe.unflatten(far.vector)), probe.replaced(far.fixed):
                there = found(index)
            if sums is None:
                sums = CKASums([*here], [*here], "matching", estimator)
            sums.add(here, there, index)
        assert sums is not None  # a probe has a batch
        return sums

    with probe.isolated():
        sums = own()
        sums.shared(probe.processes, probe.device)
    return sums.result()

"""What can be wrong between an operator and the fields that it gets."""

from __future__ import annotations

import warnings

from torch import Tensor, nn

# Opposite sides of a periodic field are neighbours, and differ as such; a few samples make that certain enough.
_LARGEST_JUMP = 2.0
_ENOUGH_SAMPLES = 8


def check_input(operator: nn.Module, fields: Tensor) -> None:
    """Raise a ValueError where fields (B, C, n₁, …) have other channels than an operator, or fewer points than modes.

    Both are known of models that say ``in_channels`` and ``n_modes``, as those of neuraloperator do.
    """
    expected = getattr(operator, "in_channels", None)
    if isinstance(expected, int) and expected != fields.shape[1]:
        raise ValueError(
            f"{type(operator).__name__} takes {expected} input channels, and the data has {fields.shape[1]}: set "
            f"`in_channels={fields.shape[1]}`"
        )
    modes, points = getattr(operator, "n_modes", None), tuple(fields.shape[2:])
    if not isinstance(modes, list | tuple) or not all(isinstance(count, int) for count in modes):
        return
    if len(modes) != len(points):
        raise ValueError(f"{type(operator).__name__} acts in {len(modes)} dimensions, and the data has {len(points)}")
    if any(count > size for count, size in zip(modes, points, strict=True)):
        raise ValueError(
            f"{type(operator).__name__} has {tuple(modes)} modes, more than the {points} points of the fields: "
            "lower `n_modes`, or raise the resolution"
        )
    if type(operator).__module__.startswith("neuralop.") and any(size % 2 for size in points[:-1]):
        # Its spectral convolutions shift the spectrum there and back by half of the points, rounded down both times.
        warnings.warn(
            f"neuraloperator misplaces wavenumbers on grids with an odd number of points along any axis but the last, "
            f"got {points}: what is learned there doesn't hold on other grids",
            RuntimeWarning,
            stacklevel=3,
        )


def check_periodic(fields: Tensor) -> None:
    """Raise a ValueError where opposite sides of fields (B, C, n₁, …) differ much more than neighbours do.

    Fewer than 8 samples don't tell.
    """
    if len(fields) < _ENOUGH_SAMPLES:
        return
    for axis in range(2, fields.ndim):
        sides = fields.select(axis, 0) - fields.select(axis, -1)
        jump, difference = sides.square().mean().sqrt(), fields.diff(dim=axis).square().mean().sqrt()
        if bool(jump > _LARGEST_JUMP * difference):
            raise ValueError(
                f"the refinement pads circularly, and the data isn't periodic along axis {axis - 2}, where opposite "
                f"sides differ {float(jump / difference):.1f} times as much as neighbours: set its `padding` to "
                "'replicate'"
            )


def check_refinement(refinement: nn.Module, base: nn.Module, fields: Tensor, predicted: Tensor) -> None:
    """Raise a ValueError where a refinement doesn't fit the fields of its base, or pads them the wrong way.

    Args:
        refinement: from the input and the prediction together to a correction.
        base: what is refined.
        fields: its input, (B, C, n₁, …).
        predicted: its prediction, (B, C′, n₁, …).
    """
    check_input(base, fields)
    together = fields.shape[1] + predicted.shape[1]
    expected = getattr(refinement, "in_channels", together)
    corrected = getattr(refinement, "out_channels", predicted.shape[1])
    if expected != together or corrected != predicted.shape[1]:
        raise ValueError(
            f"the refinement of an operator from {fields.shape[1]} to {predicted.shape[1]} channels has "
            f"in_channels={together} and out_channels={predicted.shape[1]}, got {expected} and {corrected}"
        )
    if getattr(refinement, "padding", None) == "circular":
        check_periodic(fields)

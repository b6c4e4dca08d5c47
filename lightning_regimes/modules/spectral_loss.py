"""A loss that weighs the error of a field by its wavenumber."""

from __future__ import annotations

import functools
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.metrics.radial_energy import radius

SpectralKind = Literal["none", "amplitude", "complex"]


def spectral_loss(
    predicted: Tensor, reference: Tensor, *, kind: Literal["amplitude", "complex"], exponent: float
) -> Tensor:
    r"""Return the mean over all modes of :math:`w(\omega)\,d_\omega^2`, a scalar.

    .. math:: w = \frac{\rho}{\langle \rho \rangle}, \qquad \rho(\omega) = 1 + (|\omega| / \omega_N)^\lambda, \qquad
        d_\omega = \begin{cases} |\hat h_\omega| - |\hat y_\omega| & \text{amplitude} \\
        |\hat h_\omega - \hat y_\omega| & \text{complex} \end{cases}

    with unitary transforms, and :math:`\omega_N` the highest frequency along an axis. "amplitude" doesn't see phases:
    it vanishes for a field that is shifted. "complex" with a constant weight is the mean squared error.

    Args:
        predicted: h, (B, C, n₁, …).
        reference: y, the same shape.
        kind: "amplitude" or "complex".
        exponent: λ.
    """
    space = tuple(range(2, predicted.ndim))
    weight = _weight(tuple(predicted.shape[2:]), exponent, predicted.dtype, predicted.device)
    if kind == "complex":
        difference = torch.fft.rfftn(predicted - reference, dim=space, norm="ortho")
        square = difference.real.square() + difference.imag.square()
    else:
        transformed = [torch.fft.rfftn(field, dim=space, norm="ortho") for field in (predicted, reference)]
        # The derivative of |z| at 0 is not a number.
        tiny = torch.finfo(predicted.dtype).tiny
        guess, truth = [(mode.real.square() + mode.imag.square() + tiny).sqrt() for mode in transformed]
        square = (guess - truth).square()
    return (weight * square).sum() / predicted.numel()


def progressive_exponent(step: int, num_steps: int, *, first: float, last: float) -> float:
    r"""Return :math:`\lambda_k = \lambda_1 + (\lambda_K - \lambda_1) (k - 1) / (K - 1)` for step k of K."""
    return first if num_steps == 1 else first + (last - first) * (step - 1) / (num_steps - 1)


def check_spectral_kind(kind: SpectralKind) -> None:
    """Raise a ValueError unless it's the name of a spectral loss, or "none"."""
    if kind not in get_args(SpectralKind):
        raise ValueError(f"`spectral_loss` is 'none', 'amplitude' or 'complex', got {kind!r}")


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # kept for a training that may come after an evaluation
def _weight(shape: tuple[int, ...], exponent: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """w on the half of the modes that a real transform keeps, twice where the mirror image is left out."""
    axes = [2 * torch.fft.fftfreq(size, dtype=torch.float64) for size in shape[:-1]]
    last = 2 * torch.fft.rfftfreq(shape[-1], dtype=torch.float64)
    rho = 1 + radius([*axes, last]) ** exponent
    count = torch.where((last == 0) | (last == 1), 1.0, 2.0).expand_as(rho)
    weight = rho / ((count * rho).sum() / count.sum()) * count
    return weight.to(dtype=dtype, device=device)

"""HTMuon: momentum whose singular values are raised to a small power."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lightning_regimes.optim.learning_rate_adjustment import AdjustLearningRate
from lightning_regimes.optim.matrix_optimizer import MatrixOptimizer
from lightning_regimes.optim.muon import check_orthogonalization, named_dtype, orthogonalized
from lightning_regimes.optim.newton_schulz import JORDAN_COEFFICIENTS
from lightning_regimes.optim.spectral_power import Normalize, SpectralMethod, normalize_power, spectral_power
from lightning_regimes.optim.streaming_spectral_power import streaming_spectral_power
from lightning_regimes.spectral.cheapest_expansion import gram_singular_values, sufficient_lower
from lightning_regimes.spectral.stages import STAGES

# Spectra of momenta change slowly: one look in so many powers costs a hundredth of them.
_SPECTRUM_INTERVAL = 100


class HTMuon(MatrixOptimizer):
    r"""HTMuon for matrices and AdamW for the rest, in one optimizer; see :class:`MatrixOptimizer` for what both do.

    .. math:: W \leftarrow (1 - \eta \lambda) W - \eta \, s \, U \Sigma^p V^T, \qquad \tilde M = U \Sigma V^T

    p = 0 is Muon with an accurate polar factor, p = 1 SGD with momentum. As published, with ``normalize="none"``, the
    update grows with the p-th power of the gradient, and so do good learning rates.

    Args:
        params: parameters, pairs (name, parameter), or groups.
        lr: learning rate of matrices.
        power: p, between 0 and 1.
        normalize: what is made of the size of the update, see :func:`normalize_power`: ``"none"``, ``"schatten"``, or
            ``"rms"``, with which learning rates are those of Muon.
        method: how powers are computed, see :func:`spectral_power`; ``"streaming"`` goes on from the singular vectors
            of the step before, a square of the shorter side that the state then keeps for each matrix. They lag behind,
            which makes an error of 20 % on the momenta of a small language model; but the update has the right size and
            never goes uphill, :math:`\langle \tilde M, Y \rangle > 0`.
        lower: the smallest relative singular value that the polynomial resolves, see :func:`spectral_power`; or
            ``"auto"``, with which every hundredth step looks at the singular values of the momentum and takes the
            shortest polynomial that is accurate to 3 % on them, for the matrices of one shape together.
        dtype: of that computation, a dtype or its name.
        interval: every how many steps the power is computed, from the first on; the others are steps of Muon.
        ns_coefficients: of the Newton–Schulz iteration of those others.
        ns_steps: of the Newton–Schulz iteration of those others.
        ns_dtype: of its products, see :class:`Muon`.
        normuon_beta2: decay of the mean squares of rows that NorMuon divides the update by, such as 0.95; or None.
        weight_decay, momentum, nesterov, adjust_lr_fn, cautious_weight_decay, adamw_lr, adamw_betas, adamw_eps,
            adamw_weight_decay, maximize: as for :class:`MatrixOptimizer`.

    Raises:
        ValueError: a setting is out of range, or there is no matrix.

    References:
        HTMuon, arXiv:2603.10067.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 5e-3,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        power: float = 0.125,
        normalize: Normalize = "none",
        method: SpectralMethod = "auto",
        lower: float | Literal["auto"] = 1e-4,
        dtype: torch.dtype | str | None = None,
        interval: int = 1,
        ns_coefficients: tuple[float, float, float] = JORDAN_COEFFICIENTS,
        ns_steps: int = 5,
        ns_dtype: torch.dtype | str | None = None,
        adjust_lr_fn: AdjustLearningRate | None = "original",
        cautious_weight_decay: bool = False,
        normuon_beta2: float | None = None,
        adamw_lr: float | None = None,
        adamw_betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-8,
        adamw_weight_decay: float | None = None,
        maximize: bool = False,
    ) -> None:
        own_settings = {
            "power": power,
            "normalize": normalize,
            "method": method,
            "lower": lower,
            "dtype": dtype,
            "interval": interval,
            "num_steps": 0,
            "ns_coefficients": ns_coefficients,
            "ns_steps": ns_steps,
            "ns_dtype": ns_dtype,
            "normuon_beta2": normuon_beta2,
        }
        super().__init__(
            params,
            own_settings,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            adjust_lr_fn=adjust_lr_fn,
            cautious_weight_decay=cautious_weight_decay,
            adamw_lr=adamw_lr,
            adamw_betas=adamw_betas,
            adamw_eps=adamw_eps,
            adamw_weight_decay=adamw_weight_decay,
            maximize=maximize,
        )

    def update(self, matrices: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the powers of the matrices, or between two of them the polar factors of Muon."""
        if not self._is_power(group):
            return normalize_power(orthogonalized(matrices, group), matrices, 0.0, normalize=group["normalize"])
        return spectral_power(
            matrices,
            group["power"],
            method=group["method"],
            normalize=group["normalize"],
            lower=group["lower"],
            dtype=named_dtype(group["dtype"]),
        )

    def check_settings(self, group: dict[str, Any]) -> None:
        """Raise ValueError if a setting is out of range."""
        check_orthogonalization(group)
        named_dtype(group["dtype"])
        if group["interval"] < 1:
            raise ValueError(f"`interval` is at least 1, got {group['interval']}")
        for name, type_alias in (("normalize", Normalize), ("method", SpectralMethod)):
            if group[name] not in get_args(type_alias):
                raise ValueError(f"`{name}` is one of {', '.join(get_args(type_alias))}, got {group[name]!r}")
        if group["lower"] != "auto" and not (isinstance(group["lower"], float) and min(STAGES) <= group["lower"] < 1):
            raise ValueError(f"`lower` is 'auto' or from {min(STAGES)} to below 1, got {group['lower']!r}")

    def _update_blocks(
        self, parameters: list[Tensor], matrices: Tensor, sizes: list[int], group: dict[str, Any]
    ) -> Tensor:
        if not self._is_power(group):
            return super()._update_blocks(parameters, matrices, sizes, group)
        if group["method"] != "streaming":
            lower = self._lower(parameters, matrices, sizes, group)
            return super()._update_blocks(parameters, matrices, sizes, group | {"lower": lower})
        blocks = matrices.split(sizes, dim=1)
        return torch.cat([self._stream(parameters, each, number, group) for number, each in enumerate(blocks)], dim=1)

    def _stream(self, parameters: list[Tensor], block: Tensor, number: int, group: dict[str, Any]) -> Tensor:
        """Return the powers of one block of each matrix, from the singular vectors that its parameter keeps."""
        name = f"singular_vectors_{number}"
        working = block.to(named_dtype(group["dtype"]) or torch.promote_types(block.dtype, torch.float32))
        identity = torch.eye(min(block.shape[1:]), dtype=working.dtype, device=working.device)
        kept = [self.state[parameter].get(name, identity).to(working.dtype) for parameter in parameters]
        update, basis = streaming_spectral_power(working, group["power"], torch.stack(kept))
        for parameter, vectors in zip(parameters, basis, strict=True):
            self.state[parameter][name] = vectors.clone()
        return normalize_power(update.to(block.dtype), block, group["power"], normalize=group["normalize"])

    def _lower(self, parameters: list[Tensor], matrices: Tensor, sizes: list[int], group: dict[str, Any]) -> float:
        """Return what the polynomial has to resolve in these matrices, as far as it is known from an earlier step."""
        fixed: float | Literal["auto"] = group["lower"]
        takes_products = group["method"] == "polynomial" or (group["method"] == "auto" and not matrices.is_cpu)
        if fixed != "auto" or not takes_products:
            return 1e-4 if fixed == "auto" else fixed
        name = "polynomial_lower"
        is_known = all(name in self.state[parameter] for parameter in parameters)
        if not is_known or group["num_steps"] // group["interval"] % _SPECTRUM_INTERVAL == 0:
            blocks = [gram_singular_values(block) for block in matrices.split(sizes, dim=1)]
            found = min(sufficient_lower(values, group["power"]) for values in blocks)
            for parameter in parameters:
                self.state[parameter][name] = found
        return min(float(self.state[parameter][name]) for parameter in parameters)

    @staticmethod
    def _is_power(group: dict[str, Any]) -> bool:
        """Return whether this step is one of the power, and none of Muon's between two of them."""
        return bool(group["num_steps"] % group["interval"] == 0)

    def _step_matrices(self, group: dict[str, Any]) -> None:
        super()._step_matrices(group)
        group["num_steps"] += 1

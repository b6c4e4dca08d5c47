"""How the learning rate of a matrix follows from its shape."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

AdjustLearningRate: TypeAlias = Literal["original", "match_rms_adamw", "spectral_unclamped"]
"""A rule that scales the update of a matrix by its shape."""


def learning_rate_scale(adjust_lr_fn: AdjustLearningRate | None, rows: int, columns: int) -> float:
    r"""Return the factor on the learning rate of an update whose singular values are about one.

    ======================== ================================== =====================================================
    rule                     factor for an m × n matrix         what it keeps the same over shapes
    ======================== ================================== =====================================================
    ``"original"``           :math:`\max(1, m/n)^{1/2}`         as the next, but one for a wide matrix
    ``"spectral_unclamped"`` :math:`(m/n)^{1/2}`                the change of the root mean square of outputs
    ``"match_rms_adamw"``    :math:`0.2 \max(m, n)^{1/2}`       the root mean square of the update, 0.2 as with AdamW
    None                     1                                  the spectral norm of the update
    ======================== ================================== =====================================================

    Args:
        adjust_lr_fn: the rule.
        rows: m, outputs of the layer.
        columns: n, inputs of one output; for a convolution all that its kernel reads.

    Raises:
        ValueError: there is no such rule.

    References:
        K. Jordan et al., Muon, 2024; J. Liu et al., Muon is scalable for LLM training, arXiv:2502.16982, section 2.2;
        J. Bernstein, Deriving Muon, 2025.
    """
    if adjust_lr_fn is None:
        return 1.0
    if adjust_lr_fn == "original":
        return math.sqrt(max(1.0, rows / columns))
    if adjust_lr_fn == "spectral_unclamped":
        return math.sqrt(rows / columns)
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    raise ValueError(
        f"`adjust_lr_fn` is one of {', '.join(get_args(AdjustLearningRate))} or None, got {adjust_lr_fn!r}"
    )

"""Schedules of the learning rate."""

from __future__ import annotations

import math

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class CosineWithWarmup(LRScheduler):
    r"""A linear rise of all learning rates to their values, and half a cosine down to a part of them.

    .. math:: \frac{\eta_t}{\eta} = \frac{t + 1}{T_w} \; (t < T_w), \qquad
        \frac{\eta_t}{\eta} = r + \frac{1 - r}{2} \Bigl(1 + \cos \pi \frac{t - T_w}{T - T_w}\Bigr)
        \; (T_w \le t \le T)

    Groups keep their ratios, and after T steps the rates stay. Step it after each step of the optimizer.

    Args:
        optimizer: whose groups are scheduled.
        total_steps: T.
        warmup: the part of T that the rise takes, :math:`T_w / T`.
        min_lr_ratio: r, what is left in the end.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, optimizer: Optimizer, *, total_steps: int, warmup: float = 0.1, min_lr_ratio: float = 0.1
    ) -> None:
        if total_steps < 1:
            raise ValueError(f"`total_steps` is at least 1, got {total_steps}")
        if not 0 <= warmup < 1:
            raise ValueError(f"`warmup` is in [0, 1), got {warmup}")
        if not 0 <= min_lr_ratio <= 1:
            raise ValueError(f"`min_lr_ratio` is between 0 and 1, got {min_lr_ratio}")
        self.total_steps = total_steps
        self.warmup_steps = round(warmup * total_steps)
        self.min_lr_ratio = min_lr_ratio
        super().__init__(optimizer)

    def ratio(self, step: int) -> float:
        """Return the part of the learning rates that holds after a number of steps."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rates of all groups."""
        ratio = self.ratio(self.last_epoch)
        return [lr * ratio for lr in self.base_lrs]


def cosine_with_warmup(
    optimizer: Optimizer, *, total_steps: int, warmup: float = 0.1, min_lr_ratio: float = 0.1
) -> CosineWithWarmup:
    """Return :class:`CosineWithWarmup`, which is the name for configuration files."""
    return CosineWithWarmup(optimizer, total_steps=total_steps, warmup=warmup, min_lr_ratio=min_lr_ratio)

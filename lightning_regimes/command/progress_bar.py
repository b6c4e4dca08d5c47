"""Lightning's progress bar, for losses that become small in trainings that count steps."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme

_SETTINGS = ("_refresh_rate", "_leave", "_console_kwargs", "theme")


class SignificantProgressBar(RichProgressBar):
    """Shows three significant digits where Lightning shows three decimals, and no end where none is set.

    The part of the logger's version that Lightning shows is left out: it takes the place of a metric.
    """

    def __init__(self) -> None:
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3g"))

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the metrics of Lightning's bar without the logger's version."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def _get_train_description(self, current_epoch: int) -> str:
        # Without a last epoch, Lightning counts to the one before -1.
        return str(super()._get_train_description(current_epoch)).replace("/-2", "")


def replace_default_progress_bar(trainer: Trainer) -> None:
    """Put the bar in the place of Lightning's own; one that the user has set otherwise stays."""
    bar, usual = trainer.progress_bar_callback, RichProgressBar()
    if type(bar) is RichProgressBar and all(getattr(bar, name) == getattr(usual, name) for name in _SETTINGS):
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        callbacks[callbacks.index(bar)] = SignificantProgressBar()

"""Lightning's progress bar, for losses that become small in trainings that count steps."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme

_SETTINGS = ("_refresh_rate", "_leave", "_console_kwargs", "theme")


class SignificantProgressBar(RichProgressBar):
    """Shows three significant digits where Lightning shows three decimals, and no end where none is set."""

    def __init__(self) -> None:
        super().__init__(theme=RichProgressBarTheme(metrics_format=".3g"))

    def _get_train_description(self, current_epoch: int) -> str:
        # Without a last epoch, Lightning counts to the one before -1.
        return str(super()._get_train_description(current_epoch)).replace("/-2", "")


def replace_default_progress_bar(trainer: Trainer) -> None:
    """Put the bar in the place of Lightning's own; one that the user has set otherwise stays."""
    bar, usual = trainer.progress_bar_callback, RichProgressBar()
    if type(bar) is RichProgressBar and all(getattr(bar, name) == getattr(usual, name) for name in _SETTINGS):
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        callbacks[callbacks.index(bar)] = SignificantProgressBar()

"""Hand a record to whichever loggers the trainer has."""

import random
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from lightning_regimes.recording.record import Record
from lightning_regimes.recording.wandb_writer import write_wandb

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from matplotlib.figure import Figure

_AFTER_THE_LAST_STEP = frozenset({"on_train_epoch_end", "on_train_end", "on_fit_end"})
_FAILED_LOGGERS: "WeakSet[Any]" = WeakSet()


def logged_step(trainer: "Trainer") -> int:
    """The x-value under which Lightning would log at this moment.

    Lightning counts batches after which the optimizer stepped, and counts a batch only once its hooks and its
    validation are over; what it logs at the end of an epoch goes under the epoch's last batch. ``trainer.global_step``
    differs: it counts optimizer steps, several a batch with several optimizers, and is ahead by one in
    ``on_train_batch_end``.
    """
    stepped = trainer.fit_loop.epoch_loop._batches_that_stepped
    module = trainer.lightning_module
    if stepped > 0 and module is not None and module._current_fx_name in _AFTER_THE_LAST_STEP:
        return stepped - 1
    return stepped


def emit(trainer: "Trainer", pl_module: "LightningModule", record: Record) -> None:
    """Show a record to callbacks and loggers at once, whatever ``log_every_n_steps`` says.

    Scalars become ``trainer.callback_metrics`` on every rank, so that ``ModelCheckpoint`` and ``EarlyStopping`` can
    monitor them, and go to every logger on rank zero. Text, tables, histograms and figures go to W&B and TensorBoard. A
    logger that fails is warned about once; training goes on. The user's own logging is not touched.
    """
    import torch  # a report reads records without it

    # Not through pl_module.log: that is forbidden in half of the hooks, averages over the epoch, and resets what
    # the user logged when it is called between two evaluations of one optimizer closure. Nor through the property
    # trainer.callback_metrics, which computes, and under sync_dist reduces, the user's unfinished metrics.
    trainer._logger_connector._callback_metrics.update(
        {
            key: torch.tensor(value, dtype=torch.get_default_dtype(), device=pl_module.device)
            for key, value in record.scalars.items()
        }
    )
    if not trainer.is_global_zero or not trainer.loggers:
        return
    pictures = _Pictures(record.figures)
    for logger in trainer.loggers:
        write = _WRITERS.get(type(logger).__name__, _write_scalars)
        # W&B draws names for its media files from Python's generator.
        random_state = random.getstate()
        try:
            write(logger, record, pictures)
        except Exception as error:
            if logger not in _FAILED_LOGGERS:
                _FAILED_LOGGERS.add(logger)
                warnings.warn(
                    f"{type(logger).__name__} did not take the record of {record.diagnostic!r} at step {record.step}: "
                    f"{error}. Records on disk are complete; this logger is not warned about again.",
                    stacklevel=2,
                )
        finally:
            random.setstate(random_state)


class _Pictures(Mapping[str, np.ndarray]):
    """The figures of a record as (height, width, 4) images of bytes, each drawn once, at the first logger's wish."""

    def __init__(self, figures: "Mapping[str, Callable[[], Figure]]") -> None:
        self._figures = figures
        self._drawn: dict[str, np.ndarray] = {}

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._drawn:
            from matplotlib.backends.backend_agg import FigureCanvasAgg

            # An own canvas instead of pyplot leaves the user's backend and open figures alone.
            canvas = FigureCanvasAgg(self._figures[key]())
            canvas.draw()
            self._drawn[key] = np.asarray(canvas.buffer_rgba())
        return self._drawn[key]

    def __iter__(self) -> Any:
        return iter(self._figures)

    def __len__(self) -> int:
        return len(self._figures)


def _write_scalars(logger: Any, record: Record, pictures: _Pictures) -> None:
    if record.scalars:
        logger.log_metrics(dict(record.scalars), step=record.step)


def _write_tensorboard(logger: Any, record: Record, pictures: _Pictures) -> None:
    _write_scalars(logger, record, pictures)
    writer = logger.experiment
    prefix = f"{logger._prefix}{logger.LOGGER_JOIN_CHAR}" if logger._prefix else ""
    for key, text in record.text.items():
        writer.add_text(prefix + key, text, record.step)
    for key, table in record.tables.items():
        writer.add_text(prefix + key, table.markdown(), record.step)
    for key in record.histograms:
        if (values := _finite(record.arrays[key])).size:
            writer.add_histogram(prefix + key, values, record.step)
    for key, picture in pictures.items():
        writer.add_image(prefix + key, picture, record.step, dataformats="HWC")


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


# By name: lightning and pytorch_lightning each have their own class of every logger.
_WRITERS: dict[str, Callable[[Any, Record, Any], None]] = {
    "WandbLogger": write_wandb,
    "TensorBoardLogger": _write_tensorboard,
}

"""How the solutions of two seeds of a cell lie to each other: one row, from the checkpoints of both."""

from __future__ import annotations

import itertools
import shutil
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_regimes.command.sweep_cell import console_to, versions
from lightning_regimes.sweep import SeedComparison, SeedPair, Trial

if TYPE_CHECKING:
    import lightning as L
    from torch import Tensor

LAST_CHECKPOINT = Path("checkpoints", "last.ckpt")

# A training that only gets as far as its data.
_WITHOUT_TRAINING = (
    "--trainer.max_steps=1",
    "--trainer.limit_val_batches=0",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.enable_checkpointing=false",
)


@dataclass(frozen=True)
class CompareSeeds:
    """Compares the final weights of two runs on the training batches of the first.

    Args:
        directory: of the sweep.
        runs: run directory of each cell, relative to that of the sweep, by the key of its trial.
    """

    directory: Path
    runs: Mapping[str, str]

    def __call__(self, trial: Trial) -> dict[str, Any]:
        """Return the row: barrier, mode connectivity and CKA, the versions and the time.

        Raises:
            TypeError: the trial is no :class:`SeedPair`.
            FileNotFoundError: a run left no checkpoint.
        """
        from lightning_regimes.callbacks.diagnostic import Diagnostic
        from lightning_regimes.callbacks.reference_weights import load_weights
        from lightning_regimes.command.training import TrainingCommand

        if not isinstance(trial, SeedPair):
            raise TypeError(f"`trial` must be a SeedPair, got {type(trial).__name__}.")

        class Command(TrainingCommand):
            def after_fit(self) -> None:
                """Say nothing: this is no run of its own."""

        start, start_of_computing = time.perf_counter(), time.process_time()
        weights = [load_weights(self._checkpoint(each)) for each in (trial.first, trial.second)]
        folder = self.directory / "pairs" / trial.key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with console_to(folder / "output.txt"):
            command = Command([*trial.first.command, *_WITHOUT_TRAINING, f"--trainer.default_root_dir={folder}"])
            comparison = _comparison(*weights, options=trial.comparison)
            callbacks = command.trainer.callbacks  # type: ignore[attr-defined]
            command.trainer.callbacks = [  # type: ignore[attr-defined]
                *(callback for callback in callbacks if not isinstance(callback, Diagnostic)),
                comparison,
            ]
            command.run()
        shutil.rmtree(folder)
        return {
            "pair": [trial.first.key, trial.second.key],
            "values": comparison.values,
            "versions": versions(),
            "seconds": time.perf_counter() - start,
            "processor_seconds": time.process_time() - start_of_computing,
        }

    def _checkpoint(self, trial: Trial) -> Path:
        path = self.directory / self.runs[trial.key] / LAST_CHECKPOINT
        if not path.is_file():
            raise FileNotFoundError(
                f"the run {self.runs[trial.key]!r} left no {LAST_CHECKPOINT}; pairs of seeds need the checkpoints of "
                "their cells."
            )
        return path


def compare_solutions(
    module: L.LightningModule,
    batches: list[Any],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    options: SeedComparison,
) -> dict[str, float]:
    """Return barrier, mode connectivity and CKA of two solutions, by the keys of the vocabulary.

    CKA is left out, with a warning, where no layer returns a row for each sample of a batch.

    Args:
        module: of which both are weights; it holds the first ones afterwards.
        batches: of training.
        first: state dict of one solution.
        second: of the other.
        options: path, points and steps.
    """
    from lightning_regimes.landscape import mode_connectivity, probed_cka
    from lightning_regimes.probe import LossProbe

    module.load_state_dict(dict(first))
    probe = LossProbe(module, batches)
    line = mode_connectivity(probe, dict(second), "linear", points=options.points)
    curve = line
    if options.path != "linear":
        curve = mode_connectivity(probe, dict(second), options.path, points=options.points, steps=options.steps)
    found = {"connectivity/barrier": line.barrier, "connectivity/mode_connectivity": curve.value}
    try:
        result = probed_cka(probe, dict(second))
    except ValueError as error:
        # Networks that are run several times for one loss, such as on each condition of a PINN, have no layer with a
        # row for each sample.
        warnings.warn(f"The seeds are compared by their loss alone, not by CKA: {error}", stacklevel=2)
        return found
    finite = result.values[np.isfinite(result.values)]
    found["similarity/cka_mean"] = float(finite.mean()) if finite.size else float("nan")
    found["similarity/cka_output"] = float(result.values[-1])
    return found


def _comparison(first: Mapping[str, Tensor], second: Mapping[str, Tensor], *, options: SeedComparison) -> Any:
    # Lightning is loaded where a pair is compared, not where a sweep is described.
    import lightning as L

    class Comparison(L.Callback):
        values: dict[str, float]

        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            loader: Any = trainer.train_dataloader
            # As the training loop hands them to the module.
            batches = [
                trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
                for batch in itertools.islice(loader, options.num_batches)
            ]
            self.values = compare_solutions(pl_module, batches, first, second, options)

    return Comparison()

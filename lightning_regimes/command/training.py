"""``lightning-regimes fit|validate|test|predict``: LightningCLI in which every run has its own directory."""

import importlib
import logging
import os
from pathlib import Path
from typing import Any

import wandb
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_regimes.command.experiment_directory import (
    choose_run_directory,
    experiment_name,
    is_unset,
    remove_if_empty,
    require_checkpoint,
    run_of_checkpoint,
)
from lightning_regimes.command.progress_bar import replace_default_progress_bar
from lightning_regimes.command.short_names import import_named_classes, short_names

_RUN_DIRECTORY = "LIGHTNING_REGIMES_RUN_DIRECTORY"
_LOGGERS = "lightning.pytorch.loggers."


class TrainingCommand(LightningCLI):
    """LightningCLI with any model and any data, both by bare name where they are this package's own.

    A run gets the directory ``<default_root_dir or "runs">/<experiment>/<time>-<suffix>``, with ``config.yaml``,
    ``checkpoints/``, ``regimes/`` and what loggers write whose ``save_dir`` the configuration leaves at ``.``. A
    ``--ckpt_path`` inside a run's ``checkpoints/`` continues in that run, under its ``config.yaml`` unless ``-c``
    is given.

    Args:
        args: The arguments, the subcommand first.
    """

    def __init__(self, args: list[str]) -> None:
        _silence_advertising()
        if not any(argument.startswith(("-c", "--config")) for argument in args) and (run := run_of_checkpoint(args)):
            args = [args[0], "--config", str(run / "config.yaml"), *args[1:]]
        import_named_classes(args)
        own = [name for package in ("modules", "datamodules", "callbacks") for name in _names(package)]
        options = {
            "exit_on_error": False,
            "description": f"Classes that need no import path: {', '.join(own)}; and Lightning's own.",
        }
        try:
            super().__init__(
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=None,
                seed_everything_default=0,
                parser_kwargs={"exit_on_error": False, **{name: dict(options) for name in self.subcommands()}},
                args=args,
            )
        except BaseException:
            # A configuration from which nothing can be built leaves no run behind.
            remove_if_empty(getattr(self, "run_directory", None))
            raise

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments; a checkpoint that is not there is an error before anything is built."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]
        require_checkpoint(self.config[self.config.subcommand].get("ckpt_path"))

    def _parse_ckpt_path(self) -> None:
        # Lightning would let the checkpoint's hyperparameters override what the user just asked for.
        pass

    def before_instantiate_classes(self) -> None:
        """Choose the run directory, and put loggers and checkpoints into it."""
        config = self.config[self.subcommand]
        trainer = config.trainer
        self._require_data(config)
        self.experiment = experiment_name(config)
        root = Path(trainer.default_root_dir or "runs")
        if _rank() == 0:
            self.run_directory = choose_run_directory(root / self.experiment, config.get("ckpt_path"))
            self.experiment = self.run_directory.parent.name
            # Processes that Lightning starts for further devices run this command again.
            os.environ[_RUN_DIRECTORY] = str(self.run_directory)
        else:
            self.run_directory = Path(os.environ.get(_RUN_DIRECTORY, root / self.experiment))
        as_given = config.clone()
        as_given.pop("config", None)
        as_given.ckpt_path = None
        self._place_loggers(trainer)
        callbacks: list[Any] = [
            _SaveConfiguration(
                self._parser(self.subcommand),
                as_given,
                path=self.run_directory / ("config.yaml" if self.subcommand == "fit" else f"{self.subcommand}.yaml"),
            )
        ]
        if trainer.enable_checkpointing is not False and not trainer.barebones:
            callbacks.append(_LastCheckpoint(self.run_directory / "checkpoints"))
        self.trainer_defaults["callbacks"] = callbacks

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, rooted in the run directory."""
        trainer = super().instantiate_trainer(default_root_dir=str(self.run_directory), **kwargs)
        trainer.regimes_run_directory = self.run_directory  # type: ignore[attr-defined]
        trainer.regimes_summary_follows = True  # type: ignore[attr-defined]
        replace_default_progress_bar(trainer)
        for checkpoint in trainer.checkpoint_callbacks:
            if isinstance(checkpoint, ModelCheckpoint) and checkpoint.dirpath is None:
                checkpoint.dirpath = str(self.run_directory / "checkpoints")
        return trainer

    def run(self) -> None:
        """Run the subcommand, and leave the loggers' files complete however it ends."""
        try:
            super()._run_subcommand(str(self.subcommand))
        finally:
            for logger in self.trainer.loggers:
                if isinstance(logger, WandbLogger) and _rank() == 0:
                    logger.experiment.finish()

    def _run_subcommand(self, subcommand: str) -> None:
        # The constructor would run it; `run` does, so that whoever holds this object can tell how it ended.
        pass

    def after_fit(self) -> None:
        """Write the report, and say where everything is."""
        if not self.trainer.is_global_zero:
            return
        from lightning_regimes.dashboard import print_summary, write_report
        from lightning_regimes.recording import has_records

        if has_records(self.run_directory):
            write_report([self.run_directory])
        print_summary(self.run_directory, title=self.experiment)

    def how_to_continue(self, what_happened: str) -> str | None:
        """Say where an unfinished run lies and which command continues it."""
        checkpoint = self.run_directory / "checkpoints" / "last.ckpt"
        if self.subcommand != "fit" or not self.trainer.is_global_zero or not checkpoint.exists():
            return None
        return f"{what_happened} Continue with: lightning-regimes fit --ckpt_path {checkpoint}"

    def _require_data(self, config: Namespace) -> None:
        needed = {"fit": "train_dataloader", "validate": "val_dataloader"}
        method = needed.get(str(self.subcommand), f"{self.subcommand}_dataloader")
        if config.get("data") is None and not _is_overridden(method, _imported(config.model.class_path)):
            known = ", ".join(_names("datamodules"))
            raise ValueError(f"'data' is missing; give a datamodule, such as --data=... with one of {known}.")

    def _place_loggers(self, trainer: Namespace) -> None:
        if trainer.logger in (None, True) and not trainer.barebones:
            offline = os.environ.get("WANDB_MODE") != "online"
            run = {"project": "lightning-regimes", "name": f"{self.experiment}/{self.run_directory.name}"}
            trainer.logger = [
                Namespace(class_path=f"{_LOGGERS}CSVLogger", init_args=Namespace(save_dir=".")),
                Namespace(class_path=f"{_LOGGERS}WandbLogger", init_args=Namespace(offline=offline, **run)),
            ]
        for logger in trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]:
            if not isinstance(logger, Namespace) or not is_unset(logger.init_args.get("save_dir")):
                continue
            # Absolute, as the W&B service that writes the files has a working directory of its own.
            logger.init_args.save_dir = str(self.run_directory.resolve())
            name = logger.class_path.rpartition(".")[2]
            if name in ("CSVLogger", "TensorBoardLogger") and logger.init_args.get("name") in (None, "lightning_logs"):
                logger.init_args.name = name.removesuffix("Logger").lower()


class _SaveConfiguration(SaveConfigCallback):
    """Writes the configuration as it was given, and tells it to the loggers."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, *, path: Path) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.path = path

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if getattr(trainer, "fast_dev_run", False):
            return
        text = self.parser.dump(self.config, skip_none=False)
        self.path.write_text(text)
        hyperparameters = _without_nulls(yaml.safe_load(text))
        for logger in trainer.loggers:
            logger.log_hyperparams(hyperparameters)


class _LastCheckpoint(ModelCheckpoint):
    """Keeps the newest checkpoint, also when training ends within an epoch, by an exception or by Ctrl-C.

    A class of its own has a state of its own, beside whatever ``ModelCheckpoint`` the user configures.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory, save_top_k=1, save_last="link", save_on_exception=True, enable_version_counter=False
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning would be content with the checkpoint of the last validation.
        if self._last_global_step_saved != trainer.global_step:
            candidates = self._monitor_candidates(trainer)
            self._save_none_monitor_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)
        super().on_train_end(trainer, pl_module)


class _NoTips(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "💡 Tip" not in record.getMessage()


_NO_TIPS = _NoTips()


def _silence_advertising() -> None:
    for namespace in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(f"{namespace}.utilities.rank_zero").addFilter(_NO_TIPS)
    # W&B reads WANDB_SILENT only at its first run, after it has warned about arguments that Lightning passes to it.
    wandb.termsetup(wandb.Settings(silent=True), None)


def _is_overridden(method: str, cls: type) -> bool:
    """Whether a class, or a base class short of Lightning's own, defines a method."""
    return getattr(cls, method, None) is not getattr(LightningModule, method)


def _imported(class_path: str) -> type:
    module, _, name = class_path.rpartition(".")
    imported: type = getattr(importlib.import_module(module), name)
    return imported


def _rank() -> int:
    # Set by Lightning from the launcher's environment, before any trainer exists.
    return int(getattr(rank_zero_only, "rank", 0))


def _names(package: str) -> list[str]:
    return short_names()[f"lightning_regimes.{package}"]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [_without_nulls(entry) for entry in value]
    return value

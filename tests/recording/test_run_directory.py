from pathlib import Path

import lightning
import lightning.pytorch.loggers
import pytest
import pytorch_lightning
import pytorch_lightning.loggers

from lightning_regimes.recording import records_directory, run_directory

NAMESPACES = pytest.mark.parametrize("namespace", [lightning, pytorch_lightning], ids=lambda module: module.__name__)


@NAMESPACES
def test_attribute_of_the_trainer_decides(namespace, tmp_path: Path) -> None:
    trainer = namespace.Trainer(default_root_dir=tmp_path, logger=False, accelerator="cpu")
    trainer.regimes_run_directory = tmp_path / "chosen"
    assert run_directory(trainer) == tmp_path / "chosen"
    assert records_directory(trainer) == tmp_path / "chosen" / "regimes"


@NAMESPACES
@pytest.mark.parametrize("name", ["CSVLogger", "TensorBoardLogger"])
def test_folder_of_the_first_logger(namespace, name: str, tmp_path: Path) -> None:
    loggers = namespace.pytorch.loggers if namespace is lightning else namespace.loggers
    trainer = namespace.Trainer(logger=getattr(loggers, name)(tmp_path, name="mine", version="v"), accelerator="cpu")
    assert run_directory(trainer) == tmp_path / "mine" / "v"
    assert run_directory(trainer) == Path(trainer.log_dir)


def test_wandb_goes_where_its_checkpoints_go(tmp_path: Path) -> None:
    logger = lightning.pytorch.loggers.WandbLogger(save_dir=tmp_path, project="p", version="abc", offline=True)
    trainer = lightning.Trainer(logger=logger, accelerator="cpu")
    resolved = Path(trainer.checkpoint_callback._ModelCheckpoint__resolve_ckpt_dir(trainer))  # type: ignore[union-attr]
    assert run_directory(trainer) == resolved.parent == tmp_path / "p" / "abc"


@pytest.mark.parametrize("options", [{"logger": False}, {"fast_dev_run": True}])
def test_without_logger_each_trainer_gets_its_own_and_keeps_it(options: dict, tmp_path: Path) -> None:
    trainers = [lightning.Trainer(default_root_dir=tmp_path, accelerator="cpu", **options) for _ in range(2)]
    first, second = map(run_directory, trainers)
    assert first == tmp_path / "regime_runs" / "run_0"
    assert second == tmp_path / "regime_runs" / "run_1"
    assert [run_directory(trainer) for trainer in trainers] == [first, second]


def test_remote_directory_is_refused() -> None:
    trainer = lightning.Trainer(default_root_dir="memory://runs", logger=False, accelerator="cpu")
    with pytest.raises(ValueError, match="must be local"):
        run_directory(trainer)

import lightning as L
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_regimes.callbacks import HessianSpectrum, RegimeDetection
from lightning_regimes.cli import main


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr("lightning_regimes.callbacks.closing_word.rank_zero_info", lines.append)
    return lines


def train(*callbacks, **options):
    trainer = L.Trainer(
        max_steps=4,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(BoringModel())
    return trainer


def test_a_training_ends_with_its_regime_and_the_command_that_shows_more(tmp_path, monkeypatch, said, capsys):
    monkeypatch.chdir(tmp_path)
    train(HessianSpectrum(k=1, every_n_steps=2), RegimeDetection(every_n_steps=2))
    (line,) = said
    label, _, command = line.partition(". See more with: lightning-regimes ")
    assert label.startswith("Regime: ")
    assert label.removeprefix("Regime: ").isupper()
    assert main(command.split()) == 0
    assert capsys.readouterr().out == "regime_runs/run_0/report.html\n"
    train(HessianSpectrum(k=1, every_n_steps=2), default_root_dir=tmp_path / "elsewhere")
    assert said[1:] == ["See more with: lightning-regimes report elsewhere/regime_runs/run_0"]


@pytest.mark.filterwarnings("ignore:HessianSpectrum measured nothing")
def test_a_training_without_records_ends_without_a_word(tmp_path, said):
    train(HessianSpectrum(), default_root_dir=tmp_path)
    train(RegimeDetection(), default_root_dir=tmp_path, fast_dev_run=True)
    assert said == []

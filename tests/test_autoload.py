import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning
import pytest
import pytorch_lightning
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_regimes import autoload
from lightning_regimes.callbacks import FieldSnapshot, RegimeDetection

OPTIONS: dict[str, Any] = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False}


def test_nothing_is_imported_or_added_where_nothing_is_asked_for() -> None:
    code = (
        "import os, sys\nos.environ.pop('LIGHTNING_REGIMES', None)\n"
        "from lightning_regimes.autoload import callbacks\nassert callbacks() == []\n"
        "print({'torch', 'lightning', 'numpy', 'yaml', 'jsonargparse', 'wandb'} & set(sys.modules))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("value", ["", "  "])
def test_empty_variable_adds_nothing(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_REGIMES", value)
    assert autoload.callbacks() == []


def test_names_become_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_REGIMES", "RegimeDetection, FieldSnapshot,")
    made = autoload.callbacks()
    assert [type(callback).__mro__[1] for callback in made] == [RegimeDetection, FieldSnapshot]


@pytest.mark.parametrize("layout", ["callbacks:\n{}", "trainer:\n  callbacks+:\n{}"])
def test_file_gives_options(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (
        "  - class_path: RegimeDetection\n    init_args: {num_batches: 2, every_n_steps: 7}\n"
        "  - class_path: EarlyStopping\n    init_args: {monitor: regime/id}\n"
    )
    path = tmp_path / "diagnostics.yaml"
    path.write_text(layout.format(entries))
    monkeypatch.setenv("LIGHTNING_REGIMES", str(path))
    regime, stopping = autoload.callbacks()
    assert isinstance(regime, RegimeDetection)
    assert (regime.num_batches, regime.every_n_steps) == (2, 7)
    assert type(stopping) is EarlyStopping


@pytest.mark.parametrize("value", ["Nonsense", "missing.yaml", "broken.yaml", "empty.yaml", "misspelt.yaml"])
def test_what_cannot_be_built_is_a_warning(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("callbacks: [")
    (tmp_path / "empty.yaml").write_text("model: x")
    (tmp_path / "misspelt.yaml").write_text("callbacks: [{class_path: RegimeDetection, init_args: {evry: 1}}]")
    monkeypatch.setenv("LIGHTNING_REGIMES", value)
    with pytest.warns(UserWarning, match=f"LIGHTNING_REGIMES='{value}' adds no callbacks"):
        trainer = lightning.Trainer(**OPTIONS)
    assert not [callback for callback in trainer.callbacks if isinstance(callback, RegimeDetection)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("namespace", [lightning, pytorch_lightning], ids=lambda module: module.__name__)
def test_trainers_of_both_namespaces_get_them(namespace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_REGIMES", "RegimeDetection")
    first, second = (namespace.Trainer(**OPTIONS) for _ in range(2))
    found = [
        callback
        for trainer in (first, second)
        for callback in trainer.callbacks
        if isinstance(callback, RegimeDetection)
    ]
    assert len(found) == 2
    assert found[0] is not found[1]


def test_users_own_instance_keeps_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_REGIMES", "RegimeDetection")
    trainer = lightning.Trainer(
        **OPTIONS,
        callbacks=[RegimeDetection(num_batches=1)],
        default_root_dir=tmp_path,
        max_steps=2,
        limit_val_batches=0,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(BoringModel())
    states = trainer._checkpoint_connector.dump_checkpoint()["callbacks"]
    assert {"RegimeDetection", "LIGHTNING_REGIMES:_RegimeDetection"} <= set(states)


def test_callbacks_reach_a_spawned_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_REGIMES", "RegimeDetection")
    (callback,) = autoload.callbacks()
    again = pickle.loads(pickle.dumps(callback))
    assert type(again) is type(callback)
    assert again.state_key == callback.state_key == "LIGHTNING_REGIMES:_RegimeDetection"


def test_module_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        autoload.Nonsense  # noqa: B018

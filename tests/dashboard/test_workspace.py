import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from rich.console import Console

from lightning_regimes import callbacks
from lightning_regimes.cli import main
from lightning_regimes.command.dashboard import _CALLBACKS, show
from lightning_regimes.dashboard.recorded_keys import recorded_keys
from lightning_regimes.dashboard.workspace import WORKSPACE, WorkspacePanel
from lightning_regimes.recording import Journal, Record, describe

# wandb-workspaces defines its classes in pydantic's earlier style.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PANELS = [panel for section in WORKSPACE for panel in section.panels]


@pytest.fixture
def nobody_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    yield
    # W&B remembers a login that was refused, and would refuse later runs of this process even offline.
    wandb.teardown()


def test_sections_are_those_of_a_run() -> None:
    assert [section.name for section in WORKSPACE] == [
        "Regime",
        "Curvature",
        "Alignment",
        "Landscape",
        "Weights",
        "Task",
    ]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_panels_name_quantities_of_the_vocabulary(panel: WorkspacePanel) -> None:
    assert panel.keys
    assert not panel.title.endswith(".")
    for key in panel.keys:
        assert describe(key).key == key
    if panel.kind != "lines":
        assert len(panel.keys) == 1


def test_the_callbacks_that_fill_panels_are_known_by_what_they_record() -> None:
    prefixes = {key.partition("/")[0] for panel in PANELS for key in panel.keys}
    assert prefixes == set(_CALLBACKS)
    for prefix, name in _CALLBACKS.items():
        # The one that works before the training is no diagnostic, and has no name.
        assert getattr(getattr(callbacks, name), "name", "kces") == prefix


def test_no_quantity_is_shown_twice() -> None:
    keys = [key for panel in PANELS for key in panel.keys]
    assert len(set(keys)) == len(keys)


def test_it_is_built_without_a_login_and_holds_every_panel(nobody_logged_in: None) -> None:
    pytest.importorskip("wandb_workspaces")
    from lightning_regimes.dashboard.wandb_workspace import build_workspace

    workspace = build_workspace(entity="team", project="curves", name="Regimes")
    assert (workspace.entity, workspace.project, workspace.name) == ("team", "curves", "Regimes")
    assert workspace.settings.x_axis == "trainer/global_step"
    assert workspace.auto_generate_panels is True
    assert [section.name for section in workspace.sections] == [section.name for section in WORKSPACE]
    for built, section in zip(workspace.sections, WORKSPACE, strict=True):
        assert len(built.panels) == len(section.panels)
        for made, panel in zip(built.panels, section.panels, strict=True):
            assert _keys(made) == list(panel.keys)
    text = workspace._to_model().model_dump_json(by_alias=True)
    assert all(json.dumps(key) in text or key in text for panel in PANELS for key in panel.keys)


def _keys(panel: Any) -> list[str]:
    if hasattr(panel, "y"):
        assert panel.x == "trainer/global_step"
        return list(panel.y)
    if hasattr(panel, "media_keys"):
        return list(panel.media_keys)
    return [panel.table_name] if hasattr(panel, "table_name") else [panel.query["summaryTable"]["tableKey"]]


def push(*options: str) -> int:
    return main(["dashboard", "push", *options])


def test_push_without_a_login_says_how_to_log_in(nobody_logged_in: None, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces")
    assert push("--entity", "team") == 1
    error = "lightning-regimes: error: nobody is logged in to W&B; run `wandb login` or set WANDB_API_KEY.\n"
    assert capsys.readouterr().err.endswith(error)


def test_push_without_the_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert push("--entity", "team") == 1
    assert "pip install 'lightning-regimes[dashboard]'" in capsys.readouterr().err


def test_push_saves_what_was_built_and_prints_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspaces = pytest.importorskip("wandb_workspaces.workspaces")
    saved: list[Any] = []

    def save(self: Any) -> Any:
        saved.append(self)
        return SimpleNamespace(url="address of the view")

    monkeypatch.setattr(workspaces.Workspace, "save", save)
    monkeypatch.setattr("wandb.login", lambda **options: True)
    assert push("--entity", "team", "--project", "curves") == 0
    assert capsys.readouterr().out == "address of the view\n"
    assert [(workspace.entity, workspace.project) for workspace in saved] == [("team", "curves")]


def test_a_refusal_by_the_server_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspaces = pytest.importorskip("wandb_workspaces.workspaces")

    def refuse(self: Any) -> Any:
        raise ConnectionError("no such entity\nand much more")

    monkeypatch.setattr(workspaces.Workspace, "save", refuse)
    monkeypatch.setattr("wandb.login", lambda **options: True)
    assert push("--entity", "team") == 1
    error = "lightning-regimes: error: W&B did not save the workspace for team/lightning-regimes: no such entity\n"
    assert capsys.readouterr().err == error


def test_push_needs_an_entity(capsys: pytest.CaptureFixture[str]) -> None:
    assert push() == 1
    assert "--entity" in capsys.readouterr().err


@pytest.fixture
def run(tmp_path: Path) -> Path:
    record = Record("regime", 0, 0, 0, scalars={"regime/normalized_loss": 0.5}, text={"regime/label": "UNDER_TRAINED"})
    Journal(tmp_path / "regimes").append(record)
    return tmp_path


def test_the_panels_that_a_run_leaves_empty_are_named(run: Path) -> None:
    assert recorded_keys(run)[0] == {"regime/normalized_loss", "regime/label"}
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(SimpleNamespace(run_directory=run), console)  # type: ignore[arg-type]
    lines = console.export_text(clear=False).splitlines()
    for section in WORKSPACE:
        assert section.name in (line.strip() for line in lines)
    (shown,) = [line for line in lines if "regime/normalized_loss" in line]
    assert "not recorded" not in shown
    (lacking,) = [line for line in lines if "hessian/lambda_1" in line]
    assert "Sharpness" in lacking
    assert "hessian/lambda_1 – not recorded" in lacking
    assert "More is recorded by HessianSpectrum, GradientAlignment," in console.export_text(clear=False)
    assert any(line.startswith(f"1 of {len(PANELS)} panels have something to show") for line in lines)


def test_a_directory_without_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", str(tmp_path)]) == 1
    assert f"{str(tmp_path)!r} holds neither a W&B run nor records" in capsys.readouterr().err

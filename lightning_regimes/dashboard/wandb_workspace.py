"""The workspace as W&B takes it."""

from typing import Any

from lightning_regimes.dashboard.workspace import WORKSPACE, WorkspacePanel

_STEP = "trainer/global_step"


def build_workspace(*, entity: str, project: str, name: str = "Training regimes") -> Any:
    """Build the ``wandb_workspaces.workspaces.Workspace``; needs neither a login nor a network.

    Args:
        entity: User or team that it belongs to.
        project: Project whose runs it shows.
        name: Under which the app lists it.

    Raises:
        RuntimeError: If the package wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise RuntimeError(
            "building a W&B workspace needs the package wandb-workspaces; pip install 'lightning-regimes[dashboard]'."
        ) from error

    sections = [
        workspaces.Section(name=section.name, is_open=section.is_open, panels=[_panel(p) for p in section.panels])
        for section in WORKSPACE
    ]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis=_STEP),
        auto_generate_panels=True,
    )


def push_workspace(*, entity: str, project: str, name: str = "Training regimes") -> str:
    """Save the workspace on the W&B server and return its address; each call saves another view.

    Raises:
        RuntimeError: If wandb-workspaces is not installed, nobody is logged in to W&B, or W&B refuses.
    """
    workspace = build_workspace(entity=entity, project=project, name=name)
    try:
        logged_in = _is_logged_in()
        url = str(workspace.save().url) if logged_in else ""
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise RuntimeError(f"W&B did not save the workspace for {entity}/{project}: {reason}") from error
    if not logged_in:
        raise RuntimeError("nobody is logged in to W&B; run `wandb login` or set WANDB_API_KEY.")
    return url


def _is_logged_in() -> bool:
    import wandb

    # Otherwise W&B would ask for a key on the console.
    return bool(wandb.login(prompt=False))


def _panel(panel: WorkspacePanel) -> Any:
    import wandb_workspaces.reports.v2 as reports

    if panel.kind == "lines":
        return reports.LinePlot(title=panel.title, x=_STEP, y=list(panel.keys), log_y=panel.logarithmic or None)
    if panel.kind == "picture":
        return reports.MediaBrowser(title=panel.title, media_keys=list(panel.keys))
    if panel.kind == "table":
        return reports.WeavePanelSummaryTable(table_name=panel.keys[0])
    return reports.CustomChart(
        query={"summaryTable": {"tableKey": panel.keys[0]}},
        chart_name="wandb/lineseries/v0",
        chart_fields={"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"},
        chart_strings={"title": panel.title, "xname": "number of the eigenvalue"},
    )

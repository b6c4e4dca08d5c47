"""``lightning-regimes dashboard``: which W&B workspace would be saved, and saving it."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_regimes.dashboard.recorded_keys import recorded_keys
from lightning_regimes.dashboard.workspace import WORKSPACE

# Told without importing any of them, which would take seconds.
_CALLBACKS = {
    "regime": "RegimeDetection",
    "hessian": "HessianSpectrum",
    "alignment": "GradientAlignment",
    "landscape": "LossLandscape",
    "similarity": "CKASimilarity",
    "heavy_tail": "HeavyTail",
    "dominance": "DiagonalDominance",
    "field": "FieldSnapshot",
    "refinement": "RefinementCurve",
    "kces": "KCESPreprocessing",
    "layer_split": "LayerSplit",
}
"""Which callback records the keys that begin so."""

_KINDS = {"lines": "lines", "picture": "picture", "table": "table", "spectra": "chart"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``dashboard RUN_DIR``."""
    parser.add_argument("run_directory", type=Path, metavar="RUN_DIR", help="directory of a run")


def add_push_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``dashboard push``."""
    parser.add_argument("--entity", required=True, help="W&B user or team")
    parser.add_argument("--project", default="lightning-regimes", help="W&B project, by default lightning-regimes")
    parser.add_argument("--name", default="Training regimes", help="name of the workspace")


def show(options: argparse.Namespace, console: Console | None = None) -> None:
    """Print the workspace, and which of its panels would stay empty for a run.

    Raises:
        FileNotFoundError: The directory holds neither an offline W&B run nor records.
    """
    console = console or Console()
    recorded, source = recorded_keys(options.run_directory)
    empty = 0
    for section in WORKSPACE:
        table = Table(title=section.name, title_justify="left", title_style="bold", expand=True, show_edge=False)
        table.add_column("panel", ratio=3)
        table.add_column("", ratio=1)
        table.add_column("keys", ratio=4, overflow="fold")
        for panel in section.panels:
            lacking = panel.lacks(recorded)
            empty += len(lacking) == len(panel.keys)
            keys = Text("\n").join(
                Text(f"{key} – not recorded" if key in lacking else key, style="yellow" if key in lacking else "")
                for key in panel.keys
            )
            table.add_row(panel.title, _KINDS[panel.kind], keys)
        console.print(table)
        console.print()
    count = sum(len(section.panels) for section in WORKSPACE)
    console.print(f"{count - empty} of {count} panels have something to show, by {source}.", highlight=False)
    there = {key.partition("/")[0] for key in recorded}
    shown = [key.partition("/")[0] for section in WORKSPACE for panel in section.panels for key in panel.keys]
    if absent := [_CALLBACKS[name] for name in dict.fromkeys(shown) if name not in there]:
        console.print(f"More is recorded by {', '.join(absent)}.", highlight=False)
    console.print(
        "Save it with: lightning-regimes dashboard push --entity ENTITY --project PROJECT", highlight=False, style="dim"
    )


def push(options: argparse.Namespace) -> None:
    """Save the workspace on the W&B server, and print its address."""
    from lightning_regimes.dashboard.wandb_workspace import push_workspace

    print(push_workspace(entity=options.entity, project=options.project, name=options.name))

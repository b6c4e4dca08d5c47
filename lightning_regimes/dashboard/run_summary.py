"""The end of a run on the console: the verdict, and where everything is."""

import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.run_view import RunView
from lightning_regimes.recording import RECORDS_FILE, has_records

_COLOURS = {
    "well-trained": "green",
    "under-trained": "yellow",
    "over-trained": "magenta",
    "inconsistent": "cyan",
    "diverged": "red",
}

_NUMBERS = {
    "λ₁": "hessian/lambda_1",
    "rel-L2": "field/rel_l2",
    "error": "regime/test_error",
    "estimated error": "regime/estimated_error",
}


def print_summary(directory: str | os.PathLike[str], *, title: str, console: Console | None = None) -> None:
    """Print regime, λ₁ and error of a finished run, and the paths of what it left.

    Args:
        directory: The run directory.
        title: Name of the experiment.
        console: Where to print; by default standard output.
    """
    console = console or Console()
    run = Path(directory)
    if has_records(run):
        console.print(_verdict(RunView(run), title))
    for name, path in (
        ("report", run / "report.html"),
        ("records", run / RECORDS_FILE),
        ("W&B run", max(run.glob("wandb/*run-*"), default=None)),
        ("checkpoint", run / "checkpoints" / "last.ckpt"),
    ):
        if path and path.exists():
            # Unbroken, so that a path can be copied from a narrow terminal.
            text = f"[dim]{name:<11}[/][link={path.absolute().as_uri()}]{escape(str(path))}[/link]"
            console.print(text, soft_wrap=True, highlight=False)


def _verdict(run: RunView, title: str) -> Panel:
    colour = _COLOURS.get(run.label or "", "dim")
    provisional = " (provisional)" if run.number("regime/provisional") else ""
    table = Table.grid(padding=(0, 2))
    # Spelt as in records, configurations and code, so that it can be searched for.
    label = run.verdict.text.get("regime/label") if run.verdict else None
    table.add_row("[dim]regime[/]", f"[bold {colour}]{label or 'no verdict'}[/]{provisional}")
    shown: dict[str, str] = {}
    for name, key in _NUMBERS.items():
        value = run.number(key)
        # The error of a field is the same number, measured twice.
        if value is not None and not (key == "regime/test_error" and short(value) == shown.get("rel-L2")):
            shown[name] = short(value)
            table.add_row(f"[dim]{name}[/]", shown[name])
    if run.verdict and (guidance := run.verdict.context.get("guidance")):
        table.add_row("[dim]advice[/]", str(guidance))
    return Panel(table, title=title, border_style=colour, expand=False)

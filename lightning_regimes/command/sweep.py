"""``lightning-regimes sweep``: many trainings over the axes of a phase diagram."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lightning_regimes.command.sweep_cell import RunCell
from lightning_regimes.command.sweep_pair import CompareSeeds
from lightning_regimes.sweep import Engine, LocalEngine, RayEngine, SweepSpecification, run_sweep
from lightning_regimes.sweep.recorded_sweep import RecordedSweep, describe_sweep

if TYPE_CHECKING:
    from lightning_regimes.recording import Record
    from lightning_regimes.sweep.engine import Row

ENGINES = ("local", "ray", "wandb")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the subcommand."""
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="YAML file of the sweep")
    parser.add_argument(
        "-d",
        "--directory",
        type=Path,
        metavar="DIR",
        help="where cells and table go, by default runs/sweeps/FILE; a sweep that was cut off goes on there",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default="local", help="processes of this machine (default), Ray, or W&B's agents"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="local processes, by default one for each core")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of a cell, by default 1")
    parser.add_argument("--address", help="of the Ray cluster, by default a new one on this machine")
    parser.add_argument("--retry-failed", action="store_true", help="run cells again that failed before")
    parser.add_argument("--no-wandb", action="store_true", help="log the phase diagram to no W&B run")


def sweep(options: argparse.Namespace, *, console: Console | None = None) -> int:
    """Run what is left of a sweep, write table, figure and report, and return the exit status.

    The status is 1 where cells failed, 0 otherwise.

    Args:
        options: those of :func:`add_options`.
        console: where to print; by default standard output.
    """
    console = console or Console()
    specification = SweepSpecification.read(options.config)
    if options.engine == "wandb":
        for line in wandb_commands(options.config):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        return 0
    directory = options.directory or Path("runs", "sweeps", options.config.stem)
    trials = specification.trials()
    pairs = specification.seed_pairs()
    engine = _engine(options, console)
    with _progress(console, specification.name) as (start, advance, compare):

        def begin(done: int, total: int) -> None:
            # Not before: another process may hold the directory.
            describe_sweep(specification, trials, directory, pairs=pairs)
            start(done, total)

        try:
            run_sweep(
                trials,
                directory,
                function=RunCell(directory.resolve()),
                engine=engine,
                seed=specification.seed,
                retry_failed=options.retry_failed,
                on_start=begin,
                on_row=advance,
            )
            runs = {row["key"]: row["run"] for row in RecordedSweep(directory).finished}
            run_sweep(
                [pair for pair in pairs if pair.first.key in runs and pair.second.key in runs],
                directory,
                function=CompareSeeds(directory.resolve(), runs),
                engine=engine,
                retry_failed=options.retry_failed,
                on_start=compare,
                on_row=advance,
            )
        except KeyboardInterrupt:
            console.print("Interrupted; the same command goes on with what is missing.")
            raise
    recorded = RecordedSweep(directory)
    for row in (*recorded.failed, *recorded.failed_pairs):
        console.print(f"[red]failed[/]  {_parameters(row)}: {row['error']}", soft_wrap=True, highlight=False)
    if not recorded.finished:
        return 1
    write_results(recorded, console=console, wandb=not options.no_wandb)
    return 1 if recorded.failed or recorded.failed_pairs else 0


def write_results(recorded: RecordedSweep, *, console: Console, wandb: bool) -> None:
    """Write what a sweep found beside its table: CSV, figure, report, journal; and log it.

    A sweep that is the same as it was is neither journalled nor logged again.
    """
    from lightning_regimes.dashboard import write_report
    from lightning_regimes.recording import Journal, has_records, read_records
    from lightning_regimes.recording.journal import RECORDS_DIRECTORY
    from lightning_regimes.sweep.phase_diagram_record import phase_diagram_record

    seconds = sum(row["seconds"] for row in recorded.finished)
    written: list[Path] = []
    records: list[Record] = []
    for number, (name, diagram) in enumerate(recorded.diagrams().items()):
        stem = "phase_diagram" if number == 0 else f"phase_diagram_{number + 1}"
        written.append(diagram.to_csv(recorded.directory / f"{stem}.csv"))
        diagram.figure().savefig(recorded.directory / f"{stem}.png", dpi=150)
        written.append(recorded.directory / f"{stem}.png")
        shares = Counter(row["label"] for row in diagram.table())
        console.print(
            f"{name + ': ' if name else ''}{', '.join(f'{count} {label}' for label, count in shares.items())}"
        )
        records.append(phase_diagram_record(diagram, name=name, num_failed=len(recorded.failed), seconds=seconds))
    known = read_records(recorded.directory) if has_records(recorded.directory) else []
    said = [(record.scalars, record.context) for record in known]
    new = [record for record in records if (record.scalars, record.context) not in said]
    for record in new:
        Journal(recorded.directory / RECORDS_DIRECTORY).append(record)
    if wandb and (new or not (recorded.directory / "wandb").is_dir()):
        _log(recorded, records)
    written.insert(0, write_report([recorded.directory]))
    for path in written:
        console.print(f"[dim]{path.suffix[1:]:<6}[/]{path}", soft_wrap=True, highlight=False)


def wandb_commands(config: Path) -> list[str]:
    """Return the commands by which W&B's agents run the sweep: the first registers it, the second runs cells."""
    return [
        f"wandb sweep --project lightning-regimes {config}",
        "wandb agent <the id that this prints>",
    ]


def _engine(options: argparse.Namespace, console: Console) -> Engine:
    if options.engine == "ray":
        return RayEngine(address=options.address, threads_per_worker=options.threads)

    def tell(message: str) -> None:
        console.print(f"[yellow]{message}[/]", soft_wrap=True, highlight=False)

    return LocalEngine(workers=options.workers, threads_per_worker=options.threads, on_lost_worker=tell)


@contextlib.contextmanager
def _progress(console: Console, name: str) -> Iterator[tuple[Any, Any, Any]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # An estimate over all cells so far: cells of one sweep differ, and neighbours end together.
    with Progress(*columns, console=console, speed_estimate_period=3600) as progress:
        task = progress.add_task(name, total=None, failed="")
        failed = 0

        def start(done: int, total: int) -> None:
            progress.update(task, total=total, completed=done)

        def compare(done: int, total: int) -> None:
            if total:
                progress.update(task, description="pairs of seeds", total=total, completed=done)

        def advance(row: Row) -> None:
            nonlocal failed
            failed += row["status"] == "failed"
            progress.update(task, advance=1, failed=f"{failed} failed" if failed else "")

        yield start, advance, compare


def _parameters(row: Row) -> str:
    return ", ".join(f"{name}={value}" for name, value in row["parameters"].items())


def _log(recorded: RecordedSweep, records: Sequence[Record]) -> None:
    """Show the records to a W&B run of the sweep's own, offline unless ``WANDB_MODE=online``."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import WandbLogger

    from lightning_regimes.command.training import _silence_advertising
    from lightning_regimes.recording import emit

    _silence_advertising()
    offline = os.environ.get("WANDB_MODE") != "online"
    logger = WandbLogger(
        project="lightning-regimes",
        name=f"sweep/{recorded.name}",
        save_dir=str(recorded.directory.resolve()),
        offline=offline,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Of devices it would only speak; this trainer trains nothing.
        logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
        trainer = Trainer(
            logger=logger, accelerator="cpu", devices=1, enable_checkpointing=False, enable_model_summary=False
        )
    for record in records:
        emit(trainer, LightningModule(), record)
    logger.experiment.finish()

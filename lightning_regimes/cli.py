"""The command ``lightning-regimes``: what to run, and how its end is told.

Only what a subcommand needs is imported: ``--help`` and ``report`` start without Lightning.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from lightning_regimes import __version__
from lightning_regimes.command.configuration_files import require_configurations

_TRAINING = {
    "fit": "train, and report the regime at the end",
    "validate": "evaluate on the validation set",
    "test": "evaluate on the test set",
    "predict": "predict",
}
_EPILOG = """\
examples:
  lightning-regimes fit -c experiment.yaml
  lightning-regimes fit -c experiment.yaml -c diagnostics.yaml --trainer.max_epochs 10
  lightning-regimes fit --ckpt_path runs/experiment/<run>/checkpoints/last.ckpt     continue a run
  lightning-regimes fit -c experiment.yaml --print_config                           see every option
  lightning-regimes report runs/experiment/<run>                                    write its report again
  lightning-regimes report runs/experiment                                          compare all its runs
  lightning-regimes report --watch runs/experiment/<run>                            follow a run in the browser
  lightning-regimes dashboard runs/experiment/<run>                                 see the W&B workspace of a run
  lightning-regimes sweep -c sweep.yaml                 run a grid of cells; the same command continues it

`lightning-regimes fit --help` lists the options of training.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 after an error, 130 after Ctrl-C.

    Args:
        args: The arguments; by default those of the process. ``--debug`` anywhere shows tracebacks.
    """
    given = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        with _quiet(), _restored_interrupt():
            if given and given[0] in _TRAINING:
                _train(given)
            elif given and given[0] == "sweep":
                return _sweep(given[1:])
            elif given and given[0] == "dashboard":
                _dashboard(given[1:])
            else:
                _report(given)
    except KeyboardInterrupt:
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"lightning-regimes: error: {_sentence(error)}", file=sys.stderr)
        return 1
    return 0


def _train(args: list[str]) -> None:
    # Before Lightning is imported, which takes seconds.
    require_configurations(args)
    from lightning_regimes.command.training import TrainingCommand

    command = TrainingCommand(args)
    try:
        command.run()
    except SystemExit as stop:
        # Lightning leaves through sys.exit(1) once it has handled a Ctrl-C.
        if isinstance(stop.__context__, KeyboardInterrupt):
            _tell(command.how_to_continue("Interrupted."))
            raise KeyboardInterrupt from None
        raise
    except Exception:
        # Whatever stopped it: the way to go on is told, and the error goes its way.
        _tell(command.how_to_continue("Training stopped."))
        raise


def _sweep(args: list[str]) -> int:
    from lightning_regimes.command.sweep import add_options, sweep

    parser = _Parser(prog="lightning-regimes sweep", description="Run many trainings over the axes of a phase diagram.")
    add_options(parser)
    return sweep(parser.parse_args(args))


def _dashboard(args: list[str]) -> None:
    from lightning_regimes.command.dashboard import add_options, add_push_options, push, show

    if args and args[0] == "push":
        parser = _Parser(prog="lightning-regimes dashboard push", description="Save the workspace on the W&B server.")
        add_push_options(parser)
        push(parser.parse_args(args[1:]))
        return
    parser = _Parser(
        prog="lightning-regimes dashboard",
        description="Print the W&B workspace, and which panels a run leaves empty; `dashboard push` saves it.",
    )
    add_options(parser)
    show(parser.parse_args(args))


def _report(args: list[str]) -> None:
    parser = _Parser(
        prog="lightning-regimes",
        description="Which training regime a Lightning run is in, why, and what to do about it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lightning-regimes {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, text in _TRAINING.items():
        commands.add_parser(name, help=text)
    commands.add_parser("sweep", help="run many trainings over the axes of a phase diagram")
    commands.add_parser("dashboard", help="print the W&B workspace of a run, or save it with `dashboard push`")
    report = commands.add_parser("report", help="write the HTML report of runs and sweeps")
    report.add_argument(
        "run_directories",
        nargs="+",
        type=Path,
        metavar="RUN_DIR",
        help="directory of a run or a sweep, or a folder of runs, such as lightning_logs",
    )
    report.add_argument("-o", "--output", type=Path, metavar="FILE", help="HTML file, by default RUN_DIR/report.html")
    report.add_argument("--watch", action="store_true", help="serve it on this machine and follow a run that goes on")
    report.add_argument("--port", type=int, default=8765, help="port of --watch, by default 8765")
    if not args:
        parser.print_help()
        return
    options = parser.parse_args(args)
    if options.watch:
        from lightning_regimes.command.watching import watch

        watch(options.run_directories, port=options.port)
        return

    from lightning_regimes.dashboard import write_report

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        path = write_report(options.run_directories, output=options.output)
    for warning in caught:
        _tell(f"lightning-regimes: warning: {warning.message}")
    print(path)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are raised, to be told like all others."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see lightning-regimes --help.")


def _sentence(error: Exception) -> str:
    text = str(error).strip()
    # Building the objects of a configuration tries alternatives, too, and tells of all of them.
    if isinstance(error, argparse.ArgumentError) or "Union subtypes" in text:
        from lightning_regimes.command.configuration_errors import explain

        return explain(text)
    if isinstance(error, OSError | ValueError | RuntimeError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _tell(text: str | None) -> None:
    if text:
        print(text, file=sys.stderr)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what is not about the run off the console, and leave the process's environment as it was."""
    before = dict(os.environ)
    # W&B would repeat every line of the console and print its own summary.
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_CONSOLE", "off")
    try:
        with warnings.catch_warnings():
            # Raised by Lightning's own use of torch, at every start.
            warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _restored_interrupt() -> Iterator[None]:
    """Undo Lightning's ignoring of SIGINT after a first Ctrl-C, for whoever called ``main`` in a longer process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(main())

"""Seconds of an iteration of L-BFGS: torch's, which goes through its history pair by pair, and ours, in matrices.

Run with ``OMP_NUM_THREADS=1 python benchmarks/lbfgs.py``. Both train the same physics-informed network on the
convection equation from the same weights, in turns of so many iterations, after as many that fill the history. CPU
seconds are those of a whole iteration, gradients included; the ratio is the median over the turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from lightning_regimes.datamodules import Collocation
from lightning_regimes.modules import PINN
from lightning_regimes.networks import MLP
from lightning_regimes.optim import CompactLBFGS
from lightning_regimes.pde import Convection

KINDS: tuple[type[torch.optim.LBFGS], ...] = (torch.optim.LBFGS, CompactLBFGS)


def training(kind: type[torch.optim.LBFGS], width: int, history_size: int, iterations: int) -> Callable[[], float]:
    """Return what does so many iterations and tells the CPU seconds of one."""
    torch.manual_seed(0)
    problem = Convection(beta=5.0)
    module = PINN(problem, MLP(2, 1, hidden_sizes=(width,) * 3)).double()
    batch = {name: points.double() for name, points in Collocation(problem, num_interior=200).training_batch().items()}
    optimizer = kind(
        module.parameters(),
        max_iter=iterations,
        max_eval=10 * iterations,
        history_size=history_size,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = module.plain_loss(batch)
        loss.backward()
        return loss

    def turn() -> float:
        start = time.process_time()
        optimizer.step(closure)
        return (time.process_time() - start) / iterations

    turn()
    return turn


def main() -> None:
    """Print a row for each width and history."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 50, 128], help="of three hidden layers")
    parser.add_argument("--histories", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--iterations", type=int, default=100, help="of a turn")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("width", "pairs", "torch, ms", "ours, ms", "ours / torch")
    cases = [(width, history) for width in arguments.widths for history in arguments.histories]
    for width, history in track(cases, console=Console(stderr=True)):
        turns = [training(kind, width, history, arguments.iterations) for kind in KINDS]
        spent = [[turn() for turn in turns] for _ in range(arguments.turns)]
        medians = [1e3 * statistics.median(column) for column in zip(*spent, strict=True)]
        ratio = statistics.median(own / theirs for theirs, own in spent)
        table.add_row(str(width), str(history), *(f"{median:.2f}" for median in medians), f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()

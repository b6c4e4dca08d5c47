"""Guided training of a physics-informed network on the convection equation, beside Adam and L-BFGS, at equal gradients.

Run with ``OMP_NUM_THREADS=1 python benchmarks/guided_convection.py``. Every training evaluates the gradient equally
often, Hessian-vector products counted as two each; what guidance spends on its checks shows in the seconds. Guidance
steers by the held-out loss and never sees the solution. Each finished run is a line of the results file, so that an
interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.table import Table

from lightning_regimes.callbacks import RegimeGuidedOptimizer
from lightning_regimes.datamodules import Collocation
from lightning_regimes.modules import PINN
from lightning_regimes.networks import MLP
from lightning_regimes.optim import AdamFactory, LBFGSFactory
from lightning_regimes.pde import Convection

METHODS = ("adam", "lbfgs", "guided")
BETAS = (1.0, 10.0, 20.0, 30.0, 40.0)
POINTS = (200, 1000)


class GradientBudget(L.Callback):
    """Ends the training after a number of gradients."""

    def __init__(self, max_gradients: int) -> None:
        self.max_gradients = max_gradients
        self.num_gradients = 0

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count."""
        self.num_gradients += 1

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop."""
        trainer.should_stop = self.num_gradients >= self.max_gradients


def train(method: str, beta: float, points: int, seed: int, *, max_gradients: int, width: int) -> dict[str, Any]:
    """Return what a training ends with, and what it cost."""
    torch.manual_seed(seed)
    optimizer = LBFGSFactory() if method == "lbfgs" else AdamFactory()
    module = PINN(Convection(beta=beta), MLP(2, 1, hidden_sizes=(width,) * 3), optimizer=optimizer)
    budget: Any = GradientBudget(max_gradients)
    if method == "guided":
        budget = RegimeGuidedOptimizer(max_gradients=max_gradients, on_error="raise")
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            max_epochs=-1,
            limit_val_batches=0,
            logger=False,
            callbacks=[budget],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, Collocation(num_interior=points, seed=seed))
    guided = method == "guided"
    error = module.reference_error()
    assert error is not None  # the solution is known
    return {
        "method": method,
        "beta": beta,
        "points": points,
        "seed": seed,
        "max_gradients": max_gradients,
        "width": width,
        "rel_l2": error.item(),
        "heldout_loss": module.heldout_loss().item(),
        "gradients": budget.num_gradients,
        "seconds": time.process_time() - start,
        "point_factor": budget.settings.factor if guided else 1,
        "decisions": [entry["decision"] for entry in budget.decisions] if guided else [],
    }


def table(runs: list[dict[str, Any]]) -> Table:
    """Return the geometric means over the seeds, a row for each cell."""
    shown = Table("β", "points", *METHODS, "guided / better", "seconds", "decisions of the first seed")
    for beta in BETAS:
        for points in POINTS:
            cell = [run for run in runs if (run["beta"], run["points"]) == (beta, points)]
            means, seconds = {}, []
            for method in METHODS:
                own = [run for run in cell if run["method"] == method]
                if own:
                    means[method] = math.exp(sum(math.log(run["rel_l2"]) for run in own) / len(own))
                    seconds.append(f"{sum(run['seconds'] for run in own) / len(own):.0f}")
            if len(means) < len(METHODS):
                continue
            ratio = means["guided"] / min(means["adam"], means["lbfgs"])
            decisions = next(run["decisions"] for run in cell if run["method"] == "guided")
            numbers = [f"{means[method]:.2g}" for method in METHODS]
            shown.add_row(f"{beta:g}", str(points), *numbers, f"{ratio:.2g}", " ".join(seconds), ", ".join(decisions))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--max-gradients", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=50, help="of the three hidden layers")
    parser.add_argument("--betas", nargs="+", type=float, default=BETAS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "guided_convection.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    setting = {"max_gradients": arguments.max_gradients, "width": arguments.width}
    text = arguments.results.read_text() if arguments.results.is_file() else ""
    runs = [run for run in map(json.loads, text.splitlines()) if setting.items() <= run.items()]
    done = {(run["method"], run["beta"], run["points"], run["seed"]) for run in runs}
    for seed in arguments.seeds:
        for beta in arguments.betas:
            for points in POINTS:
                for method in arguments.methods:
                    if (method, beta, points, seed) not in done:
                        runs.append(train(method, beta, points, seed, **setting))
                        with arguments.results.open("a") as file:
                            file.write(json.dumps(runs[-1]) + "\n")
    Console(width=160).print(table(runs))


if __name__ == "__main__":
    main()

"""Regimes of a neural ODE of the damped pendulum: length of the training trajectory against weakness of the damping.

``python examples/neural_ode_pendulum.py`` trains one network for each of three horizons, three dampings and three seeds
on a single trajectory that starts at rest from θ = 2, and rolls it out to t = 20 from eight other angles. Writes
``neural_ode_pendulum.png`` and prints a table in Markdown; it takes four minutes on one core.
"""

from __future__ import annotations

import logging
import warnings

import lightning as L
import torch
from matplotlib.figure import Figure

from lightning_regimes.datamodules import ODETrajectories
from lightning_regimes.modules import NeuralODE
from lightning_regimes.optim import AdamFactory
from lightning_regimes.pde import DampedPendulum
from lightning_regimes.regimes import RegimeReport, RegimeThresholds, classify

HORIZONS = (1.0, 5.0, 20.0)
INVERSE_DAMPINGS = (1.0, 4.0, 12.0)
SEEDS = (0, 1, 2)


def train(horizon: float, inverse_damping: float, seed: int) -> tuple[NeuralODE, ODETrajectories]:
    """Return a trained network and its data."""
    torch.manual_seed(seed)
    module = NeuralODE(DampedPendulum(damping=1 / inverse_damping), optimizer=AdamFactory(lr=1e-2))
    data = ODETrajectories(initial_states=[[2.0, 0.0]], horizon=horizon)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=400,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return module, data


def judge(module: NeuralODE, data: ODETrajectories) -> RegimeReport:
    """Return the regime, from the training loss and the error of rollouts."""
    batch, error = data.training_batch(), module.reference_error()
    return classify(
        module.diagnostic_loss(batch).item(),
        reference_loss=module.trivial_loss(batch).item(),
        error=None if error is None else error.item(),
        thresholds=RegimeThresholds(error=0.1),
    )


def main() -> None:
    """Train everything, print the table, draw the rollouts of the first seed."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.subplots(len(INVERSE_DAMPINGS), len(HORIZONS), sharex=True, sharey=True)
    print("| 1/b | T | loss / reference | rollout error of each seed | regimes |")
    print("|---|---|---|---|---|")
    for row, inverse_damping in zip(axes, INVERSE_DAMPINGS, strict=True):
        for axis, horizon in zip(row, HORIZONS, strict=True):
            reports = []
            for seed in SEEDS:
                module, data = train(horizon, inverse_damping, seed)
                reports.append(judge(module, data))
                if seed == SEEDS[0]:
                    rollouts = data.rollout_batch()
                    times = rollouts["times"][0]
                    predicted = module.predict_step(rollouts).detach()
                    for index in (0, 3):
                        axis.plot(times, rollouts["states"][index, :, 0], color="black", linewidth=0.9)
                        axis.plot(times, predicted[index, :, 0], color="tab:red", linestyle="--", linewidth=1.2)
                    axis.axvspan(0, horizon, color="tab:blue", alpha=0.08, linewidth=0)
                    label = reports[0].label.name.replace("_", "-").lower()
                    axis.set_title(f"1/b = {inverse_damping:g}, T = {horizon:g}: {label}", fontsize=10)
            losses = ", ".join(f"{report.normalized_loss:.1e}" for report in reports)
            errors = ", ".join(f"{report.error:.3f}" for report in reports)
            labels = ", ".join(sorted({report.label.name for report in reports}))
            print(f"| {inverse_damping:g} | {horizon:g} | {losses} | {errors} | {labels} |", flush=True)
    axes[0, 0].set_ylim(-2.6, 2.6)
    for axis in axes[-1]:
        axis.set_xlabel("time")
    for axis in axes[:, 0]:
        axis.set_ylabel("angle θ")
    figure.savefig("neural_ode_pendulum.png", dpi=110)


if __name__ == "__main__":
    main()

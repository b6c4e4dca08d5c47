"""Losses and optimizers of IRNO side by side, on turbulent flow at 32 points a side.

    python benchmarks/refinement_sweep.py [--variants defaults amplitude …] [--seeds 0 1 2] [--epochs 10]
        [--figures docs/images]

For each seed a Fourier neural operator of width 16 with 4 modes is trained for 6 epochs, and each variant refines its
predictions, trained in batches of 8. Runs are appended to a file as they end, and are not repeated. The table has means
over the seeds with the least and the most: the VRMSE of the operator, then, as parts of it, that after K = 4
refinements, after the best number of them, and after 2K; the VRMSE after 3K over the lowest; and the mean squared error
in three bands of the wavenumber after K over that of the operator. A run takes about two CPU minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from matplotlib import rc_context

from lightning_regimes.callbacks.refinement_curve import draw_curve, draw_spectra
from lightning_regimes.datamodules import NavierStokes
from lightning_regimes.modules import IRNO, NeuralOperator
from lightning_regimes.modules.refinement_curve import RefinementCurve
from lightning_regimes.networks import RefinementUNet
from lightning_regimes.optim import AdamFactory
from lightning_regimes.pde import NavierStokesFlow

RESULTS = Path(__file__).with_name("results") / "refinement_sweep.jsonl"
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "adamw": {"optimizer": AdamFactory(lr=2e-3, weight_decay=1e-5), "fixed_point_weight": 0.5},
    "balanced": {"fixed_point_weight": 0.1, "random_steps": (2, 6)},
    "half": {"fixed_point_weight": 0.5},
    "complex": {"fixed_point_weight": 0.5, "random_steps": None},
    "amplitude": {"spectral_loss": "amplitude", "fixed_point_weight": 0.01, "random_steps": None},
    "plain": {"spectral_loss": "none", "fixed_point_weight": 0.0, "random_steps": None},
}
COLUMNS = ("base", "K", "best", "2K", "3K/min", "low", "mid", "high", "CPU s")


def flows(seed: int, *, batch_size: int = 16) -> NavierStokes:
    """Return 512 pairs of frames to train on, and 64 to validate."""
    problem = NavierStokesFlow(viscosity=1e-4, initial_scale=7.0**3)
    return NavierStokes(
        problem, num_train=64, num_val=8, num_test=8, num_frames=9, num_skipped=3, batch_size=batch_size, seed=seed
    )


def trainer(epochs: int) -> L.Trainer:
    """Return a trainer that validates at the end."""
    return L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        check_val_every_n_epoch=epochs,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def trained_base(seed: int, path: Path) -> None:
    """Train the operator that is refined, and save it."""
    L.seed_everything(seed, verbose=False)
    operator = {
        "class_path": "neuralop.models.FNO",
        "init_args": {"n_modes": [4, 4], "in_channels": 1, "out_channels": 1, "hidden_channels": 16},
    }
    runner = trainer(6)
    runner.fit(NeuralOperator(operator, optimizer=AdamFactory(lr=1e-3, weight_decay=1e-4)), flows(seed))
    runner.save_checkpoint(path)


def refined(name: str, seed: int, base: Path, epochs: int, figures: Path | None) -> dict[str, float]:
    """Return the numbers of the table for one run, and the best number of steps and the contraction rate."""
    L.seed_everything(seed, verbose=False)
    module = IRNO(None, RefinementUNet(hidden_channels=8, depth=2), base_checkpoint=base, **VARIANTS[name])
    runner = trainer(epochs)
    start = time.process_time()
    runner.fit(module, flows(seed, batch_size=8))
    spent = time.process_time() - start
    if figures is not None:
        draw(module.refinement_curve(), figures)
    found = {key.removeprefix("val/"): float(value) for key, value in runner.callback_metrics.items()}
    bands = {band: found[f"step_{band}/{module.num_steps}"] for band in ("low", "mid", "high")}
    return {
        "base": found["vrmse_base"],
        "K": found["vrmse"] / found["vrmse_base"],
        "best": found["vrmse_best"] / found["vrmse_base"],
        "2K": found["vrmse_2k"] / found["vrmse_base"],
        "3K/min": found["vrmse_3k"] / found["vrmse_best"],
        **bands,
        "CPU s": spent,
        "best step": found["best_step"],
        "contraction rate": found["contraction_rate"],
    }


def draw(curve: RefinementCurve, folder: Path) -> None:
    """Draw the error over the number of refinements, and spectra on the way."""
    values = {f"refinement/{field.name}": getattr(curve, field.name) for field in dataclasses.fields(curve)}
    arrays = {name: value.double().numpy() for name, value in values.items() if isinstance(value, torch.Tensor)}
    with rc_context({"svg.hashsalt": "lightning-regimes"}):
        for name, figure in (("k_curve", draw_curve), ("spectra", draw_spectra)):
            path = folder / f"irno_{name}.svg"
            figure(arrays, curve.num_steps).savefig(path, metadata={"Date": None})


def table(rows: list[dict[str, Any]], variants: list[str], epochs: int) -> str:
    """Return means over seeds, and the least and the most of them, as Markdown."""
    lines = [f"| variant | seeds | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for name in variants:
        chosen = [row for row in rows if (row["variant"], row["epochs"]) == (name, epochs)]
        if not chosen:
            continue
        cells = []
        for column in COLUMNS:
            values = [row[column] for row in chosen]
            digits = {"base": 4, "CPU s": 0}.get(column, 2)
            mean, least, most = (f"{value:.{digits}f}" for value in (statistics.mean(values), min(values), max(values)))
            cells.append(mean if least == most else f"{mean} ({least}–{most})")
        lines.append(f"| {name} | {len(chosen)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--figures", type=Path, help="where the curve of the first run is drawn")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["variant"], row["seed"], row["epochs"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            base = Path(folder, f"{seed}.ckpt")
            for name in options.variants:
                if (name, seed, options.epochs) in done:
                    continue
                if not base.exists():
                    trained_base(seed, base)
                row = {"variant": name, "seed": seed, "epochs": options.epochs}
                row |= refined(name, seed, base, options.epochs, options.figures)
                options.figures = None
                rows.append(row)
                with options.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(table(rows, options.variants, options.epochs))


if __name__ == "__main__":
    main()

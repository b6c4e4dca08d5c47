"""SGD with and without the Hessian's dominant eigenvectors: three trainings from one point, in one figure.

Takes two to three minutes. Writes ``projected_training.png`` into the working directory, or the file that is given.
"""

import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from matplotlib import colors
from matplotlib.figure import Figure

from lightning_regimes.callbacks import DominantProjection, GradientAlignment
from lightning_regimes.dashboard.log_axis import label_decades
from lightning_regimes.dashboard.palette import ACCENT, COLOURS, CONTRAST, INK, MUTED, Colour
from lightning_regimes.dashboard.svg import report_style
from lightning_regimes.datamodules import HandwrittenDigits
from lightning_regimes.modules import Classifier
from lightning_regimes.optim import ProjectedSGDFactory
from lightning_regimes.optim.projected import Keep
from lightning_regimes.recording import read_records

SWITCH, STEPS = 1000, 1800
BRANCHES: dict[Keep, tuple[str, Colour]] = {
    "all": ("SGD", MUTED),
    "bulk": ("Bulk-SGD: without the dominant part", ACCENT),
    "dominant": ("Dom-SGD: nothing else", CONTRAST),
}


def records_of(keep: Keep, lr: float, steps: int, callback: L.Callback, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Train on the digits, and return the steps at which the callback recorded the key, and the values."""
    print(f"{key}: SGD, step size {lr}, updates kept: {keep}, {steps} steps", flush=True)
    L.seed_everything(0, verbose=False)
    with tempfile.TemporaryDirectory() as directory:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=steps // 10,
            default_root_dir=directory,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            limit_val_batches=0,
            callbacks=[callback],
        )
        trainer.fit(Classifier(optimizer=ProjectedSGDFactory(keep=keep, lr=lr)), HandwrittenDigits(batch_size=144))
        (journal,) = Path(directory).rglob("records.jsonl")
        points = [(r.global_step, r.scalars[key]) for r in read_records(journal.parent.parent) if key in r.scalars]
    measured, values = zip(*points, strict=True)
    return np.array(measured), np.array(values)


def branch(keep: Keep) -> tuple[np.ndarray, np.ndarray]:
    """The training loss; up to the switch, all branches are the same training."""
    callback = DominantProjection(10, switch_step=SWITCH, every_n_steps=20)
    return records_of(keep, 0.3, STEPS, callback, "projection/train_loss")


def alignment(lr: float = 0.15, steps: int = 700) -> tuple[np.ndarray, np.ndarray]:
    """The share θ of the gradient in the ten dominant eigenvectors, in a training by SGD."""
    callback = GradientAlignment(10, tol=1e-2, num_batches=9, every_n_steps=20, at_start=True)
    return records_of("all", lr, steps, callback, "alignment/theta")


def draw(
    losses: dict[Keep, tuple[np.ndarray, np.ndarray]], shares: dict[float, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """Losses on the left, shares on the right."""
    figure = Figure(figsize=(8.6, 3.4))
    left, right = figure.subplots(1, 2)
    for keep, (steps, values) in losses.items():
        label, colour = BRANCHES[keep]
        after = steps >= SWITCH
        left.plot(steps[after], values[after], color=colour.marker, label=label)
    steps, values = losses["all"]
    left.plot(steps[steps <= SWITCH], values[steps <= SWITCH], color=INK.marker)
    left.axvline(SWITCH, color=MUTED.marker, linewidth=0.9, linestyle=(0, (4, 3)))
    left.text(SWITCH - 25, 0.0045, "switch", color=MUTED.marker, ha="right")
    left.set(xlabel="step", ylabel="training loss", yscale="log", title="From one point, step size 0.3")
    label_decades(left.yaxis)
    left.legend(loc="upper right")
    for (lr, (steps, values)), colour in zip(shares.items(), (ACCENT, CONTRAST), strict=False):
        mean = np.convolve(values, np.ones(5) / 5, mode="valid")
        right.plot(steps, values, ".", color=colour.marker, alpha=0.4)
        right.plot(steps[2:-2], mean, color=colour.marker, label=f"step size {lr}, mean of five")
    chance = 10 / 6570
    right.axhline(chance, color=MUTED.marker, linewidth=0.9, linestyle=(0, (4, 3)), label=f"chance, {chance:.4f}")
    right.set(
        xlabel="step",
        ylabel="θ, share of the gradient",
        ylim=(-0.02, 1.02),
        title="In the ten dominant eigenvectors",
    )
    right.legend(loc="lower right")
    return figure


def for_paper(figure: Figure) -> Figure:
    """Put the colours of the light page in place of the markers."""
    light = {colour.marker: colour.light for colour in COLOURS}
    for artist in figure.findobj():
        for name in ("color", "edgecolor", "facecolor", "markerfacecolor", "markeredgecolor"):
            value: Any = getattr(artist, f"get_{name}", lambda: None)()
            try:
                marker = colors.to_hex(value)
            except (TypeError, ValueError):
                continue
            if marker in light:
                getattr(artist, f"set_{name}")(light[marker])
    return figure


def main() -> None:
    """Train, draw, and say what came out."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "projected_training.png")
    losses = {keep: branch(keep) for keep in BRANCHES}
    shares = {lr: alignment(lr) for lr in (0.15,)}
    for keep, (steps, values) in losses.items():
        change = values[-1] / values[steps == SWITCH][0] - 1
        print(f"{BRANCHES[keep][0]:36} loss {change:+.0%} in {STEPS - SWITCH} steps")
    for lr, (_, values) in shares.items():
        print(
            f"step size {lr}: mean θ {values[:10].mean():.2f} in the first ten, {values[-10:].mean():.2f} in the last"
        )
    with report_style():
        for_paper(draw(losses, shares)).savefig(path, dpi=110, facecolor="white")
    print(path)


if __name__ == "__main__":
    main()

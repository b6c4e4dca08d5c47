"""An equation of one's own, without a known solution: how wrong is the network?

``python examples/unsolved_equation.py`` trains a network on the damped sine–Gordon equation, says after every hundred
iterations of L-BFGS what error it estimates, then solves the equation by finite differences and says what the errors
were. Writes ``unsolved_equation.png``; it takes a minute on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp
from torch import Tensor

from lightning_regimes.datamodules import Collocation
from lightning_regimes.metrics import relative_error
from lightning_regimes.modules import PINN
from lightning_regimes.networks import MLP
from lightning_regimes.optim import LBFGSFactory
from lightning_regimes.pde import Condition, Domain, Field, Problem, Rate, Value, differentiable, gradient

ROUNDS, STEPS = 4, 5


@dataclass(frozen=True)
class SineGordon(Problem):
    """``u_tt + κ u_t = u_xx − sin u`` on ``x ∈ [0, 2], t ∈ [0, 1]``, fixed ends, released from ``3 sin πx``."""

    damping: float = 1.0

    @property
    def domain(self) -> Domain:
        return ((0.0, 2.0), (0.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return (
            Value("initial", self.domain, axis=1, target=lambda points: 3 * torch.sin(torch.pi * points[:, :1])),
            Rate("velocity", self.domain, axis=1),
            Value("boundary", self.domain, axis=0, ends=(0, 1)),
        )

    def residual(self, field: Field, points: Tensor) -> Tensor:
        points = differentiable(points)
        values = field(points)
        slopes = gradient(values, points)
        u_xx, u_tt = (gradient(slopes[:, axis], points)[:, axis : axis + 1] for axis in (0, 1))
        return u_tt + self.damping * slopes[:, 1:] - u_xx + torch.sin(values)


def finite_differences(problem: SineGordon, points_per_side: int = 401) -> Tensor:
    """Return the solution on the evaluation grid, by the method of lines; its own error is below 1e-4."""
    x = np.linspace(0, 2, points_per_side)
    square = (x[1] - x[0]) ** 2

    def rate(_: float, state: np.ndarray) -> np.ndarray:
        u, velocity = np.split(state, 2)
        force = np.zeros_like(u)
        force[1:-1] = (u[2:] - 2 * u[1:-1] + u[:-2]) / square - np.sin(u[1:-1]) - problem.damping * velocity[1:-1]
        return np.concatenate([velocity, force])

    start = np.concatenate([3 * np.sin(np.pi * x), np.zeros_like(x)])
    points = problem.evaluation_points()
    shape = problem.evaluation_grid
    at_x, at_t = points[:: shape[1], 0].numpy(), points[: shape[1], 1].numpy()
    found = solve_ivp(rate, (0, 1), start, t_eval=at_t, rtol=1e-8, atol=1e-8).y[:points_per_side]
    columns = [np.interp(at_x, x, column) for column in found.T]
    return torch.from_numpy(np.stack(columns, axis=1)).reshape(-1, 1)


def main() -> None:
    """Train, print, compare, draw."""
    L.seed_everything(0, verbose=False)
    problem = SineGordon()
    module = PINN(problem, MLP(2, 1, hidden_sizes=(32, 32, 32)), optimizer=LBFGSFactory(max_iter=20))
    data = Collocation(num_interior=500)
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(silent, False)
    points, said = problem.evaluation_points(), []
    for _ in range(ROUNDS):
        trainer = L.Trainer(accelerator="cpu", max_steps=STEPS, limit_val_batches=0, **quiet)
        trainer.fit(module, data)
        estimate, corrected = module.estimated_error(), module.corrected_field()
        said.append((estimate, module(points.float()).detach(), None if corrected is None else corrected(points)))

    solution = finite_differences(problem)
    print("| iterations | estimated error | error | of the corrected field |\n|---|---|---|---|")
    for number, (estimate, own, corrected_values) in enumerate(said, start=1):
        corrected_error = (
            "–" if corrected_values is None else f"{relative_error(corrected_values, solution).item():.2g}"
        )
        shown = "none" if estimate is None else f"{estimate.item():.3g}"
        error = relative_error(own.double(), solution).item()
        print(f"| {number * STEPS * 20} | {shown} | {error:.3g} | {corrected_error} |")

    maps = module.field_on_grid()
    figure = Figure(figsize=(10, 3), layout="constrained")
    shape = problem.evaluation_grid
    panels = {
        "solution": solution.reshape(shape),
        "error": said[-1][1].double().reshape(shape) - solution.reshape(shape),
        "estimated error": maps.get("estimated_error", torch.zeros(shape)),
    }
    for axes, (title, values) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        image = axes.imshow(values, origin="lower", aspect="auto", extent=(0, 1, 0, 2))
        axes.set(title=title, xlabel="t", ylabel="x")
        figure.colorbar(image, ax=axes)
    figure.savefig("unsolved_equation.png", dpi=150)


if __name__ == "__main__":
    main()

"""Six short trainings over speed and points, in processes of this machine and on Ray, with one table in the end.

    pip install 'lightning-regimes[cluster]'
    python examples/sweep_on_ray.py

Without an address Ray starts on this machine; on a cluster, ``RAY_ADDRESS`` leads to it, and the directory of the sweep
has to be one that all machines share. The same on the command line is
``lightning-regimes sweep -c configs/sweeps/pinn_convection.yaml --engine ray``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_regimes.command.sweep_cell import RunCell
from lightning_regimes.regimes import PhaseDiagram
from lightning_regimes.sweep import Engine, LocalEngine, RayEngine, SweepSpecification, run_sweep

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SWEEP = f"""
command: [lightning-regimes, fit, -c, {CONFIGS}/pinn_convection.yaml, -c, {CONFIGS}/sweeps/cells/small_pinn.yaml,
          -c, {CONFIGS}/sweeps/cells/measured_at_end.yaml, --trainer.max_steps=20, "${{args}}"]
method: grid
parameters:
  model.problem.beta: {{values: [1, 10, 30]}}
  data.num_interior: {{values: [50, 200]}}
  seed_everything: {{values: [0]}}
phase_diagram: {{x: model.problem.beta, y: data.num_interior, seed: seed_everything}}
"""


def sweep(engine: Engine, directory: Path) -> list[Mapping[str, Any]]:
    """Run all cells with an engine and return what each ended as, times left out."""
    file = directory.with_suffix(".yaml")
    file.write_text(SWEEP)
    specification = SweepSpecification.read(str(file))
    rows = run_sweep(
        specification.trials(), directory, function=RunCell(directory), engine=engine, seed=specification.seed
    )
    timed = ("seconds", "overhead")
    return [
        row["parameters"] | {key: value for key, value in row["values"].items() if key.rpartition("/")[2] not in timed}
        for row in sorted(rows, key=lambda row: str(row["key"]))
    ]


def main() -> None:
    """Run the sweep twice, compare, and print the regimes."""
    with tempfile.TemporaryDirectory() as folder:
        local = sweep(LocalEngine(workers=1), Path(folder) / "local")
        ray = sweep(RayEngine(), Path(folder) / "ray")
    print(f"both engines give the same numbers: {repr(local) == repr(ray)}")
    diagram = PhaseDiagram(ray, x="model.problem.beta", y="data.num_interior", seed="seed_everything")
    print(diagram.labels)


if __name__ == "__main__":
    main()

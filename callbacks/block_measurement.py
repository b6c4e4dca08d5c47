"""How much of the Hessian of each weight matrix lies within its rows, as it is recorded."""

from __future__ import annotations

from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.curvature import block_structure
from lightning_regimes.probe import LossProbe
from lightning_regimes.recording import Table

_NUM_GROUPS = 4
_NUM_SAMPLES = 4


def expected_block_products(probe: LossProbe) -> int:
    """Return how many products :func:`measure_block_structure` takes."""
    return sum(
        min(_NUM_GROUPS, leaf.shape[0]) * _NUM_SAMPLES
        for leaf in probe.parameters.values()
        if leaf.ndim >= 2 and leaf.shape[0] >= 2
    )


def measure_block_structure(probe: LossProbe) -> tuple[Measurement, int]:
    """Return the share of the row blocks for every weight matrix, and the products that it took."""
    structure = block_structure(probe, num_groups=_NUM_GROUPS, num_samples=_NUM_SAMPLES)
    columns = ("matrix", "rows", "share", "standard error", "chance", "dominance")
    rows = list(
        zip(
            structure.names,
            structure.rows,
            structure.shares,
            structure.standard_errors,
            structure.chance,
            structure.dominance,
            strict=True,
        )
    )
    measurement = Measurement(
        scalars={
            "hessian/row_block_share": structure.total.value,
            "hessian/row_block_share_standard_error": structure.total.standard_error,
        },
        figures={"hessian/row_blocks_shown": structure.figure},
        tables={"hessian/row_blocks": Table(columns, rows)},
    )
    return measurement, structure.total.num_matvecs

"""The W&B workspace of a project as plain data: which quantities stand beside each other, under which heading."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class WorkspacePanel:
    """One panel of the workspace.

    Attributes:
        title: Heading.
        kind: ``"lines"`` over the steps of training, ``"picture"`` with a slider over them, ``"table"`` that grows with
            them, or ``"spectra"``, the chart of the largest eigenvalues.
        keys: What it shows, by the names of the vocabulary.
        logarithmic: Whether the vertical axis of lines is.
    """

    title: str
    kind: Literal["lines", "picture", "table", "spectra"]
    keys: tuple[str, ...]
    logarithmic: bool = False

    def lacks(self, recorded: Collection[str]) -> tuple[str, ...]:
        """Those of its keys that are not among the recorded ones."""
        return tuple(key for key in self.keys if key not in recorded)


@dataclass(frozen=True)
class WorkspaceSection:
    """Panels under one heading.

    Attributes:
        name: Heading.
        panels: In the order of reading.
        is_open: Whether it is unfolded at first.
    """

    name: str
    panels: tuple[WorkspacePanel, ...]
    is_open: bool = True


def _lines(title: str, *keys: str, logarithmic: bool = False) -> WorkspacePanel:
    return WorkspacePanel(title, "lines", keys, logarithmic)


def _picture(title: str, *keys: str) -> WorkspacePanel:
    return WorkspacePanel(title, "picture", keys)


def _table(title: str, key: str) -> WorkspacePanel:
    return WorkspacePanel(title, "table", (key,))


WORKSPACE = (
    WorkspaceSection(
        "Regime",
        (
            _lines("Training loss / reference loss", "regime/normalized_loss", logarithmic=True),
            _lines("Error", "regime/test_error", logarithmic=True),
            _lines("Held-out loss / reference loss", "regime/normalized_heldout_loss", logarithmic=True),
            _lines("Margin of the verdict", "regime/margin"),
            _lines("Labels that stay when the thresholds are moved", "regime/agreement"),
            _table("Verdicts, why, and what to do", "regime/verdicts"),
        ),
    ),
    WorkspaceSection(
        "Curvature",
        (
            _lines("Sharpness", "hessian/lambda_1", logarithmic=True),
            _lines("Sharpness / stability threshold", "hessian/sharpness_ratio"),
            _lines("Trace of the Hessian", "hessian/trace"),
            _lines("Smallest eigenvalue", "hessian/lambda_min"),
            WorkspacePanel("Largest eigenvalues", "spectra", ("hessian/spectra_table",)),
            _picture("Density of the eigenvalues over training", "hessian/density_map"),
            _table("Eigenvalues", "hessian/eigenpairs"),
        ),
    ),
    WorkspaceSection(
        "Alignment",
        (
            _lines("Gradient in the dominant eigenvectors, and by chance", "alignment/theta", "alignment/chance"),
            _lines("Overlap with the dominant eigenvectors before", "alignment/overlap"),
            _lines(
                "Step sizes from which steps raise the loss",
                "alignment/critical_loss_step_size_dominant",
                "alignment/critical_loss_step_size_bulk",
                logarithmic=True,
            ),
            _picture("Alignment over training", "alignment/history"),
        ),
        is_open=False,
    ),
    WorkspaceSection(
        "Landscape",
        (
            _lines("Saddle-minimum average distance", "landscape/smad_merge_tree"),
            _lines("Minima on the grid", "landscape/num_minima"),
            _picture("Loss by contours, with the path of training", "landscape/contour"),
            _picture("Loss as a surface", "landscape/surface"),
            _picture("Births and deaths of basins", "landscape/persistence_diagram"),
            _lines("Similarity of the layers to the reference", "similarity/cka_mean"),
        ),
        is_open=False,
    ),
    WorkspaceSection(
        "Weights",
        (
            _lines("Tails of the weights' spectra", "heavy_tail/alpha_mean", "heavy_tail/alpha_min"),
            _lines("Stable rank", "heavy_tail/stable_rank_mean"),
            _lines("Rows of the gradients at right angles", "dominance/r_min", "dominance/r_avg", logarithmic=True),
            _picture("Tail of each layer", "heavy_tail/exponents"),
            _table("Layers", "heavy_tail/layers"),
        ),
        is_open=False,
    ),
    WorkspaceSection(
        "Task",
        (
            _lines("Error of the solution", "field/rel_l2", logarithmic=True),
            _picture("Solution beside the reference", "field/maps"),
            _lines(
                "Error before and after refinements",
                "refinement/vrmse_base",
                "refinement/vrmse_refined",
                logarithmic=True,
            ),
            _picture("Edges taken out of the graph", "kces/picture"),
            _picture("Loss over the shares of the layers in the learning rate", "layer_split/curves"),
        ),
        is_open=False,
    ),
)
"""The sections from top to bottom; what else a run logs follows below them in sections that W&B makes itself."""

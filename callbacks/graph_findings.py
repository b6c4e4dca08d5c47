"""What the sanitization of a graph found, as plain data that processes and checkpoints can hand on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.recording import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_regimes.graph import KCESReport

_BINS = 50
_MOST_SCORES = 10_000


@dataclass(frozen=True, eq=False)
class GraphFindings:
    """The kept edges of a graph and what there is to record about them.

    Attributes:
        keep_columns: which columns of ``edge_index`` stay.
        scalars: numbers by their keys.
        text: strings by their keys.
        arrays: arrays by their keys; empty where the findings come from a checkpoint.
        rows: of the table of the most suspicious edges.
        columns: of that table.
    """

    keep_columns: Tensor
    scalars: dict[str, float]
    text: dict[str, str]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    rows: list[list[Any]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)

    def measurement(self) -> Measurement:
        """Return what to record."""
        return Measurement(
            scalars=self.scalars,
            text=self.text,
            arrays=self.arrays,
            histograms=tuple(key for key in ("kces/scores",) if key in self.arrays),
            tables={"kces/top_edges": Table(self.columns, self.rows)} if self.rows else {},
            figures={"kces/picture": lambda: draw_findings(self.arrays)} if self.arrays else {},
        )

    def state_dict(self) -> dict[str, Any]:
        """The mask and the numbers, as tensors, numbers and strings."""
        return {"keep_columns": self.keep_columns, "scalars": self.scalars, "text": self.text}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> GraphFindings:
        """Return findings without arrays and table."""
        return cls(state["keep_columns"], dict(state["scalars"]), dict(state["text"]))


def findings_of(report: KCESReport, data: Any, clean_edge_index: Tensor | None, num_rows: int) -> GraphFindings:
    """Return what a report says, in plain data.

    Args:
        report: of the sanitization.
        data: the graph that was sanitized.
        clean_edge_index: the edges before an attack, where known.
        num_rows: rows of the table of the most suspicious edges.
    """
    scalars = {
        "kces/gkc_before": report.gkc_before,
        "kces/gkc_after": report.gkc_after,
        "kces/edges": float(report.num_edges),
        "kces/pruned": float(report.num_pruned),
        "kces/ratio": report.num_pruned / report.num_edges if report.num_edges else 0.0,
        "kces/seconds": report.seconds,
    }
    if report.pseudo_label_accuracy is not None:
        scalars["kces/pseudo_label_accuracy"] = report.pseudo_label_accuracy
    if clean_edge_index is not None:
        detection = report.detection(clean_edge_index)
        scalars["kces/adversarial_edges"] = float(detection.num_adversarial)
        measured = {"auc": detection.auc, "precision": detection.precision, "recall": detection.recall}
        scalars |= {f"kces/detection_{name}": value for name, value in measured.items() if not math.isnan(value)}
    suspicion, keep = report.suspicion.detach().cpu().double().numpy(), report.keep.cpu().numpy()
    arrays: dict[str, np.ndarray] = {}
    if suspicion.size:
        edges = np.histogram_bin_edges(suspicion, bins=_BINS)
        arrays = {
            "kces/bins": edges,
            "kces/kept_counts": np.histogram(suspicion[keep], bins=edges)[0],
            "kces/pruned_counts": np.histogram(suspicion[~keep], bins=edges)[0],
        }
        # The last of the sources is that of the complexity before and after.
        scores = list(report.results.values())[-1].scores.detach().cpu().double().numpy()
        arrays["kces/scores"] = np.sort(scores)
        if scores.size > _MOST_SCORES:
            arrays["kces/scores"] = np.quantile(scores, np.linspace(0, 1, _MOST_SCORES))
    if report.curve is not None:
        arrays["kces/curve_ratios"] = np.asarray(report.curve.ratios)
        arrays["kces/curve_accuracies"] = np.asarray(report.curve.accuracies)
    top = report.top_edges(num_rows, x=data.get("x"), y=data.y, train_mask=data.train_mask)
    columns = list(top[0]) if top else []
    return GraphFindings(
        keep_columns=report.keep_columns.detach().cpu().to(torch.bool),
        scalars=scalars,
        text={"kces/solver": report.solver, "kces/score": report.score},
        arrays=arrays,
        rows=[[row[name] for name in columns] for row in top],
        columns=columns,
    )


def draw_findings(arrays: dict[str, np.ndarray]) -> Figure:
    """Draw the suspicion of kept and pruned edges, and the accuracy over the ratio where it was looked for."""
    from matplotlib.figure import Figure

    with_curve = "kces/curve_ratios" in arrays
    figure = Figure(figsize=(9 if with_curve else 5, 3), layout="constrained")
    axes = figure.subplots(1, 2 if with_curve else 1, squeeze=False)[0]
    edges = arrays["kces/bins"]
    kept, pruned = arrays["kces/kept_counts"], arrays["kces/pruned_counts"]
    axes[0].stairs(kept + pruned, edges, baseline=kept, fill=True, color="tab:orange", label="pruned")
    axes[0].stairs(kept, edges, fill=True, color="tab:blue", label="kept")
    axes[0].set(xlabel="suspicion", ylabel="edges")
    axes[0].legend()
    if with_curve:
        axes[1].plot(arrays["kces/curve_ratios"], arrays["kces/curve_accuracies"], marker="o")
        axes[1].set(xlabel="share of edges pruned", ylabel="validation accuracy of the kernel")
    return figure

import numpy as np

from lightning_regimes.dashboard.graph_sanitization import graph_sanitization
from lightning_regimes.dashboard.run_view import RunView
from lightning_regimes.recording import Journal, Record


def view(directory, **arrays):
    scalars = {"kces/edges": 40, "kces/pruned": 4, "kces/gkc_before": 2.0, "kces/gkc_after": 1.5}
    scalars["kces/detection_auc"] = 0.91
    record = Record("kces", 0, 0, 0, scalars=scalars, arrays={f"kces/{name}": value for name, value in arrays.items()})
    Journal(directory / "regimes").append(record)
    return RunView(directory)


def test_the_panel_counts_the_edges_and_shows_the_choice_of_the_ratio(tmp_path):
    arrays = {"bins": np.array([0.0, 1.0, 2.0]), "kept_counts": np.array([30, 6]), "pruned_counts": np.array([0, 4])}
    panel = graph_sanitization(view(tmp_path / "fixed", **arrays))
    assert len(panel.pictures) == 1
    assert "4 of 40 edges were pruned" in panel.reading
    assert "from 2 to 1.5" in panel.reading
    assert "0.91" in panel.reading
    heights = [patch.get_data() for patch in panel.pictures[0][0].axes[0].patches]
    assert heights[0].values.tolist() == [30, 10]
    assert heights[0].baseline.tolist() == [30, 6]
    chosen = {"curve_ratios": np.array([0.0, 0.1, 0.2]), "curve_accuracies": np.array([0.6, 0.8, 0.7])}
    panel = graph_sanitization(view(tmp_path / "chosen", **arrays, **chosen))
    assert "best at 0.10 with 0.800" in panel.pictures[1][1]


def test_without_records_of_edges_there_is_no_panel(tmp_path):
    Journal(tmp_path / "regimes").append(Record("field", 0, 0, 0, scalars={"field/rel_l2": 0.1}))
    assert graph_sanitization(RunView(tmp_path)) is None

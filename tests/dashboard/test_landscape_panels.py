import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lightning_regimes.dashboard import write_report
from lightning_regimes.dashboard.landscape_surface import connecting_path, landscape_surface, layer_similarity
from lightning_regimes.dashboard.landscape_topology import landscape_topology, smad_history
from lightning_regimes.dashboard.palette import COLOURS
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.recorded_surface import recorded_surface
from lightning_regimes.dashboard.run_view import RunView
from lightning_regimes.dashboard.svg import report_style
from lightning_regimes.landscape import merge_tree, persistence
from lightning_regimes.recording import Journal, Record

POINTS = 21
AXIS = np.linspace(-1, 1, POINTS)


def valleys(dim: int = 2) -> np.ndarray:
    """Two valleys along the first axis, the left one deeper."""
    x, *rest = np.meshgrid(*[AXIS] * dim, indexing="ij")
    return (x**2 - 0.25) ** 2 + 0.1 * x + sum((other**2 for other in rest), np.zeros_like(x))


def landscape(step: int, values: np.ndarray, *, smad: float = 0.05, aliased: float = 0.0, **context: Any) -> Record:
    diagram = persistence(values)
    scalars = {
        "landscape/center_loss": 0.0625,
        "landscape/smad_merge_tree": smad,
        "landscape/smad_merge_tree_half": 2 * smad if aliased else smad,
        "landscape/smad_persistence": smad / 2,
        "landscape/aliased": aliased,
        "landscape/direction_1": 12.3,
        "landscape/direction_2": 4.5,
    }
    arrays = {"landscape/values": values, "landscape/persistence_pairs": diagram.intervals[0]}
    arrays |= {f"landscape/axis_{index}": AXIS for index in range(1, values.ndim + 1)}
    if values.ndim > 1:
        arrays["landscape/persistence_pairs_1"] = diagram.intervals[1]
    names = [f"eigenvector {index}" for index in range(1, values.ndim + 1)]
    return Record(
        "landscape", step, step, 0, scalars=scalars, arrays=arrays, context={"names": names, "unit": "norm"} | context
    )


def connectivity(*, curve: bool = True) -> Record:
    positions = np.linspace(0, 1, 5)
    arrays = {"connectivity/positions": positions, "connectivity/losses": np.array([0.1, 0.5, 0.9, 0.6, 0.3])}
    scalars = {"connectivity/barrier": 0.7, "connectivity/mode_connectivity": -0.02}
    if curve:
        arrays["connectivity/curve_losses"] = np.array([0.1, 0.12, 0.2, 0.22, 0.3])
    return Record("connectivity", 9, 9, 0, scalars=scalars, arrays=arrays, context={"path": "bezier"})


def similarity(values: list[float], layers: list[str] | None = None) -> Record:
    context = {"layers": layers} if layers else {}
    return Record("similarity", 9, 9, 0, arrays={"similarity/cka": np.array(values)}, context=context)


def view(directory: Path, *records: Record) -> RunView:
    journal = Journal(directory / "regimes")
    for record in records:
        journal.append(record)
    return RunView(directory)


def panel_of(draw: Callable[[RunView], Panel | None], run: RunView) -> Panel:
    with report_style():
        panel = draw(run)
    assert panel is not None
    return panel


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_surface_panel_shows_contours_and_the_surface_and_tells_the_numbers(tmp_path: Path) -> None:
    values = valleys()
    panel = panel_of(landscape_surface, view(tmp_path, landscape(0, values + 1), landscape(40, values)))
    (contour, text), (surface, other) = panel.pictures
    low, high = values.min(), values.max()
    assert (
        f"between −{abs(low):.3g} and {high:.3g}, 0.0625 at the weights, with 2 minima on the grid of 21 × 21" in text
    )
    assert text.startswith("Loss over eigenvector 1 (λ = 12.3), units of ‖θ‖ and eigenvector 2 (λ = 4.5), units of ‖θ‖")
    assert "at step 40" in text
    assert "at step 40" in other
    assert contour.axes[0].get_xlabel() == "eigenvector 1 (λ = 12.3), units of ‖θ‖"
    assert labels(contour) == ["2 minima of the grid, with basins", "weights, loss 0.0625"]
    assert surface.axes[0].get_zlabel() == "loss"  # type: ignore[attr-defined]
    assert "way of the training" not in panel.reading


def test_training_is_drawn_with_the_share_of_its_way_that_the_plane_holds(tmp_path: Path) -> None:
    record = landscape(40, valleys(), trajectory_share=0.314)
    path = {"landscape/trajectory": np.array([[0.5, 0.5], [0.0, 0.0]]), "landscape/trajectory_steps": np.array([0, 40])}
    record = Record("landscape", 40, 40, 0, record.scalars, {}, {**record.arrays, **path}, record.context)
    panel = panel_of(landscape_surface, view(tmp_path, record))
    assert "training, steps 0 to 40 (○ start, ● end)" in labels(panel.pictures[0][0])
    assert "31 % of the squared way of the training lies in this plane" in panel.reading


def test_line_and_volume_have_their_panels(tmp_path: Path) -> None:
    ((line, text),) = panel_of(landscape_surface, view(tmp_path / "line", landscape(0, valleys(1)))).pictures
    assert np.array_equal(line.axes[0].lines[0].get_ydata(), valleys(1))
    assert "2 minima on the grid of 21 points" in text
    solid = view(tmp_path / "solid", landscape(0, valleys(3)))
    assert "grid of 21 × 21 points" in panel_of(landscape_surface, solid).pictures[0][1]
    (_, (_, tree_text), _) = panel_of(landscape_topology, solid).pictures
    assert tree_text.startswith("Merge tree with 2 minima")


def test_recorded_surface_is_the_one_that_was_recorded() -> None:
    values = valleys()
    values[0, 0] = np.nan
    surface = recorded_surface(landscape(0, values))
    assert surface is not None
    assert np.array_equal(surface.values, values, equal_nan=True)
    assert surface.unit == "norm"
    assert surface.center_loss == 0.0625
    assert surface.metadata["directions"]["eigenvalues"] == [12.3, 4.5]
    bare = Record("landscape", 0, 0, 0, arrays={"landscape/values": values[1:2, 1:4], **axes_of(1, 3)})
    without_context = recorded_surface(bare)
    assert without_context is not None
    assert without_context.names == ("axis 1", "axis 2")
    assert np.isnan(without_context.center_loss)


def axes_of(*lengths: int) -> dict[str, np.ndarray]:
    return {f"landscape/axis_{index}": np.arange(float(length)) for index, length in enumerate(lengths, start=1)}


@pytest.mark.parametrize(
    "arrays",
    [
        {"landscape/values": np.full((3, 3), np.nan), **axes_of(3, 3)},
        {"landscape/values": np.zeros((3, 3)), **axes_of(3)},
        {"landscape/values": np.zeros((3, 3)), **axes_of(3, 4)},
        {"landscape/values": np.zeros((2, 2, 2)), **axes_of(2, 2)},
        axes_of(3),
    ],
    ids=["nowhere finite", "an axis missing", "another length", "volume without its third axis", "no values"],
)
def test_incomplete_surfaces_have_no_panel(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    pairs = {"landscape/persistence_pairs": np.empty((0, 2))}
    run = view(tmp_path, Record("landscape", 0, 0, 0, arrays={**arrays, **pairs}))
    assert landscape_surface(run) is None
    assert landscape_topology(run) is None
    assert smad_history(run) is None


def test_topology_panel_is_drawn_from_the_record(tmp_path: Path) -> None:
    values = valleys()
    tree, diagram = merge_tree(values), persistence(values)
    panel = panel_of(landscape_topology, view(tmp_path, landscape(40, values)))
    (births, births_text), (branches, tree_text), (_, profile_text) = panel.pictures
    assert labels(births)[0] == "1 component (H₀)"
    drawn = {str(line.get_label()): line for line in births.axes[0].lines}
    assert np.array_equal(drawn["1 component (H₀)"].get_xydata(), diagram.intervals[0])
    assert drawn["1 component without end"].get_xdata().tolist() == diagram.essential[0].tolist()  # type: ignore[union-attr]
    assert f"lasts {diagram.lengths(0).max():.3g}." in births_text
    assert tree_text == f"Merge tree with 2 minima between −{abs(values.min()):.3g} and {values.max():.3g}."
    (found,) = (each for each in branches.axes[0].collections if isinstance(each, LineCollection))
    assert len(found.get_segments()) == 3 + 1
    share = 100 * tree.volumes.max() / tree.volumes.sum()
    assert profile_text == f"Topological profile with 2 minima; the largest basin holds {share:.0f} % of the grid."


def test_minima_behind_walls_never_end(tmp_path: Path) -> None:
    values = valleys()
    values[POINTS // 2] = np.nan
    panel = panel_of(landscape_topology, view(tmp_path, landscape(40, values)))
    assert "2 components without end" in labels(panel.pictures[0][0])


def test_smad_over_the_run(tmp_path: Path) -> None:
    records = [landscape(20, valleys(), smad=0.1, aliased=1.0), landscape(0, valleys(), smad=0.4)]
    records.append(landscape(20, valleys(), smad=0.2, aliased=1.0))
    panel = panel_of(smad_history, view(tmp_path, *records))
    ((figure, text),) = panel.pictures
    assert text == (
        "SMAD at 2 steps; at step 20 it is 0.2 (merge tree), 0.1 (persistence). The grid decides at steps 20."
    )
    drawn = {str(line.get_label()): line.get_xydata() for line in figure.axes[0].lines}
    assert drawn["merge tree"].tolist() == [[0.0, 0.4], [20.0, 0.2]]
    assert drawn["merge tree, every second point"].tolist() == [[0.0, 0.4], [20.0, 0.4]]


def test_way_to_another_solution(tmp_path: Path) -> None:
    panel = panel_of(connecting_path, view(tmp_path / "curve", connectivity()))
    ((figure, text),) = panel.pictures
    assert text == (
        "Loss at 5 points of the way to the reference at step 9. The barrier on the straight line is 0.7. "
        "The mode connectivity is −0.02."
    )
    straight, curve, mean = figure.axes[0].lines
    assert np.asarray(straight.get_ydata()).tolist() == [0.1, 0.5, 0.9, 0.6, 0.3]
    assert np.asarray(curve.get_ydata()).tolist() == [0.1, 0.12, 0.2, 0.22, 0.3]
    assert np.asarray(mean.get_ydata()) == pytest.approx([0.2, 0.2])
    assert labels(figure) == ["straight line", "bezier curve", "mean of the ends"]
    ((figure, _),) = panel_of(connecting_path, view(tmp_path / "line", connectivity(curve=False))).pictures
    assert labels(figure) == ["straight line", "mean of the ends"]


def test_similarity_of_the_layers(tmp_path: Path) -> None:
    record = similarity([0.9, np.nan, -0.01], ["net.0", "net.1", "head"])
    ((figure, text),) = panel_of(layer_similarity, view(tmp_path, record)).pictures
    assert text.endswith("3 layers with the reference at step 9: from -0.010 (head) to 0.900 (net.0).")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["net.0", "net.1", "head"]
    assert [note.get_text() for note in axes.texts] == ["not defined"]
    assert axes.get_xlim()[0] == -0.01
    ((figure, text),) = panel_of(layer_similarity, view(tmp_path / "many", similarity([0.5] * 60))).pictures
    assert len(figure.axes[0].get_yticklabels()) == 40
    assert "60 layers" in text
    panel_of(layer_similarity, view(tmp_path / "none", similarity([np.nan, np.nan])))
    assert (
        layer_similarity(view(tmp_path / "pairs", Record("similarity", 0, 0, 0, arrays={"similarity/cka": np.eye(2)})))
        is None
    )


@pytest.mark.filterwarnings("error")
def test_report_holds_all_panels_in_the_colours_of_the_page(tmp_path: Path) -> None:
    values = valleys()
    values[3, 3] = np.nan
    view(tmp_path, landscape(40, values), connectivity(), similarity([0.9, 0.8]))
    page = write_report([tmp_path]).read_text()
    for title in (
        "Loss around the weights",
        "Minima and their basins",
        "Depth of the minima",
        "Way to another solution",
        "Similarity of the layers",
    ):
        assert f"<h2>{title}</h2>" in page
    assert not [colour for colour in COLOURS if colour.marker in page], "no marker colour is left"
    assert page.count('href="data:image/png;base64,') >= 2, "surfaces are images within their figures"
    assert write_report([tmp_path], output=tmp_path / "again.html").read_text() == page


def test_report_on_other_records_does_without_torch(tmp_path: Path) -> None:
    view(tmp_path, Record("hessian", 9, 9, 0, scalars={"hessian/lambda_1": 2.0}))
    code = (
        "import sys\nfrom lightning_regimes.dashboard import write_report\n"
        f"write_report([{str(tmp_path)!r}])\nprint('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"

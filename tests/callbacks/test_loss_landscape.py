import math
import warnings

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import HessianSpectrum, LossLandscape
from lightning_regimes.curvature import HessianOperator, eigsh
from lightning_regimes.landscape import bottleneck, merge_tree, persistence, smad
from lightning_regimes.recording import read_records


class Network(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Quadratic(L.LightningModule):
    """½ Σ λ x², with the valley's axes turned by 30° from those of the parameters."""

    def __init__(self, curvatures=(100.0, 1.0), offset=0.0):
        super().__init__()
        c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
        self.register_buffer("rotation", torch.tensor([[c, s], [-s, c]], dtype=torch.float64))
        self.register_buffer("curvatures", torch.tensor(curvatures, dtype=torch.float64))
        self.offset = offset
        self.x = nn.Parameter(torch.tensor([0.3, 0.4], dtype=torch.float64))

    def loss(self, point):
        return 0.5 * (self.curvatures * (self.rotation @ point) ** 2).sum() + self.offset

    def training_step(self, batch, batch_idx):
        return self.loss(self.x)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def loader(size=15):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=size)


def fit(folder, *callbacks, module=None, max_epochs=3, **options):
    trainer = L.Trainer(
        default_root_dir=folder,
        max_epochs=max_epochs,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    module = module or Network()
    trainer.fit(module, loader(), **options)
    return module


def records(folder, diagnostic="landscape"):
    (path,) = folder.rglob("records.jsonl")
    return [record for record in read_records(path.parent.parent) if record.diagnostic == diagnostic]


def landscape(**options):
    return LossLandscape(**{"points": 5, "overhead_budget": 0, "backend": "loop", **options})


def test_the_surface_is_the_loss_on_the_plane_of_the_first_eigenvectors(tmp_path):
    module = fit(tmp_path, landscape(span=0.5))
    (record,) = records(tmp_path)
    probe = LossProbe(module, [next(iter(loader()))])
    pairs = eigsh(HessianOperator(probe), 2)
    values = record.arrays["landscape/values"]
    norm = probe.point().norm()
    for i, j in ((0, 0), (1, 4), (2, 2)):
        coordinates = torch.tensor(
            [record.arrays["landscape/axis_1"][i], record.arrays["landscape/axis_2"][j]], dtype=torch.float32
        )
        with probe.moved(probe.unflatten(probe.point() + norm * pairs.vectors @ coordinates)):
            assert values[i, j] == pytest.approx(probe.loss().item(), rel=1e-5)
    assert values[2, 2] == record.scalars["landscape/center_loss"] == pytest.approx(probe.loss().item())
    assert record.scalars["landscape/direction_1"] == pytest.approx(float(pairs.values[0]), rel=1e-5)
    assert record.arrays["landscape/axis_1"].tolist() == pytest.approx([-0.5, -0.25, 0.0, 0.25, 0.5])
    assert record.scalars["landscape/num_evaluations"] == 25


def test_topology_is_that_of_the_values_and_its_distance_that_from_the_last(tmp_path):
    variants = ("merge_tree", "persistence", "contour_tree")
    fit(
        tmp_path,
        landscape(directions="random", span=3.0, points=9, every_n_epochs=1, at_end=False, variants=variants),
    )
    found = records(tmp_path)
    assert [record.global_step for record in found] == [4, 8, 12]
    last = None
    for record in found:
        values = record.arrays["landscape/values"]
        tree, half = merge_tree(values), merge_tree(values[::2, ::2])
        for variant in variants:
            assert record.scalars[f"landscape/smad_{variant}"] == smad(tree, variant)
            assert record.scalars[f"landscape/smad_{variant}_normalized"] == smad(tree, variant, normalize=True)
            assert record.scalars[f"landscape/smad_{variant}_half"] == smad(half, variant)
        assert record.scalars["landscape/num_minima"] == tree.num_minima
        assert record.scalars["landscape/range"] == values.max() - values.min()
        diagram = persistence(values)
        np.testing.assert_array_equal(record.arrays["landscape/persistence_pairs"], diagram.intervals[0])
        if last is not None:
            assert record.scalars["landscape/bottleneck"] == bottleneck(last, diagram)
        last = diagram


def test_a_valley_at_an_angle_is_flagged_and_has_no_minima_on_its_own_axes(tmp_path):
    options = {"points": 25, "span": 1.0}
    fit(tmp_path / "random", landscape(directions="random", seed=1, **options), module=Quadratic())
    fit(tmp_path / "hessian", landscape(directions="hessian", **options), module=Quadratic())
    (crossed,), (along,) = records(tmp_path / "random"), records(tmp_path / "hessian")
    assert crossed.scalars["landscape/num_minima"] > 1
    assert crossed.scalars["landscape/aliased"] == 1
    assert along.scalars["landscape/num_minima"] == 1
    assert along.scalars["landscape/smad_merge_tree"] == 0
    assert along.scalars["landscape/aliased"] == 0


def test_one_search_serves_the_spectrum_too(tmp_path):
    for first in ("landscape", "spectrum"):
        callbacks = [landscape(), HessianSpectrum(3, at_end=True, overhead_budget=0)]
        fit(tmp_path / first, *(callbacks if first == "landscape" else callbacks[::-1]))
        (surface,), (spectrum,) = records(tmp_path / first), records(tmp_path / first, "hessian")
        owner = "LossLandscape" if first == "landscape" else "HessianSpectrum"
        assert surface.context["eigenpairs"] == spectrum.context["eigenpairs"] == owner
        assert surface.scalars["landscape/direction_1"] == spectrum.scalars["hessian/lambda_1"]
        assert (surface.scalars["landscape/num_matvecs"] == 0) == (owner == "HessianSpectrum")


@pytest.mark.parametrize("dim", [1, 3])
def test_other_dimensions(tmp_path, dim):
    fit(tmp_path, landscape(dim=dim))
    (record,) = records(tmp_path)
    assert record.arrays["landscape/values"].shape == (5,) * dim
    assert f"landscape/axis_{dim}" in record.arrays
    assert record.scalars["landscape/smad_merge_tree"] == smad(record.arrays["landscape/values"])


def test_every_figure_can_be_drawn(tmp_path):
    for dim in (1, 2, 3):
        callback = landscape(dim=dim, trajectory=8)
        module = fit(tmp_path / str(dim), callback)
        drawn = {}

        def keep(probe, trainer, pl_module, callback=callback, drawn=drawn):
            drawn.update(LossLandscape.measure(callback, probe, trainer, pl_module).figures)
            raise ArithmeticError("enough")

        callback.measure = keep
        with pytest.warns(RuntimeWarning, match="enough"):
            fit(tmp_path / f"again {dim}", callback, module=module)
        assert len(drawn) == (5 if dim == 1 else 6)
        for draw in drawn.values():
            assert draw().get_axes()


def test_the_path_leads_to_the_weights_and_a_plane_of_principal_components_holds_it(tmp_path):
    fit(tmp_path, landscape(directions="pca", trajectory=16, points=7))
    (record,) = records(tmp_path)
    path = record.arrays["landscape/trajectory"]
    assert record.arrays["landscape/trajectory_steps"].tolist() == list(range(13))
    np.testing.assert_allclose(path[-1], 0, atol=1e-7)
    assert record.context["trajectory_share"] > 0.99
    for axis in (0, 1):
        grid = record.arrays[f"landscape/axis_{axis + 1}"]
        assert grid[0] <= path[:, axis].min()
        assert path[:, axis].max() <= grid[-1]
        assert np.abs(path[:, axis]).max() > 0.8 * grid[-1]
    # The loss fell on the way, as it does on the surface.
    values = record.arrays["landscape/values"]
    assert values[3, 3] == record.scalars["landscape/center_loss"] < values.max()


def test_a_loss_that_is_infinite_somewhere_is_told_and_counted(tmp_path):
    class Walled(Quadratic):
        def loss(self, point):
            return super().loss(point) + (0.0 if point[0] > -0.1 else math.inf)

    with pytest.warns(RuntimeWarning, match="the loss is not finite at .* of 81 points"):
        fit(tmp_path, landscape(points=9, span=3.0), module=Walled())
    (record,) = records(tmp_path)
    count = np.count_nonzero(~np.isfinite(record.arrays["landscape/values"]))
    assert record.scalars["landscape/num_nonfinite"] == count > 0


def test_a_grid_that_the_budget_does_not_cover_shrinks_once_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(LossLandscape, "affordable_seconds", lambda self, trainer: 1e-12)
    callback = LossLandscape(overhead_budget=0.9, at_end=False, directions="random")
    with pytest.warns(RuntimeWarning, match="takes 11 points an axis in place of 21"):
        fit(tmp_path, callback, max_epochs=20)
    assert callback.expected_units() == 11**2
    # What is due at the end is measured whole.
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*points an axis in place.*")
        callback = LossLandscape(overhead_budget=0.9, at_end=True, directions="random", backend="loop")
        fit(tmp_path / "whole", callback, max_epochs=20)
    assert records(tmp_path / "whole")[-1].scalars["landscape/points"] == 21


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_all_processes_take_the_grid_that_the_first_one_can_afford(tmp_path, monkeypatch):
    class Second:
        """Stands for the second of two processes, the first of which settled for 11 points."""

        def broadcast(self, compute):
            return 11

    monkeypatch.setattr(LossLandscape, "affordable_seconds", lambda self, trainer: math.inf)
    callback = LossLandscape(at_end=False)
    callback._processes = Second()
    callback.settle(L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False), 1e-3)
    assert callback.expected_units() == 11**2


class Staged(Network):
    """Freezes or thaws its first layer in the second epoch."""

    def __init__(self, begins_frozen):
        super().__init__()
        self.net[0].requires_grad_(not begins_frozen)
        self.begins_frozen = begins_frozen

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.net[0].requires_grad_(self.begins_frozen)

    def configure_optimizers(self):
        return torch.optim.SGD(self.net.parameters(), lr=0.1)


@pytest.mark.parametrize("begins_frozen", [True, False])
def test_layers_that_freeze_or_thaw_cost_the_path_and_nothing_else(tmp_path, begins_frozen):
    with pytest.warns(RuntimeWarning, match="other parameters are trained than when the training's path began"):
        fit(tmp_path, landscape(trajectory=8), module=Staged(begins_frozen))
    (record,) = records(tmp_path)
    assert record.arrays["landscape/values"].shape == (5, 5)
    assert "landscape/trajectory" not in record.arrays


def test_a_path_of_parameters_that_freeze_goes_on(tmp_path):
    module = fit(tmp_path, landscape(trajectory=8, parameters="net.0.*", on_error="warn"), module=Staged(False))
    assert module.trainer.global_step == 12


def test_the_grid_that_a_run_settled_for_is_that_of_its_configuration(tmp_path):
    shrunk = LossLandscape(points=21)
    shrunk._points = 11
    same, other = LossLandscape(points=21), LossLandscape(points=31)
    for callback in (same, other):
        callback.load_state_dict(shrunk.state_dict())
    assert (same._points, other._points) == (11, 31)


def test_a_resumed_run_goes_on_with_its_history(tmp_path):
    callback = landscape(every_n_epochs=1, at_end=False)
    fit(tmp_path, callback, max_epochs=2)
    other = landscape(every_n_epochs=1)
    other.load_state_dict(callback.state_dict())
    assert [step for step, _ in other._topology.entries] == [4, 8]


def test_options_are_checked_before_training(tmp_path):
    for options, message in (
        ({"dim": 0}, "`dim` is between 1 and 5"),
        ({"points": 20}, "`points` is odd"),
        ({"points": 3}, "`points` is odd and at least 5"),
        ({"span": 0.0}, "`span` is positive"),
        ({"directions": "up"}, "`directions` is"),
        ({"normalize": "filter"}, "`normalize` is for random directions"),
        ({"variants": ("depth",)}, "`variants` are of"),
        ({"directions": "pca", "trajectory": 4}, "'pca' need `trajectory` of more than 4"),
        ({"normalize": "neuron", "directions": "random"}, "`normalize` is one of"),
        ({"backend": "gpu"}, "`backend` is"),
        ({"batch_norm": "interpolate"}, "`batch_norm` is 'frozen' or 'recompute'"),
        ({"batch_norm": "recompute", "backend": "vmap"}, "goes with neither"),
        ({"batch_norm": "recompute", "mode": "train"}, "goes with neither"),
        ({"trajectory": 1}, "`trajectory` is 0 or at least 2"),
        ({"tol": 2.0}, "`tol` lies between"),
    ):
        with pytest.raises(ValueError, match=message):
            LossLandscape(**options)
    with pytest.raises(ValueError, match="bytes"):
        fit(tmp_path, LossLandscape(5, points=101))
    with pytest.raises(ValueError, match="`dim`=3 axes do not fit into 2 parameters"):
        fit(tmp_path, LossLandscape(3), module=Quadratic())

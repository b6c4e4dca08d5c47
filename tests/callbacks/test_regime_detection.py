import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import RegimeDetection
from lightning_regimes.recording import read_records

TRUE_WEIGHT = torch.tensor([[1.0, -2.0, 0.5]])


def linear_data(size, seed, noise=0.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 3, generator=generator)
    return TensorDataset(x, x @ TRUE_WEIGHT.T + noise * torch.randn(size, 1, generator=generator))


class Regression(L.LightningModule):
    def __init__(self, lr=0.1, features=3):
        super().__init__()
        self.linear = nn.Linear(features, 1, bias=False)
        self.lr = lr

    def training_step(self, batch, batch_idx):
        loss = F.mse_loss(self.linear(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Validated(Regression):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.mse_loss(self.linear(batch[0]), batch[1]))
        self.log("relative", (self.linear(batch[0]) - batch[1]).norm() / batch[1].norm())


class Informed(Regression):
    """Offers all three numbers itself."""

    def trivial_loss(self, batch):
        return batch[1].square().mean()

    def heldout_loss(self):
        x, y = linear_data(50, seed=9).tensors
        return F.mse_loss(self.linear(x), y)

    def reference_error(self):
        return (self.linear.weight - TRUE_WEIGHT).norm() / TRUE_WEIGHT.norm()


def fit(tmp_path, model, callback, *, data=None, epochs=10, val=True):
    torch.manual_seed(0)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    data = data or linear_data(64, seed=0)
    trainer.fit(
        model,
        DataLoader(data, batch_size=16),
        DataLoader(linear_data(64, seed=1), batch_size=64) if val and isinstance(model, Validated) else None,
    )
    (path,) = tmp_path.rglob("records.jsonl")
    return read_records(path.parent.parent), data


def test_numbers_and_sources_of_a_module_that_offers_everything(tmp_path):
    model = Informed()
    records, data = fit(tmp_path, model, RegimeDetection(overhead_budget=0))
    (record,) = records
    x, y = data.tensors
    with torch.no_grad():
        loss = F.mse_loss(model.linear(x), y).item()
        error = model.reference_error().item()
        heldout = model.heldout_loss().item()
    reference = y.square().mean().item()
    assert record.scalars["regime/train_loss"] == pytest.approx(loss, rel=1e-4)
    assert record.scalars["regime/reference_loss"] == pytest.approx(reference, rel=1e-6)
    assert record.scalars["regime/normalized_loss"] == pytest.approx(loss / reference, rel=1e-4)
    assert record.scalars["regime/test_error"] == pytest.approx(error, rel=1e-5)
    assert record.scalars["regime/heldout_loss"] == pytest.approx(heldout, rel=1e-4)
    assert record.text["regime/label"] == "WELL_TRAINED"
    assert record.context["reference_source"] == "trivial_loss"
    assert record.context["evidence_source"] == "reference_error"
    assert record.context["reasons"][0].startswith("training loss / reference loss")
    assert record.context["num_batches"] == 4
    losses = record.arrays["regime/loss_history"]
    assert len(losses) == 40
    assert losses[0] > 100 * losses[-1]


def test_a_module_without_an_answer_is_judged_by_what_it_logs(tmp_path):
    class Silent(Validated):
        def reference_error(self):
            return None

        def heldout_loss(self):
            return None

    (record,), _ = fit(tmp_path, Silent(), RegimeDetection(on_error="raise"))
    assert record.context["evidence_source"] == "val_loss"


class Estimating(Informed):
    """Has no reference, and an estimate that contradicts the held-out loss."""

    def reference_error(self):
        return None

    def estimated_error(self):
        return torch.tensor(0.4)


def test_an_estimate_takes_the_place_of_a_missing_error_and_precedes_the_heldout_loss(tmp_path):
    (record,), _ = fit(tmp_path, Estimating(), RegimeDetection(overhead_budget=0))
    assert record.text["regime/label"] == "OVER_TRAINED"
    assert record.scalars["regime/estimated_error"] == pytest.approx(0.4)
    assert record.scalars["regime/normalized_heldout_loss"] < 0.025
    assert record.context["evidence_source"] == "estimated_error"
    assert "estimated error = 0.4 > 0.05: it does not generalize" in record.context["reasons"]
    assert ("estimated error", pytest.approx(0.4), 0.05, False) in [
        tuple(row) for row in record.tables["regime/evidence"].rows
    ]


@pytest.mark.parametrize(("wanted", "recorded"), [(None, False), (True, True), (False, False)])
def test_an_estimate_beside_the_error_decides_nothing(tmp_path, wanted, recorded):
    class Both(Estimating):
        def reference_error(self):
            return torch.tensor(0.01)

    (record,), _ = fit(tmp_path, Both(), RegimeDetection(overhead_budget=0, estimate_error=wanted))
    assert ("regime/estimated_error" in record.scalars) is recorded
    assert record.context["evidence_source"] == "reference_error"
    assert record.text["regime/label"] == "WELL_TRAINED"


@pytest.mark.parametrize("kind", [ValueError, IndexError])
def test_an_estimate_that_cannot_be_made_leaves_the_heldout_loss(tmp_path, kind):
    class Failing(Estimating):
        def estimated_error(self):
            raise kind("a residual at a point depends on the field at other points")

    with pytest.warns(RuntimeWarning, match="without an estimate of the error: a residual at a point"):
        (record,), _ = fit(tmp_path, Failing(), RegimeDetection(overhead_budget=0, on_error="raise"))
    assert record.context["evidence_source"] == "heldout_loss"
    assert record.text["regime/label"] == "WELL_TRAINED"
    (silent,), _ = fit(tmp_path / "off", Estimating(), RegimeDetection(overhead_budget=0, estimate_error=False))
    assert silent.context["evidence_source"] == "heldout_loss"


def test_an_estimate_does_not_take_the_place_of_metrics_that_were_named(tmp_path):
    with pytest.warns(RuntimeWarning, match="'relativ' has not been logged"):
        (record,), _ = fit(
            tmp_path, Estimating(), RegimeDetection(error_metric="relativ", estimate_error=True, overhead_budget=0)
        )
    assert record.scalars["regime/estimated_error"] == pytest.approx(0.4)
    assert "regime/label" not in record.text
    with pytest.warns(RuntimeWarning, match="'val_los' has not been logged"):
        (record,), _ = fit(tmp_path / "b", Estimating(), RegimeDetection(heldout_metric="val_los", overhead_budget=0))
    assert "regime/estimated_error" not in record.scalars


@pytest.mark.parametrize(("wanted", "counted"), [(None, True), (True, True), (False, False)])
def test_the_time_of_an_estimate_is_part_of_what_is_expected(wanted, counted):
    module, detection = Estimating(), RegimeDetection(estimate_error=wanted)
    without = detection.expected_units()
    batch = [entry[:16] for entry in linear_data(64, seed=0).tensors]
    detection.try_unit(LossProbe(module, [batch]), L.Trainer(logger=False, accelerator="cpu"), module)
    assert (detection.expected_units() > 10 * without) is counted


def test_without_methods_the_loss_at_initialization_and_a_usual_metric_serve(tmp_path):
    model = Validated()
    torch.manual_seed(0)
    first = [t[:16] for t in linear_data(64, seed=0).tensors]
    with torch.no_grad():
        initial = F.mse_loss(model.linear(first[0]), first[1]).item()
    records, _ = fit(tmp_path, model, RegimeDetection(overhead_budget=0))
    (record,) = records
    assert record.scalars["regime/reference_loss"] == pytest.approx(initial, rel=1e-6)
    assert record.context["reference_source"] == "loss at step 0"
    assert record.context["evidence_source"] == "val_loss"
    assert record.text["regime/label"] == "WELL_TRAINED"


def test_too_few_noisy_samples_end_over_trained(tmp_path):
    few = linear_data(2, seed=0, noise=2.0)
    records, _ = fit(tmp_path, Validated(), RegimeDetection(overhead_budget=0), data=few, epochs=400)
    assert records[-1].text["regime/label"] == "OVER_TRAINED"


def test_too_few_steps_end_under_trained_and_provisional_while_the_loss_falls(tmp_path):
    records, _ = fit(
        tmp_path, Validated(lr=2e-3), RegimeDetection(error_metric="relative", overhead_budget=0), epochs=15
    )
    (record,) = records
    assert record.text["regime/label"] == "UNDER_TRAINED"
    assert record.context["evidence_source"] == "relative"
    assert record.scalars["regime/loss_trend"] < 0


def test_a_diverging_run_is_labelled_and_goes_on(tmp_path):
    records, _ = fit(tmp_path, Validated(lr=1e6), RegimeDetection(every_n_epochs=2))
    assert {record.text["regime/label"] for record in records[1:]} == {"DIVERGED"}
    assert not records[-1].scalars["regime/train_loss"] < float("inf")


def test_a_fitted_run_without_evidence_gets_no_label_but_the_remedy(tmp_path):
    with pytest.warns(RuntimeWarning, match="gives no label: .*error_metric"):
        records, _ = fit(tmp_path, Regression(), RegimeDetection(overhead_budget=0))
    assert "regime/label" not in records[-1].text
    assert records[-1].scalars["regime/normalized_loss"] < 0.025


def test_a_metric_that_was_never_logged_is_named_with_those_that_were(tmp_path):
    with pytest.warns(RuntimeWarning, match="'val_los' has not been logged; logged are: .*val_loss"):
        fit(tmp_path, Validated(), RegimeDetection(heldout_metric="val_los", overhead_budget=0))


@pytest.mark.parametrize("lr", [0.1, 1e-4])
def test_nothing_takes_the_place_of_a_misspelt_error_metric(tmp_path, lr):
    with pytest.warns(RuntimeWarning, match="'relativ' has not been logged"):
        records, _ = fit(tmp_path, Validated(lr=lr), RegimeDetection(error_metric="relativ", overhead_budget=0))
    assert "regime/heldout_loss" not in records[-1].scalars
    assert records[-1].text.get("regime/label") == (None if lr == 0.1 else "UNDER_TRAINED")


def test_an_objective_that_can_be_negative_is_judged_by_its_plain_loss(tmp_path):
    class Lagrangian(Informed):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) - 100.0

        def plain_loss(self, batch):
            return F.mse_loss(self.linear(batch[0]), batch[1])

    records, _ = fit(tmp_path, Lagrangian(), RegimeDetection(overhead_budget=0))
    assert records[-1].text["regime/label"] == "WELL_TRAINED"
    assert records[-1].context["loss_source"] == "plain_loss"


def test_the_evidence_is_that_of_the_weights_it_judges(tmp_path):
    seen = []

    class Watched(Validated):
        def on_validation_epoch_end(self):
            seen.append(self.linear.weight.clone())

    model = Watched(lr=1e-3)
    records, _ = fit(tmp_path, model, RegimeDetection(every_n_steps=4, heldout_metric="val_loss"), epochs=3)
    assert [record.global_step for record in records] == [4, 8, 12]
    x, y = linear_data(64, seed=1).tensors
    for record, weight in zip(records, seen[-3:], strict=True):
        expected = F.mse_loss(x @ weight.T, y).item()
        assert record.scalars["regime/heldout_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_history_of_accumulated_steps_has_the_scale_of_the_loss(tmp_path):
    torch.manual_seed(0)
    callback = RegimeDetection(overhead_budget=0, heldout_metric="val_loss")
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        accumulate_grad_batches=4,
        callbacks=[callback],
    )
    trainer.fit(Validated(lr=0.0), DataLoader(linear_data(64, seed=0), 16), DataLoader(linear_data(64, seed=1), 64))
    steps, losses = callback._history.arrays()
    assert steps.tolist() == [0, 0, 0, 1, 1, 1, 1, 2]
    assert losses[:4].mean() == pytest.approx(callback.probe(trainer.lightning_module).loss().item(), rel=1e-5)


def test_the_same_full_batch_is_kept_once(tmp_path):
    data = linear_data(16, seed=0)
    records, _ = fit(tmp_path, Informed(), RegimeDetection(num_batches=4, overhead_budget=0), data=data)
    assert records[-1].context["num_batches"] == 1

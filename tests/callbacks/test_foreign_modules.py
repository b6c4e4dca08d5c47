"""Modules of other packages, in trainings that know nothing of the callbacks."""

import lightning as L
import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.callbacks import HessianSpectrum, RegimeDetection
from lightning_regimes.recording import read_records


class Plain(L.LightningModule):
    """Somebody's module around a model: a loss of a batch, and an optimizer."""

    def __init__(self, model, loss):
        super().__init__()
        self.model = model
        self.loss = loss

    def training_step(self, batch, batch_idx):
        return self.loss(self.model, batch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def options(tmp_path):
    return {
        "default_root_dir": tmp_path,
        "accelerator": "cpu",
        "max_steps": 4,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [
            HessianSpectrum(1, tol=1e-4, every_n_steps=2, on_error="raise"),
            RegimeDetection(every_n_steps=2, on_error="raise"),
        ],
    }


def largest_eigenvalue(loss, parameters):
    """Of the Hessian of a loss, by ARPACK on double backward; complex parameters count as pairs of real ones."""
    views = [torch.view_as_real(p) if p.is_complex() else p for p in parameters]
    sizes = [view.numel() for view in views]
    with sdpa_kernel(SDPBackend.MATH):
        gradients = torch.autograd.grad(loss(), parameters, create_graph=True)

    def real(tensors):
        return torch.cat([(torch.view_as_real(t) if t.is_complex() else t).reshape(-1) for t in tensors])

    flat = real(gradients)

    def product(vector):
        given = torch.from_numpy(np.ascontiguousarray(vector, dtype=np.float32)).reshape(-1)
        products = torch.autograd.grad(flat @ given, parameters, retain_graph=True)
        return real(products).detach().double().numpy()

    operator = LinearOperator((sum(sizes), sum(sizes)), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=sum(sizes))
    return float(eigsh(operator, k=1, which="LA", tol=1e-5, v0=start, return_eigenvectors=False)[0])


def check(tmp_path, trainer, module, loss):
    """The last of two measurements is that of the trained weights, and every measurement has a regime's numbers."""
    (path,) = tmp_path.rglob("records.jsonl")
    records = read_records(path.parents[1])
    spectra = [record for record in records if record.diagnostic == "hessian"]
    verdicts = [record for record in records if record.diagnostic == "regime"]
    assert [record.global_step for record in spectra] == [2, 4]
    assert verdicts[-1].global_step == 4
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    (batch,) = trainer.callbacks[0].batches.kept
    assert verdicts[0].scalars["regime/train_loss"] > 0
    expected = largest_eigenvalue(lambda: loss(module, batch), parameters)
    assert spectra[-1].scalars["hessian/lambda_1"] == pytest.approx(expected, rel=2e-3)


def fit_and_check(tmp_path, model, loss, dataset):
    module = Plain(model, loss)
    trainer = L.Trainer(**options(tmp_path))
    trainer.fit(module, DataLoader(dataset, batch_size=len(dataset)))
    check(tmp_path, trainer, module, lambda module, batch: loss(module.model, batch))


def test_a_neural_operator(tmp_path):
    from neuralop.models import FNO

    torch.manual_seed(0)
    model = FNO(
        n_modes=(4, 4), in_channels=1, out_channels=1, hidden_channels=4, n_layers=1, projection_channel_ratio=1
    )
    fields = torch.randn(6, 1, 8, 8)
    fit_and_check(
        tmp_path,
        model,
        lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
        TensorDataset(fields, fields.roll(1, -1)),
    )


def texts(vocabulary=20):
    return torch.randint(vocabulary, (4, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.peer
def test_a_hugging_face_language_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=20, n_positions=9, n_embd=8, n_layer=1, n_head=2)
    )
    model.eval()
    fit_and_check(
        tmp_path,
        model,
        lambda model, batch: model(input_ids=batch[0], labels=batch[0]).loss,
        TensorDataset(texts()),
    )


@pytest.mark.peer
def test_a_litgpt_model(tmp_path):
    litgpt = pytest.importorskip("litgpt")
    torch.manual_seed(0)
    model = litgpt.GPT(
        litgpt.Config(
            block_size=9, vocab_size=20, padded_vocab_size=20, n_layer=1, n_head=2, n_embd=8, intermediate_size=16
        )
    )

    def loss(model, batch):
        logits = model(batch[0][:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch[0][:, 1:].flatten())

    fit_and_check(tmp_path, model, loss, TensorDataset(texts()))


@pytest.mark.peer
def test_a_pina_solver_in_its_own_trainer(tmp_path):
    pytest.importorskip("pina")
    from pina import Trainer
    from pina.model import FeedForward
    from pina.problem.zoo import Poisson2DSquareProblem
    from pina.solver import PhysicsInformedSingleModelSolver

    torch.manual_seed(0)
    problem = Poisson2DSquareProblem()
    problem.discretise_domain(n=12, mode="random")
    solver = PhysicsInformedSingleModelSolver(
        problem=problem, model=FeedForward(input_dimensions=2, output_dimensions=1, inner_size=6, n_layers=1)
    )
    trainer = Trainer(solver=solver, **options(tmp_path))
    trainer.train()
    # Its loss logs, which it may only do in a training.
    solver.log = lambda *args, **kwargs: None
    check(tmp_path, trainer, solver, lambda solver, batch: solver.batch_evaluation_step(batch=batch, batch_idx=0))

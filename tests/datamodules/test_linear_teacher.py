import pytest
import torch

from lightning_regimes.datamodules import LinearTeacher


@pytest.mark.parametrize("inputs", ["identity", "whitened"])
def test_inputs_are_white_and_the_target_has_unit_singular_values(inputs):
    teacher = LinearTeacher(inputs=inputs, steps_per_epoch=3)
    values = torch.linalg.svdvals(teacher.target)
    torch.testing.assert_close(values[:5], torch.ones(5, dtype=torch.float64))
    assert float(values[5:].abs().max()) < 1e-12
    batches = list(teacher.train_dataloader())
    assert len(batches) == 3
    x, y = batches[0]
    torch.testing.assert_close(x.T @ x, torch.eye(16))
    torch.testing.assert_close(y, x @ teacher.target.T.float())


def test_gaussian_inputs_are_white_on_average():
    x, _ = next(iter(LinearTeacher(inputs="gaussian", num_samples=20_000, input_size=4, rank=2).train_dataloader()))
    torch.testing.assert_close(x.T @ x, torch.eye(4), atol=0.05, rtol=0)


def test_making_it_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    LinearTeacher(inputs="gaussian")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 11}, "`rank`"),
        ({"inputs": "white"}, "`inputs`"),
        ({"inputs": "whitened", "num_samples": 15}, "`num_samples`"),
        ({"steps_per_epoch": 0}, "at least 1"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LinearTeacher(**options)

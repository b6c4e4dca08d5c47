"""What the pages of the documentation tell people to type works."""

import ast
import re
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_regimes.recording import VOCABULARY, describe, read_records, vocabulary

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_every_file_that_is_named_exists():
    for page in PAGES:
        text = page.read_text()
        for name in re.findall(
            r"[`\s(](?:\.\./)?((?:configs|examples|benchmarks|tests|lightning_regimes)/[\w./-]+\w)", text
        ):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
        for image in re.findall(r"\]\((images/[^)]+)\)", text):
            assert (page.parent / image).exists(), f"{page.name}: {image}"


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page():
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1]
    listed = set(re.findall(r"([\w-]+\.md)", navigation))
    assert listed - {"vocabulary.md"} == {page.name for page in PAGES}


def test_every_key_that_is_explained_is_in_the_vocabulary():
    diagnostics = {key.partition("/")[0] for key in VOCABULARY}
    keys = {
        key
        for page in [*PAGES, ROOT / "README.md"]
        if page.name != "extending.md"
        for key in re.findall(r"[`\"](\w+/\w+)[`\"]", page.read_text())
        if key.partition("/")[0] in diagnostics - {"graph", "theory"}
    }
    assert len(keys) > 10
    for key in keys:
        describe(key)


def test_python_in_the_pages_is_python_and_its_imports_are_there():
    for page in PAGES:
        for block in blocks(page, "python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("lightning_regimes"):
                    module = __import__(node.module, fromlist=["_"])
                    for alias in node.names:
                        assert hasattr(module, alias.name), f"{page.name}: {node.module}.{alias.name}"


@pytest.fixture
def own_keys():
    """The keys that a test declares are its own."""
    before = dict(vocabulary._DECLARED)
    yield
    vocabulary._DECLARED.clear()
    vocabulary._DECLARED.update(before)


def test_the_diagnostic_of_forty_lines_measures_and_leaves_the_training_alone(tmp_path, own_keys):
    names: dict[str, object] = {}
    exec(blocks(ROOT / "docs" / "extending.md", "python")[0], names)
    diagnostic = names["GradientNoise"](num_batches=4, every_n_steps=6)

    def train(*callbacks):
        L.seed_everything(0, verbose=False)
        module = BoringModel()
        trainer = L.Trainer(
            max_steps=6,
            limit_val_batches=0,
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            callbacks=list(callbacks),
        )
        trainer.fit(module)
        return module

    bare, watched = train(), train(diagnostic)
    assert all(torch.equal(weight, bare.state_dict()[name]) for name, weight in watched.state_dict().items())
    (record,) = read_records(next(tmp_path.rglob("records.jsonl")).parent.parent)
    gradients = []
    for batch in diagnostic.batches.kept:
        loss = watched.training_step(batch, 0)["loss"]
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(watched.parameters()))]))
    stacked = torch.stack(gradients).double()
    expected = stacked.var(dim=0).sum() / stacked.mean(dim=0).square().sum()
    assert record.scalars["noise/scale"] == pytest.approx(expected.item(), rel=1e-5)

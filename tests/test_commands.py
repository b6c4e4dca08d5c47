"""Every command that people are told to type is run, with options that make it short."""

import re
import shlex
from pathlib import Path

import pytest
import wandb
import yaml

from lightning_regimes.cli import main
from lightning_regimes.command.sweep_cell import RunCell
from lightning_regimes.recording import read_records
from lightning_regimes.sweep import SweepSpecification, Trial

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HEADS = sorted(CONFIGS.rglob("*.yaml"))
SWEEPS = sorted((CONFIGS / "sweeps").glob("*.yaml"))
LANGUAGE_MODELS = sorted((CONFIGS / "llm").glob("*.yaml"))
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]

# Of these, other tests run each with its own expectations, or nothing can run here; the reader sees which and why.
RUN_ELSEWHERE = {
    r"fit -c configs/\w+\.yaml": "test_configs.py runs every experiment",
    r"fit -c configs/gnn_cora_metattack\.yaml --data\.source\.folder=FOLDER": "test_configs.py, where there are files",
    r"fit -c configs/llm/\w+\.yaml": "needs a download; run below on other text",
    r"sweep -c configs/sweeps/\w+\.yaml": "hours; cells of each are run below, the command by test_sweep_command.py",
    r"report (runs|lightning_logs)/\w+": "test_cli.py reports on folders of runs, test_closing_word.py on a run",
    r"report runs/sweeps/pinn_convection": "test_sweep_command.py reports on a sweep",
    r"report --watch RUN_DIR": "serves until it is interrupted; test_live_report.py",
    r"dashboard push --entity ENTITY --project PROJECT": "needs a login and a network; test_workspace.py",
    r"fit( -c … --option=value)?|report": "no command, but how one looks",
}
OTHER_PROGRAMS = {
    r"make (demo|test|docs|lint|slow|coverage)( CONSTRAINTS=/dev/null)?": "run before every change is taken",
    r"make reproductions": "trains for many minutes",
    r"python -m venv \.venv|\.venv/bin/pip install -c constraints\.txt -e \"\.\[test\]\"": "the same as `make demo`",
    r"LIGHTNING_REGIMES=\S+ python your_script\.py": "test_zero_code.py",
    r"python your_script\.py fit -c your_config\.yaml( -c configs/diagnostics/\w+\.yaml)+": "test_configs.py",
    r"python examples/\w+\.py.*": "test_examples.py runs each of them",
    r"(?:OMP_NUM_THREADS=1 )?python benchmarks/\w+\.py.*": "minutes to hours, or files that are not here; mypy reads them",
    r"wandb (sync|leet|sweep|agent)\b.*": "W&B's own, with a login or a terminal",
    r"pip install .*": "test_packaging.py builds what is installed",
}


def written_by(path, programs=r"(?:\.venv/bin/)?lightning-regimes "):
    """The commands of a page, or of the head of a configuration, without the program's name if it is ours."""
    text = path.read_text()
    if path.suffix == ".yaml":
        blocks = ["\n".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))]
    else:
        fenced = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
        blocks = [block for language, block in fenced.findall(text) if language in ("", "bash")]
        blocks += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", fenced.sub("", text))]
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return {line[match.end() :].partition("  #")[0].strip() for line in lines if (match := re.match(programs, line))}


def known(command, reasons):
    return any(re.fullmatch(pattern, command) for pattern in reasons)


COMMANDS = sorted({command for path in (*PAGES, *HEADS) for command in written_by(path)})
OVERLAID = {command for path in (CONFIGS / "optimizers").glob("*.yaml") for command in written_by(path)}
"""Run by test_configs.py."""
RUN_HERE = [command for command in COMMANDS if not known(command, RUN_ELSEWHERE) and command not in OVERLAID]
OF_A_RUN = [command for command in RUN_HERE if "RUN_DIR" in command]
VARIANTS = [command for command in RUN_HERE if "RUN_DIR" not in command]


@pytest.fixture
def no_report(monkeypatch):
    """Trainings whose report is not drawn: figures take longer than so short a training."""
    monkeypatch.setattr("lightning_regimes.dashboard.write_report", lambda runs: None)


def shortest(options):
    return [option.replace("max_epochs=2", "max_epochs=1") for option in options]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder in which ``configs/...`` is there, as in the repository."""
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(CONFIGS)
    yield tmp_path
    if wandb.run is not None:
        wandb.finish()


def test_every_command_is_run_or_there_is_a_reason():
    assert len(VARIANTS) >= 7
    assert len(OF_A_RUN) >= 3
    for command in VARIANTS:
        assert command.startswith("fit -c configs/"), f"{command!r} is run by no test"
    others = r"(?=(?:make|python|pip|wandb|\.venv/bin/p|[A-Z_]+=\S+ python) )"
    for command in {command for path in (*PAGES, *HEADS) for command in written_by(path, others)}:
        assert known(command, OTHER_PROGRAMS), f"{command!r} is run by no test"
    for pattern in RUN_ELSEWHERE:
        assert any(re.fullmatch(pattern, command) for command in COMMANDS), f"{pattern!r} is the reason of no command"


@pytest.mark.slow
@pytest.mark.parametrize("command", VARIANTS)
def test_every_variant_of_an_experiment_runs(command, workplace, short, no_report):
    words = shlex.split(command)
    name = Path(words[2]).name
    given = {word.partition("=")[0] for word in words}
    limits = [
        option for option in shortest(short(name)) if option.partition("=")[0] not in given or "--trainer" in option
    ]
    assert main([*words, *limits]) == 0
    (run,) = Path("runs", name.removesuffix(".yaml")).iterdir()
    assert "regime" in {record.diagnostic for record in read_records(run)}


@pytest.mark.slow
def test_what_can_be_done_with_a_run(workplace, short, capsys):
    assert main(["fit", "-c", "configs/digits.yaml", *short("digits.yaml")]) == 0
    (run,) = Path("runs", "digits").iterdir()
    capsys.readouterr()
    for command in OF_A_RUN:
        assert main(shlex.split(command.replace("RUN_DIR", str(run)))) == 0, command
        assert capsys.readouterr().err == "", command
    assert list(Path("runs", "digits").iterdir()) == [run]


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_cell_of_every_shipped_sweep_runs(path, workplace, short):
    trials = SweepSpecification.read(path).trials()
    # One for each file of an axis of files.
    for trial in {trial.parameters.get("config"): trial for trial in reversed(trials)}.values():
        base = Path(trial.arguments[2]).name
        swept = set(trial.parameters)
        limits = [option for option in shortest(short(base)) if option.partition("=")[0].lstrip("-") not in swept]
        limits = [option for option in limits if option not in QUIET]
        limits.append("--trainer.val_check_interval=null")
        row = RunCell(workplace)(Trial(trial.parameters, (*trial.arguments, *limits), trial.content))
        assert {"regime/normalized_loss", "hessian/lambda_1"} <= row["values"].keys()


@pytest.mark.slow
@pytest.mark.parametrize("path", LANGUAGE_MODELS, ids=lambda path: path.stem)
def test_every_recipe_of_a_language_model_runs_small_and_on_other_text(path, workplace, no_report):
    tiny = yaml.safe_load((CONFIGS / "llama_tiny.yaml").read_text())["model"]["init_args"]["configuration"]
    sizes = {**tiny, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 24}
    limits = {
        "seed_everything": 0,
        "model": {"init_args": {"configuration": sizes, "vocab_size": 256}},
        "data": {
            "init_args": {
                "source": "python",
                "tokenizer": "bytes",
                "vocab_size": 256,
                "max_bytes": 100_000,
                "sequence_length": 16,
                "batch_size": 2,
                "steps_per_epoch": 4,
                "validation_sequences": 2,
                "cache_dir": "tokens",
            }
        },
        "trainer": {"max_steps": 2, "accumulate_grad_batches": 2, "val_check_interval": 2, "accelerator": "cpu"},
    }
    Path("limits.yaml").write_text(yaml.safe_dump(limits))
    assert main(["fit", "-c", f"configs/llm/{path.name}", "-c", "limits.yaml", *QUIET]) == 0
    (run,) = Path("runs", path.stem).iterdir()
    assert "regime" in {record.diagnostic for record in read_records(run)}

"""What the README tells people to type works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from lightning_regimes import callbacks
from lightning_regimes.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BASH = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")


def test_every_option_in_the_head_of_a_configuration_parses(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    tried = 0
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        for line in path.read_text().splitlines():
            if re.match(r"#\s+--", line):
                tried += 1
                options = [word for word in shlex.split(line.lstrip("# ")) if word.startswith("--")]
                assert main(["fit", "-c", str(path), *_complete(options), "--print_config"]) == 0, line
    assert tried >= 5


def _complete(options):
    # The options of a curriculum are continued on a second line.
    if any(option.startswith("--model.curriculum=") for option in options):
        return [*options, "--model.problem.beta=30"]
    return options


def test_make_targets_and_linked_files_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", BASH, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\((?!http)([^)#]+)(?:#[\w-]+)?\)", README):
        assert (ROOT / link).exists(), link


def test_every_callback_that_is_named_exists():
    table = README.split("| callback | question |")[1].split("\n\n")[0]
    names = re.findall(r"\b([A-Z]\w+)[`,]", table)
    assert len(names) > 10
    for name in names:
        assert hasattr(callbacks, name), name


def test_the_example_of_an_existing_trainer_runs(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "existing_trainer.py")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    values = dict(line.split() for line in result.stdout.splitlines() if re.match(r"(regime|hessian)/", line))
    assert float(values["regime/test_error"]) < 0.06
    assert float(values["hessian/lambda_1"]) > 0

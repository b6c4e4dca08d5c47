import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def packages_in_the_tree():
    """Every folder with an `__init__.py`, under its import name; the linked ones where they are mapped to."""
    found = set()
    for top in ("lightning_regimes", "callbacks", "datamodules"):
        for init in (ROOT / top).rglob("__init__.py"):
            name = ".".join(init.parent.relative_to(ROOT).parts)
            if init.parent.is_relative_to(ROOT / "lightning_regimes") or top != "lightning_regimes":
                found.add(name if name.startswith("lightning_regimes") else f"lightning_regimes.{name}")
    return found


def test_the_declared_packages_are_those_of_the_tree():
    assert set(SETUPTOOLS["packages"]) == packages_in_the_tree()


def test_callbacks_and_datamodules_are_linked_by_relative_paths():
    for name in ("callbacks", "datamodules"):
        link = ROOT / "lightning_regimes" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / name
        assert SETUPTOOLS["package-dir"][f"lightning_regimes.{name}"] == name


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """A wheel built from an sdist, without a network: the build tools are those of the environment."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_the_sdist_and_the_wheel_built_from_it_hold_every_module(distributions):
    modules = {
        str(path.relative_to(ROOT))
        for top in ("callbacks", "datamodules", "lightning_regimes")
        for path in (ROOT / top).rglob("*.py")
        if "__pycache__" not in path.parts
    }
    in_wheel = {m if m.startswith("lightning_regimes") else f"lightning_regimes/{m}" for m in modules}
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert in_wheel <= names
    assert "lightning_regimes/py.typed" in names
    assert not {name for name in names if name.startswith(("callbacks", "datamodules", "tests"))}
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    assert modules <= members | {name.replace("lightning_regimes/", "", 1) for name in members}


def test_the_installed_wheel_imports_from_another_directory(distributions, tmp_path):
    (wheel,) = distributions.glob("*.whl")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(site)]
    subprocess.run([*command, str(wheel)], check=True)
    code = (
        "import sys, lightning_regimes as package, lightning_regimes.callbacks as c, lightning_regimes.datamodules as d\n"
        "from lightning_regimes.callbacks import RegimeDetection\n"
        "print(package.__file__, c.__file__, d.__file__)\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('callbacks', 'datamodules')]\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert [Path(path).is_relative_to(site) for path in result.stdout.split()] == [True] * 3

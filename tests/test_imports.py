import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lightning_regimes"

# Lower layers first. A module imports from its own layer and from lower ones.
LAYERS = [
    {
        "batches",
        "isolation",
        "lazy_names",
        "loss_source",
        "module_state",
        "parameter_selection",
        "probe",
        "processes",
        "signed_log_density",
    },
    {"curvature", "landscape", "theory"},
    {"recording", "metrics", "networks", "optim", "graph", "spectral", "pde", "regimes"},
    {"callbacks", "modules", "datamodules"},
    {"sweep", "dashboard"},
    {"autoload", "command", "cli"},
]
NUMERICS = {"curvature", "landscape", "regimes", "optim", "graph", "spectral", "theory", "pde", "networks"}
NUMERICS_AND_PROBE = NUMERICS | {
    "batches",
    "isolation",
    "lazy_names",
    "loss_source",
    "module_state",
    "parameter_selection",
    "probe",
    "processes",
    "signed_log_density",
}
HEAVY = ("neuralop", "torch_geometric", "gudhi", "wandb")


def level(name):
    for index, layer in enumerate(LAYERS):
        if name in layer:
            return index
    raise AssertionError(f"{name} is in no layer")


def modules():
    for folder in (PACKAGE, ROOT / "callbacks", ROOT / "datamodules"):
        yield from sorted(folder.rglob("*.py"))


def own_name(path):
    parts = path.relative_to(ROOT).parts
    parts = parts[1:] if parts[0] == "lightning_regimes" else parts
    return parts[0].removesuffix(".py")


def imports(path, *, at_run_time):
    """Absolute names imported by a file; with `at_run_time`, without those that only the type checker sees."""
    tree = ast.parse(path.read_text())
    skipped = set()
    if at_run_time:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped |= {id(child) for statement in node.body for child in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module


@pytest.mark.parametrize("path", list(modules()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path):
    name = own_name(path)
    if name == "__init__":
        return
    for imported in imports(path, at_run_time=True):
        parts = imported.split(".")
        assert parts[0] not in ("callbacks", "datamodules"), f"{imported} is a second copy of the package"
        if parts[0] == "lightning_regimes" and len(parts) > 1:
            assert level(parts[1]) <= level(name), f"{name} imports {imported} from above"
            if name == "callbacks":
                assert parts[1] not in ("modules", "networks", "datamodules"), "callbacks work on foreign modules"
            if name in NUMERICS and parts[1] in NUMERICS and level(name) == level(parts[1]) and name != parts[1]:
                allowed = {("optim", "spectral"), ("landscape", "curvature")}
                assert (name, parts[1]) in allowed, f"{name} and {parts[1]} are independent"
        if name in NUMERICS_AND_PROBE:
            assert parts[0] not in ("lightning", "pytorch_lightning", "wandb"), f"{name} is free of {parts[0]}"


def loaded_after(statement):
    code = f"{statement}\nimport sys, json; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_the_package_loads_not_even_torch():
    assert "torch" not in loaded_after("import lightning_regimes")


def test_importing_the_callbacks_loads_no_heavy_library():
    statement = "import lightning_regimes.callbacks as c\nfor name in c.__all__: getattr(c, name)"
    loaded = loaded_after(statement)
    assert "lightning" in loaded
    assert not loaded.intersection((*HEAVY, "matplotlib.pyplot"))


def test_every_public_name_resolves():
    import importlib

    for package in (
        "",
        ".callbacks",
        ".curvature",
        ".datamodules",
        ".graph",
        ".landscape",
        ".metrics",
        ".modules",
        ".optim",
        ".pde",
        ".regimes",
        ".spectral",
        ".sweep",
        ".theory",
    ):
        module = importlib.import_module(f"lightning_regimes{package}")
        for name in module.__all__:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError):
            _ = module.no_such_name

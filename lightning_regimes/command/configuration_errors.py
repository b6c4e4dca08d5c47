"""Turn jsonargparse's account of every alternative it tried into the one sentence that helps."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable

from lightning_regimes.command.short_names import short_names


def explain(message: str) -> str:
    """Say in one sentence which key or class of a configuration is wrong, and what was probably meant.

    Args:
        message: What the parser raised.
    """
    if option := re.match(r"Subcommand '(\w+)' does not accept option '([\w.]+)'", message):
        return f"there is no option {option[2]!r}{_perhaps(option[2], _trainer_options())}."
    if option := re.match(r"unrecognized arguments: --(\S+)", message):
        name = option[1].partition("=")[0]
        return f"there is no option '--{name}'{_perhaps(name, _trainer_options())}."
    if required := re.match(r"the following arguments are required: (?:\w+\.)?([\w.]+)", message):
        return f"{required[1]!r} is missing; give it in the configuration (-c FILE) or as --{required[1]}."
    if missing := re.search(r"File does not exist: (.*)", message):
        return f"the configuration file {missing[1]} does not exist."
    key = re.match(r'Parser key "([\w.]+)"', message)
    where = f"{key[1]}: " if key else ""
    # The last mention is the innermost class, the one that the option belongs to.
    owners = re.findall(r"Problem with given class_path '([\w.]+)'", message)
    owner = owners[-1] if owners else ""
    name = owner.rpartition(".")[2]
    if option := re.search(r"Option '([\w.]+)' is not accepted", message):
        return f"{where}{name or 'the class'} has no option {option[1]!r}{_perhaps(option[1], _parameters(owner))}."
    if required := re.search(r"the following arguments are required: (.*)", message):
        return f"{where}{name or 'the class'} needs {required[1]}."
    if unknown := re.search(r"Expected a dot import path string: (\S+)", message):
        known = [entry for names in short_names().values() for entry in names]
        remedy = _perhaps(unknown[1], known) or "; give its import path, such as package.module.Class"
        return f"{where}there is no class {unknown[1]!r}{remedy}."
    if failed := re.search(r"(?:ImportError|ModuleNotFoundError|No module named)[^\n]*", message):
        return f"{where}{failed[0]}."
    if nested := re.search(r"NestedArg\(key='([\w.]+)', val='?(.*?)'?\)", message):
        # An option on the command line: what its own type expects stands innermost.
        inner = message[message.rfind(f'Parser key "{nested[1]}"') :]
        choices = re.search(r"typing\.Literal\[(.*?)\]", inner)
        kinds = re.findall(r"Expected an? <class '([\w.]+)'>", inner.partition("- Problem")[0])
        wanted = f"one of {choices[1]}" if choices else _kinds(kinds)
        if wanted:
            return f"{where}{nested[1]}: expected {wanted}, got {nested[2]!r}."
    # What a class says about its own arguments stands among the failures of the alternatives.
    said = [line for line in re.findall(r"^ *- (.+)$", message, re.MULTILINE) if not line.startswith(_PARSERS_WORDS)]
    if said:
        return f"{where}{said[0]}"
    expected = list(dict.fromkeys(re.findall(r"Expected a <class '([\w.]+)'>", message)))
    given = re.search(r"Given value: (.*)", message)
    if expected and given:
        return f"{where}expected {_kinds(expected)}, got {given[1]!r}."
    return " ".join(message.split())


_PARSERS_WORDS = ("Expected ", "Problem with ", "Does not validate", "Not a valid", "Unexpected ", "Parser key ")


def _kinds(kinds: Iterable[str]) -> str:
    return " or ".join("null" if kind == "NoneType" else kind.rpartition(".")[2] for kind in dict.fromkeys(kinds))


def _perhaps(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?".rstrip("?") if near else ""


def _trainer_options() -> list[str]:
    from lightning.pytorch import Trainer

    names = [f"trainer.{name}" for name in inspect.signature(Trainer).parameters]
    return [*names, "trainer", "model", "data", "optimizer", "lr_scheduler", "ckpt_path", "config", "seed_everything"]


def _parameters(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    try:
        return list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    except (ImportError, AttributeError, ValueError, TypeError):
        return []

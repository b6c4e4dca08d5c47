"""Takes suspicious edges out of a graph before anything sees it."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import torch

from lightning_regimes.callbacks.graph_findings import GraphFindings, findings_of
from lightning_regimes.callbacks.graph_fingerprint import graph_fingerprint
from lightning_regimes.callbacks.interrupted_run import last_recorded_step, open_journal
from lightning_regimes.callbacks.training_processes import process_group
from lightning_regimes.processes import Processes
from lightning_regimes.recording import Journal, Record, emit, logged_step

if TYPE_CHECKING:
    from lightning_regimes.graph import KCES


class KCESPreprocessing(L.Callback):
    """Replaces the graph of a datamodule by a sanitized one, before its loaders are made.

    The datamodule holds its graph as ``data``, as PyG's ``LightningNodeData`` with ``loader="full"`` and
    :class:`~lightning_regimes.datamodules.GraphNodes` do, and that of test and predict as ``test_data`` where it is
    another. Of several processes the first scores the edges and the others take its mask. A graph is scored once: the
    mask is kept, also in checkpoints.

    Recorded are, once for each graph, the complexity before and after, the pruned edges, the distribution of the
    scores, the most suspicious edges, and how well attacked edges were found, where the datamodule knows the
    ``clean_edge_index``.

    Args:
        sanitizer: by default ``KCES()``.
        scope: "poisoning" sanitizes the graph of every stage, "evasion" that of test and predict alone.
        keep: leave the sanitized graph in the datamodule when a stage is over; otherwise the given one returns.
        num_edges: rows of the table of the most suspicious edges.

    Raises:
        ValueError: an argument is out of range, or there is no graph to replace.

    References:
        Y. Jia et al., "KCES: Training-free defense for robust graph neural networks via kernel complexity",
        arXiv:2506.11611.
    """

    def __init__(
        self,
        sanitizer: KCES | None = None,
        *,
        scope: Literal["poisoning", "evasion"] = "poisoning",
        keep: bool = False,
        num_edges: int = 20,
    ) -> None:
        if scope not in ("poisoning", "evasion"):
            raise ValueError(f'`scope` is "poisoning" or "evasion", got {scope!r}')
        if num_edges < 1:
            raise ValueError(f"`num_edges` is at least 1, got {num_edges}")
        if sanitizer is None:
            from lightning_regimes.graph import KCES

            sanitizer = KCES()
        self.sanitizer = sanitizer
        self.scope = scope
        self.keep = keep
        self.num_edges = num_edges
        #: Findings by the fingerprint of graph and settings.
        self.findings: dict[str, GraphFindings] = {}
        self._replaced: list[tuple[Any, str, Any]] = []
        self._unrecorded: GraphFindings | None = None
        self._journal: Journal | None = None
        self._restored_directory: str | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Sanitize the graph of this stage, unless that has been done."""
        if stage == "fit" and trainer.global_step == 0:
            self._journal = None
        if self.scope == "evasion" and stage not in ("test", "predict"):
            return
        datamodule = getattr(trainer, "datamodule", None)
        _check_datamodule(datamodule)
        names = ["data"]
        if getattr(datamodule, "test_data", None) is not None:
            if self.scope == "evasion":
                names = ["test_data"]
            elif stage in ("test", "predict"):
                names = ["data", "test_data"]
        for name in names:
            self._sanitize(trainer, datamodule, name)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record what was found, in the journal of the run too."""
        self._record(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record what was found, in a validation of its own."""
        if not trainer.sanity_checking:
            self._record(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record what was found."""
        self._record(trainer, pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record what was found, where there is a logger."""
        self._record(trainer, pl_module)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Give the datamodule its graph back, unless it is to keep the sanitized one."""
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Give the graph back when a stage fails."""
        self._restore()

    def state_dict(self) -> dict[str, Any]:
        """The mask of each graph, with the numbers that belong to it."""
        return {
            "findings": {key: findings.state_dict() for key, findings in self.findings.items()},
            "directory": None if self._journal is None else str(self._journal.directory.absolute()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the masks of a checkpoint that are not known yet."""
        self._restored_directory = state_dict["directory"]
        self._take_over(state_dict)

    def _sanitize(self, trainer: L.Trainer, datamodule: Any, name: str) -> None:
        from lightning_regimes.graph.edge_mask import symmetrized

        given = getattr(datamodule, name)
        if given.get("kces") is not None:
            return
        data = symmetrized(given, self.sanitizer.directed)
        key = graph_fingerprint(data, (type(self.sanitizer).__qualname__, sorted(vars(self.sanitizer).items())))
        if key not in self.findings:
            # Lightning hands over the state only after the loaders' graph is in place.
            self._take_over(_stored_state(trainer, self.state_key))
        processes = Processes(process_group(trainer))
        is_known = all(processes.collect(lambda: key in self.findings))
        if not is_known:
            self.findings[key] = processes.broadcast(lambda: self._score(data, datamodule))
        findings = self.findings[key]
        sanitized = self.sanitizer.apply(data, findings.keep_columns.to(data.edge_index.device))
        sanitized.kces = key
        setattr(datamodule, name, sanitized)
        self._replaced.append((datamodule, name, given))
        self._unrecorded = findings

    def _take_over(self, state_dict: dict[str, Any]) -> None:
        for key, state in state_dict["findings"].items():
            self.findings.setdefault(key, GraphFindings.from_state_dict(state))

    def _score(self, data: Any, datamodule: Any) -> GraphFindings:
        report = self.sanitizer.sanitize(data)
        return findings_of(report, data, getattr(datamodule, "clean_edge_index", None), self.num_edges)

    def _record(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        findings, self._unrecorded = self._unrecorded, None
        if findings is None:
            return
        measurement = findings.measurement()
        record = Record(
            diagnostic="kces",
            step=logged_step(trainer),
            global_step=trainer.global_step,
            epoch=trainer.current_epoch,
            scalars=measurement.scalars,
            text=measurement.text,
            arrays=measurement.arrays,
            context={"scope": self.scope, "sanitizer": repr(self.sanitizer)},
            figures=measurement.figures,
            histograms=measurement.histograms,
            tables=measurement.tables,
        )
        if trainer.training and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if self._journal is None:
                interrupted, self._restored_directory = self._restored_directory, None
                self._journal = open_journal(trainer, interrupted)
            if last_recorded_step(self._journal, "kces") < 0:
                self._journal.append(record)
        emit(trainer, pl_module, record)

    def _restore(self) -> None:
        replaced, self._replaced = self._replaced, []
        self._unrecorded = None
        if not self.keep:
            for datamodule, name, given in reversed(replaced):
                setattr(datamodule, name, given)


def _check_datamodule(datamodule: Any) -> None:
    data = getattr(datamodule, "data", None)
    if data is None or not hasattr(data, "edge_index") or not callable(getattr(data, "get", None)):
        raise ValueError(
            "`datamodule` of the trainer holds one graph as its `data` for KCESPreprocessing, as GraphNodes and PyG's "
            f"LightningNodeData do, got {type(datamodule).__name__} without one"
        )
    if getattr(datamodule, "graph_sampler", None) is not None:
        raise ValueError(
            f"`datamodule` has a sampler with a copy of the graph, which KCESPreprocessing cannot replace: make "
            f'{type(datamodule).__name__} with loader="full", or apply the sanitizer to the graph first'
        )


def _checkpoint_ahead(trainer: L.Trainer) -> Any:
    # Lightning tells nobody before `setup` is over, and later loaders may exist: some optimizers ask for their length.
    # Where it is not found, the graph is scored again, with the same result.
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "_run" and frame.f_locals.get("self") is trainer:
            return frame.f_locals.get("ckpt_path")
        frame = frame.f_back
    return None


def _stored_state(trainer: L.Trainer, state_key: str) -> dict[str, Any]:
    """Return this callback's part of the checkpoint that the trainer is about to load, empty where there is none."""
    nothing: dict[str, Any] = {"findings": {}}
    path = _checkpoint_ahead(trainer)
    if path is None or not Path(path).is_file():
        return nothing
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        warnings.warn(
            f"KCESPreprocessing scores the graph again, since {path} does not open without trusting it: "
            f"{type(error).__name__}",
            stacklevel=2,
        )
        return nothing
    state: dict[str, Any] = checkpoint.get("callbacks", {}).get(state_key, nothing)
    return state

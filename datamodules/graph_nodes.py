"""One graph whose nodes are classified, whole or in sampled parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from lightning_regimes.datamodules.graph_source import GraphSource
from lightning_regimes.datamodules.neighbor_sampling import NeighborSampler
from lightning_regimes.datamodules.stochastic_block_model import StochasticBlockModel

_MASKS = ("train_mask", "val_mask", "test_mask")


class GraphNodes(L.LightningDataModule):
    """One graph from a source, attacked and sanitized as asked, as a single batch or in sampled parts.

    Without a split of the source's own, or with ``split="random"``, nodes are split class by class.

    Args:
        source: where the graph comes from, by default a :class:`StochasticBlockModel`.
        transform: applied to the graph first, such as ``torch_geometric.transforms.NormalizeFeatures``.
        attack: applied next; see :mod:`lightning_regimes.graph`.
        attack_scope: "poisoning" attacks the graph of all stages, "evasion" that of test and predict alone.
        sanitizer: applied last, to every graph that is attacked, and to the graph where there is no attack.
        split: "given" takes the source's three masks, or splits where it has none; "random" always splits.
        train_fraction: share of each class to train on.
        val_fraction: share of each class to validate on; the rest is for testing.
        num_neighbors: train on parts of the graph, with up to so many incoming edges of a node in each layer, −1 for
            all; by default on the whole graph. Evaluation sees the whole graph.
        batch_size: seed nodes of a part.
        seed: of the split.

    Attributes:
        data: the graph, once it is set up.
        test_data: the graph of test and predict where it differs, otherwise none.
        clean_edge_index: the edges before an attack, where there was one and they are known; not those of the source
            once ``transform`` has taken nodes out.

    Raises:
        ValueError: an argument is out of range, or the graph has no features, labels or nodes to train on.
    """

    def __init__(
        self,
        source: GraphSource | None = None,
        *,
        transform: BaseTransform | None = None,
        attack: BaseTransform | None = None,
        attack_scope: Literal["poisoning", "evasion"] = "poisoning",
        sanitizer: BaseTransform | None = None,
        split: Literal["given", "random"] = "given",
        train_fraction: float = 0.1,
        val_fraction: float = 0.1,
        num_neighbors: list[int] | None = None,
        batch_size: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if attack_scope not in ("poisoning", "evasion"):
            raise ValueError(f'`attack_scope` is "poisoning" or "evasion", got {attack_scope!r}')
        if split not in ("given", "random"):
            raise ValueError(f'`split` is "given" or "random", got {split!r}')
        if not (train_fraction > 0 and val_fraction > 0 and train_fraction + val_fraction < 1):
            raise ValueError(
                "`train_fraction` and `val_fraction` are positive and leave something to test on, got "
                f"{train_fraction} and {val_fraction}"
            )
        if batch_size < 1:
            raise ValueError(f"`batch_size` is at least 1, got {batch_size}")
        self.source = source or StochasticBlockModel()
        self.transform = transform
        self.attack = attack
        self.attack_scope = attack_scope
        self.sanitizer = sanitizer
        self.split = split
        self.train_fraction = train_fraction
        self.val_fraction = val_fraction
        self.num_neighbors = num_neighbors
        self.batch_size = batch_size
        self.seed = seed
        self.data: Data | None = None
        self.test_data: Data | None = None
        self.clean_edge_index: Tensor | None = None

    def setup(self, stage: str) -> None:
        """Load, split, attack and sanitize the graph, once."""
        if self.data is not None:
            return
        loaded = self.source.load()
        graph = self._checked(loaded.data)
        graph = self._with_masks(graph)
        if self.transform is not None:
            graph = self.transform(graph)
        # Where the transform takes nodes out, the numbers in the source's edges are those of others.
        is_numbered_alike = graph.num_nodes == loaded.data.num_nodes
        self.clean_edge_index = loaded.clean_edge_index if is_numbered_alike else None
        attacked = graph
        if self.attack is not None:
            if loaded.clean_edge_index is None:
                self.clean_edge_index = graph.edge_index
            attacked = self.attack(graph)
        evasion = self.attack is not None and self.attack_scope == "evasion"
        if self.sanitizer is not None:
            attacked = self.sanitizer(attacked)
        self.data = graph if evasion else attacked
        self.test_data = attacked if evasion else None

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the graph, or shuffled parts around its training nodes."""
        data = self._ready("fit")
        if self.num_neighbors is None:
            return _whole(data)
        seeds = torch.nonzero(data.train_mask).flatten().tolist()
        sampler = NeighborSampler(data, self.num_neighbors)
        return DataLoader(cast("Dataset[int]", seeds), batch_size=self.batch_size, shuffle=True, collate_fn=sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the graph."""
        return _whole(self._ready("validate"))

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the graph of the test."""
        return _whole(self._ready("test"))

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the graph of the test."""
        return self.test_dataloader()

    def _ready(self, stage: str) -> Data:
        data = self.test_data if stage == "test" and self.test_data is not None else self.data
        if data is None:
            raise RuntimeError("GraphNodes has no graph before `setup`")
        return _tensors_of(data)

    @staticmethod
    def _checked(data: Data) -> Data:
        for name in ("x", "y", "edge_index"):
            if data.get(name) is None:
                raise ValueError(f"`source` gives a graph with `x`, `y` and `edge_index`, got none as `{name}`")
        if data.y.shape != (data.num_nodes,):
            raise ValueError(f"`source` gives one label a node, got `y` of shape {tuple(data.y.shape)}")
        if data.y.is_floating_point():
            raise ValueError(f"`source` gives labels `y` that are integers, got {data.y.dtype}")
        return data

    def _with_masks(self, data: Data) -> Data:
        data = data.clone()
        data.x = data.x.to(torch.get_default_dtype())
        missing = [name for name in _MASKS if data.get(name) is None]
        if self.split == "given" and 0 < len(missing) < len(_MASKS):
            raise ValueError(
                f"`source` gives all of {', '.join(_MASKS)} or none, got none as {' and '.join(missing)}; "
                '`split="random"` makes new ones, and may train on nodes that the source tests on'
            )
        if self.split == "random" or missing:
            masks = split_by_class(data.y, (self.train_fraction, self.val_fraction), seed=self.seed)
            for name, mask in zip(_MASKS, masks, strict=True):
                data[name] = mask
        for name in _MASKS:
            mask = data[name]
            if mask.dtype != torch.bool or mask.shape != data.y.shape:
                raise ValueError(
                    f"`source` gives a boolean `{name}` of shape {tuple(data.y.shape)}, got {mask.dtype} "
                    f"{tuple(mask.shape)}"
                )
            data[name] = mask & (data.y >= 0)
        for name in ("train_mask", "val_mask"):
            if not bool(data[name].any()):
                raise ValueError(f"`source` gives a graph with labelled nodes in `{name}`, got none")
        return data


def split_by_class(labels: Tensor, fractions: Sequence[float], *, seed: int = 0) -> list[Tensor]:
    """Return disjoint masks with these shares of each class, and one with the rest.

    A class gives at least one node to each share as long as it has some; nodes with a negative label are in no mask.

    Args:
        labels: (n,) integers.
        fractions: of each class.
        seed: of the private generator.
    """
    generator = torch.Generator().manual_seed(seed)
    masks = [torch.zeros_like(labels, dtype=torch.bool) for _ in range(len(fractions) + 1)]
    for label in torch.unique(labels[labels >= 0]):
        members = torch.nonzero(labels == label).flatten()
        members = members[torch.randperm(members.numel(), generator=generator)]
        for fraction, mask in zip(fractions, masks, strict=False):
            number = max(round(fraction * int((labels == label).sum())), 1)
            mask[members[:number]] = True
            members = members[number:]
        masks[-1][members] = True
    return masks


def _whole(data: Data) -> DataLoader[Any]:
    return DataLoader([data], batch_size=1, collate_fn=_only)  # type: ignore[arg-type]


def _only(graphs: list[Data]) -> Data:
    return graphs[0]


def _tensors_of(data: Data) -> Data:
    """Return the graph without reports of attacks and sanitizers, which no step needs."""
    batch = Data()
    for name, value in data.items():
        if isinstance(value, Tensor):
            batch[name] = value
    return batch

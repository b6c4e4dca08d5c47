"""Accuracy of graph networks on attacked graphs, with and without a defence: the tables of docs/graphs.md.

Each row is one graph, poisoned, and one way to take out edges before training. Networks have two layers of 16 hidden
features (GAT: 8 heads of 8) and dropout 0.5; they train for 200 epochs of Adam with rate 0.01 and an L2 penalty of
5e-4, and are tested with the weights of the best validation accuracy.

    python examples/graph_defences.py FOLDER --rates 0 0.1 0.2 --networks GCN --seeds 3 --results defences.jsonl

FOLDER holds the files that ``RobustnessGraph`` describes. Results are written as they come, one JSON object a line:
the mean and deviation over the seeds in per cent, and the area under the curve by which a score tells added edges. What
``--results`` holds already is not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from lightning_regimes.datamodules import RobustnessGraph
from lightning_regimes.graph import DICE, PRBCD, JaccardPrune, KCResult, LowRankSVD, RandomEdges, kc_scores
from lightning_regimes.graph.complexity_solver import Solver
from lightning_regimes.graph.detection import detect, operating_curve
from lightning_regimes.graph.edge_mask import edges_of, keep_columns
from lightning_regimes.graph.edge_suspicion import Score, has_informative_features, rank_together
from lightning_regimes.graph.pruning_ratio import pruned, validation_curve
from lightning_regimes.graph.target_source import LabelSource
from lightning_regimes.networks import GraphNetwork


@dataclass(frozen=True)
class Defence:
    """The share of the edges that a score doubts most goes first, then what a transform takes out.

    Without a share, it is chosen by the validation accuracy of the kernel, and is 0.05 or more.
    """

    score: Score | None = None
    ratio: float | None = None
    transform: BaseTransform | None = None


DEFENCES = {
    "none": Defence(),
    "Jaccard": Defence(transform=JaccardPrune(0.01)),
    "SVD": Defence(transform=LowRankSVD(50)),
    "KCES 0.1": Defence("combined", 0.1),
    "KCES 0.2": Defence("combined", 0.2),
    "KCES chosen": Defence("combined"),
    "KCES signed 0.2": Defence("signed", 0.2),
    "KCES signed 0.3": Defence("signed", 0.3),
    "KCES similarity 0.2": Defence("combined+cosine+agreement", 0.2),
    "KCES similarity 0.3": Defence("combined+cosine+agreement", 0.3),
    "KCES similarity chosen": Defence("combined+cosine+agreement"),
    "KCES 0.2, Jaccard": Defence("combined", 0.2, JaccardPrune(0.01)),
}

#: These cannot do without features that tell nodes apart.
NEED_FEATURES = ("Jaccard", "signed", "similarity")

#: What a row says besides what it is about.
MEASURED = ("accuracy", "deviation", "seeds", "auc", "solver", "pruned", "seconds")

ATTACKS = ("metattack", "nettack", "prbcd", "dice", "random")

NETWORKS: dict[str, dict[str, Any]] = {
    "GCN": {},
    "GAT": {"convolution_options": {"heads": 8}, "hidden_features": 64},
    "GraphSAGE": {},
    "GIN": {},
}


def attacked_graph(options: argparse.Namespace, rate: float) -> tuple[Data, torch.Tensor]:
    """Return a graph from its file, or a clean one that is attacked now, and the edges before the attack."""
    stored = options.attack if rate and options.attack in ("metattack", "nettack") else None
    source = RobustnessGraph(folder=options.folder, name=options.name, attack=stored, rate=rate if stored else 0.0)
    loaded = source.load()
    data = loaded.data
    if stored is not None:
        assert loaded.clean_edge_index is not None
        if stored == "nettack":
            nodes = json.loads(Path(options.folder, f"{options.name}_nettacked_nodes.json").read_text())
            data.test_mask = torch.zeros_like(data.test_mask)
            data.test_mask[nodes["attacked_test_nodes"]] = True
        return data, loaded.clean_edge_index
    if not rate:
        return data, data.edge_index
    attacks: dict[str, BaseTransform] = {
        "prbcd": PRBCD(
            rate,
            loss=options.attack_loss,
            epochs=options.attack_epochs,
            block_size=options.block_size,
            kernel_penalty=options.penalty,
            kernel_labels=options.penalty_labels,
            seed=options.attack_seed,
        ),
        "dice": DICE(rate, seed=options.attack_seed),
        "random": RandomEdges(rate, seed=options.attack_seed),
    }
    settings = (options.name, options.attack, rate, *attack_settings(options).values())
    file = None if options.keep is None else Path(options.keep, "_".join(map(str, settings)) + ".pt")
    if file is None or not file.is_file():
        attacked = attacks[options.attack](data)
        if file is None:
            return attacked, data.edge_index
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(attacked.edge_index, file)
    attacked = data.clone()
    attacked.edge_index = torch.load(file)
    return attacked, data.edge_index


def attack_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return what an attack that is made now depends on besides its rate."""
    settings: dict[str, Any] = {"attack_seed": options.attack_seed}
    if options.attack == "prbcd":
        settings |= {"attack_loss": options.attack_loss}
        settings |= {"attack_epochs": options.attack_epochs, "block_size": options.block_size}
        settings |= {"penalty": options.penalty, "penalty_labels": options.penalty_labels} if options.penalty else {}
    return settings


class ScoredGraph:
    """A graph and the scores of its edges, which are computed when a defence asks for them, and once."""

    def __init__(self, data: Data, clean_edge_index: torch.Tensor, solver: Solver) -> None:
        self.data, self.clean_edge_index, self.solver = data, clean_edge_index, solver
        self.edges = edges_of(data)
        self.results: dict[str, KCResult] = {}

    def suspicion(self, score: Score) -> torch.Tensor:
        """Return how much each edge is doubted; without real features the magnitude on training labels stands in."""
        data = self.data
        sources: tuple[LabelSource, ...] = ("train", "pseudo")
        if not score.startswith("combined"):
            sources = ("train",) if score == "absolute" else ("pseudo",)
        if not has_informative_features(data.x):
            score, sources = "absolute", ("train",)
        for source in sources:
            if source not in self.results:
                solver = self.solver if source == "pseudo" else "exact"
                arguments = (data.edge_index, data.x, data.y, data.train_mask)
                self.results[source] = kc_scores(*arguments, labels=source, solver=solver)
        return rank_together(self.results, data.x, data.y, data.train_mask, score=score, labels=sources[0])

    def defended(self, defence: Defence) -> tuple[Data, float | None]:
        """Return the graph that a network is to train on, and how well added edges were told."""
        data, auc = self.data, None
        if defence.score is not None:
            doubt = self.suspicion(defence.score)
            masks = (data.x, data.y, data.train_mask, data.val_mask)
            ratio = defence.ratio
            if ratio is None:
                ratio = validation_curve(self.edges, doubt, *masks, min_ratio=0.05, max_ratio=0.4).best()
            keep = pruned(self.edges.num_edges, ratio, doubt)
            auc = detect(self.edges.pairs, doubt, keep, self.clean_edge_index, len(data.y)).auc
            data = keep_columns(data, self.edges.columns(keep))
        return (data if defence.transform is None else defence.transform(data)), auc


#: The curves of the figure.
DRAWN: dict[str, Score] = {
    "size on training labels": "absolute",
    "signed, on guessed labels": "signed",
    "both (combined)": "combined",
    "both, and similarity": "combined+cosine+agreement",
}


def draw(scored: ScoredGraph, file: Path) -> None:
    """Draw how an attack's edges are scored, and how well several scores tell them from those of the clean graph."""
    from matplotlib.figure import Figure

    pairs, count = scored.edges.pairs, len(scored.data.y)
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, score in DRAWN.items():
        values = scored.suspicion(score)
        keep = pruned(scored.edges.num_edges, 0.2, values)
        found = detect(pairs, values, keep, scored.clean_edge_index, count)
        if score == "combined+cosine+agreement":
            kinds = [values[~found.is_added].numpy(), values[found.is_added].numpy()]
            left.hist(kinds, bins=50, histtype="step", label=["of the clean graph", "added by the attack"])
        false, true = operating_curve(values, found.is_added)
        (line,) = right.plot(false.numpy(), true.numpy(), label=f"{name}: {found.auc:.3f}")
        share = float((~keep & ~found.is_added).sum() / (~found.is_added).sum())
        right.plot([share], [found.recall], "o", color=line.get_color())
    left.set(xlabel="suspicion, with similarity", ylabel="edges")
    left.legend(fontsize="small")
    right.set(xlabel="share of the clean edges that go", ylabel="share of the added edges that go")
    title = "area under the curve; dots: 20 % pruned"
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, fontsize="small", title=title)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def accuracy(data: Data, network: str, seed: int) -> float:
    """Return the test accuracy of one training."""
    torch.manual_seed(seed)
    model = GraphNetwork(data.num_features, int(data.y.max()) + 1, convolution=network, **NETWORKS[network])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    weights = data.get("edge_weight")
    best, kept = -1.0, copy.deepcopy(model.state_dict())
    for _ in range(200):
        model.train()
        optimizer.zero_grad()
        logits = model(data.x, data.edge_index, weights)
        F.cross_entropy(logits[data.train_mask], data.y[data.train_mask]).backward()
        optimizer.step()
        share = evaluate(model, data, data.val_mask)
        if share > best:
            best, kept = share, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return evaluate(model, data, data.test_mask)


@torch.no_grad()
def evaluate(model: GraphNetwork, data: Data, mask: torch.Tensor) -> float:
    """Return the share of right labels among some nodes."""
    model.eval()
    predicted = model(data.x, data.edge_index, data.get("edge_weight")).argmax(dim=-1)
    return float((predicted == data.y)[mask].double().mean())


def rows(options: argparse.Namespace, finished: set[str]) -> Iterator[dict[str, Any]]:
    """Train every combination that was asked for and is not finished; yield its row of the table."""
    for rate in options.rates:
        head = {"graph": options.name, "attack": options.attack if rate else "none", "rate": rate}
        if rate and options.attack in ("prbcd", "dice", "random"):
            head |= attack_settings(options)
        wanted = [
            {**head, "defence": defence, "network": network}
            for defence in options.defences
            for network in options.networks
            if defence != "SVD" or network == "GCN"
        ]
        wanted = [row for row in wanted if json.dumps(row) not in finished]
        if not wanted and options.figure is None:
            continue
        graph, clean_edge_index = attacked_graph(options, rate)
        scored = ScoredGraph(graph, clean_edge_index, options.solver)
        if options.figure is not None:
            draw(scored, options.figure)
        for row in wanted:
            if not has_informative_features(graph.x) and any(word in row["defence"] for word in NEED_FEATURES):
                continue
            defence = DEFENCES[row["defence"]]
            start = time.perf_counter()
            data, auc = scored.defended(defence)
            seconds = time.perf_counter() - start
            values = 100 * torch.tensor([accuracy(data, row["network"], seed) for seed in range(options.seeds)])
            row |= {"accuracy": round(float(values.mean()), 2)}
            row |= {"deviation": round(float(values.std()), 2) if len(values) > 1 else 0.0, "seeds": options.seeds}
            if auc is not None:
                row |= {"auc": round(auc, 3) if rate else None, "solver": options.solver}
            pruned_share = 1 - data.edge_index.shape[1] / graph.edge_index.shape[1]
            yield {**row, "pruned": round(pruned_share, 3), "seconds": round(seconds, 1)}


def main() -> None:
    """Write the rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder")
    parser.add_argument("--name", default="cora")
    parser.add_argument("--attack", default="metattack", choices=ATTACKS)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.1, 0.2])
    parser.add_argument("--attack-seed", type=int, default=0, help="of an attack that is made now")
    parser.add_argument("--keep", type=Path, help="folder for attacks that are made now, to be read the next time")
    parser.add_argument("--attack-loss", default="prob_margin", choices=["prob_margin", "tanh_margin"])
    parser.add_argument("--attack-epochs", type=int, default=125, help="steps of PRBCD")
    parser.add_argument("--block-size", type=int, default=250_000, help="of PRBCD")
    parser.add_argument("--penalty", type=float, default=0.0, help="of the complexity in PRBCD's loss")
    parser.add_argument("--penalty-labels", default="train", choices=["train", "pseudo"])
    parser.add_argument("--defences", nargs="+", default=list(DEFENCES), choices=list(DEFENCES))
    parser.add_argument("--networks", nargs="+", default=["GCN"], choices=list(NETWORKS))
    parser.add_argument("--solver", default="auto", choices=["auto", "nystrom"], help="of the scores on pseudo-labels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figure", type=Path, help="file to draw the detection of the last rate's attack into")
    parser.add_argument("--results", type=Path, help="file that rows are added to, instead of standard output")
    options = parser.parse_args()
    finished = set()
    if options.results is not None and options.results.is_file():
        for line in options.results.read_text().splitlines():
            row = json.loads(line)
            finished.add(json.dumps({name: value for name, value in row.items() if name not in MEASURED}))
    for row in rows(options, finished):
        line = json.dumps(row)
        if options.results is None:
            print(line, flush=True)
        else:
            with options.results.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()

"""The vocabulary: every key that a diagnostic may record, with its unit, its direction and what it means."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

Direction = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Quantity:
    """One entry of the vocabulary.

    Attributes:
        key: ``diagnostic/quantity``; ``{i}`` stands for a positive integer, ``{name}`` for a name.
        unit: Unit of the value; empty for a pure number.
        direction: Which way is better, ``"neither"`` where neither is.
        meaning: What the value says, as one sentence without a full stop.
    """

    key: str
    unit: str
    direction: Direction
    meaning: str


def _cost(diagnostic: str) -> tuple[Quantity, ...]:
    return (
        Quantity(f"{diagnostic}/seconds", "s", "lower", "wall time of this measurement"),
        Quantity(
            f"{diagnostic}/overhead", "", "lower", "time spent on this diagnostic so far over time spent training"
        ),
    )


_SMAD_VARIANTS: tuple[tuple[str, str, Direction], ...] = (
    ("merge_tree", "mean height of the first pass above each minimum, by the merge tree", "lower"),
    ("persistence", "mean persistence of the minima but the lowest", "lower"),
    (
        "contour_tree",
        "mean height of the next node of the contour tree above each minimum; grows with curvature and span",
        "neither",
    ),
)

_QUANTITIES = (
    # Curvature of the training loss.
    Quantity("hessian/lambda_{i}", "loss", "neither", "i-th largest eigenvalue of the Hessian of the training loss"),
    Quantity("hessian/lambda_min", "loss", "neither", "smallest (most negative) eigenvalue of the Hessian"),
    Quantity("hessian/lambda_min_residual", "loss", "lower", "‖Hv − λv‖ of the smallest eigenpair: its error bound"),
    Quantity("hessian/trace", "loss", "neither", "trace of the Hessian, the sum of all its eigenvalues"),
    Quantity("hessian/trace_standard_error", "loss", "lower", "standard error of the estimated trace"),
    Quantity(
        "hessian/sharpness_ratio",
        "",
        "neither",
        "sharpness over the optimizer's stability threshold: near 1 is the edge of stability, above it the step is too "
        "large",
    ),
    Quantity(
        "hessian/stability_threshold",
        "loss",
        "neither",
        "curvature above which the optimizer's step diverges on a quadratic (2/η for gradient descent)",
    ),
    Quantity(
        "hessian/preconditioned_lambda_1",
        "",
        "neither",
        "largest eigenvalue of the Hessian between the optimizer's own preconditioners: the sharpness that Adam meets",
    ),
    Quantity(
        "hessian/preconditioned_stability_threshold",
        "",
        "neither",
        "preconditioned sharpness above which the step diverges on a quadratic ((2 + 2 β₁) / ((1 - β₁) η) for Adam)",
    ),
    Quantity(
        "hessian/row_block_share",
        "",
        "neither",
        "share of the squared Hessian of the weight matrices that lies within their rows",
    ),
    Quantity("hessian/row_block_share_standard_error", "", "lower", "standard error of that share"),
    Quantity("hessian/row_blocks", "", "neither", "the share of the row blocks of each weight matrix, as a table"),
    Quantity("hessian/theory_eigenvalues", "loss", "neither", "the largest eigenvalues by the module's own theory"),
    Quantity("hessian/dominant_mean", "loss", "neither", "mean of the eigenvalues that theory counts as dominant"),
    Quantity("hessian/bulk_mean", "loss", "neither", "mean of the eigenvalues that theory counts as the bulk"),
    Quantity("hessian/bifurcation_ratio", "", "neither", "mean of the dominant eigenvalues over that of the bulk"),
    Quantity("hessian/theory_bifurcation_ratio", "", "neither", "the same ratio by the module's own theory"),
    Quantity("hessian/row_blocks_shown", "", "neither", "picture of the share of the row blocks"),
    Quantity("hessian/gap_index", "", "neither", "number of eigenvalues above the widest gap of the spectrum"),
    Quantity("hessian/gap_ratio", "", "neither", "λ just above the widest gap over λ just below it"),
    Quantity(
        "hessian/negative_ratio",
        "",
        "lower",
        "|λ_min| / |λ₁|: how far from a minimum the weights are, 0 where the Hessian is positive semidefinite",
    ),
    Quantity("hessian/residual_max", "", "lower", "largest ‖Hv − λv‖ / |λ| among the reported eigenpairs"),
    Quantity("hessian/converged", "", "higher", "1 where all reported eigenpairs met the tolerance, else 0"),
    Quantity("hessian/num_matvecs", "", "lower", "Hessian-vector products spent on this measurement"),
    Quantity("hessian/eigenvalues", "loss", "neither", "the reported eigenvalues, largest first"),
    Quantity("hessian/eigenpairs", "", "neither", "the reported eigenvalues with their relative residuals, as a table"),
    Quantity("hessian/spectrum", "", "neither", "picture of the reported eigenvalues"),
    Quantity("hessian/spectra", "", "neither", "chart of the reported eigenvalues, a line a step"),
    Quantity("hessian/spectra_table", "loss", "neither", "the numbers behind that chart"),
    Quantity("hessian/density_nodes", "loss", "neither", "Ritz values of each random start, all eigenvalues in brief"),
    Quantity("hessian/density_weights", "", "neither", "share of the spectrum that each Ritz value stands for"),
    Quantity("hessian/density_grid", "loss", "neither", "eigenvalues at which the density is evaluated"),
    Quantity("hessian/density", "", "neither", "density of all eigenvalues over their signed logarithm"),
    Quantity("hessian/density_standard_error", "", "lower", "standard error of the density over the random starts"),
    Quantity("hessian/density_map", "", "neither", "picture of the density over training"),
    Quantity("hessian/lambda_1_of_{name}", "loss", "neither", "largest Ritz value of the loss term {name}"),
    Quantity("hessian/trace_of_{name}", "loss", "neither", "trace of the Hessian of the loss term {name}"),
    Quantity("hessian/trace_standard_error_of_{name}", "loss", "lower", "standard error of the trace of {name}"),
    Quantity("hessian/component_density_nodes", "loss", "neither", "Ritz values for each term of the loss"),
    Quantity("hessian/component_density_weights", "", "neither", "share of a term's spectrum for each Ritz value"),
    Quantity("hessian/component_density_grid", "loss", "neither", "eigenvalues at which these densities are evaluated"),
    Quantity("hessian/component_density", "", "neither", "density of the eigenvalues of each term of the loss"),
    Quantity(
        "hessian/component_density_standard_error", "", "lower", "standard errors of these densities over the starts"
    ),
    Quantity("hessian/components", "", "neither", "extreme eigenvalues and trace of each term of the loss, as a table"),
    *_cost("hessian"),
    # Gradient and update beside the dominant eigenvectors.
    Quantity("alignment/theta", "", "neither", "θ: share of the full gradient's square in the dominant eigenvectors"),
    Quantity("alignment/chi", "", "neither", "square root of θ"),
    Quantity("alignment/chance", "", "neither", "θ of a random direction"),
    Quantity("alignment/theta_batch", "", "neither", "θ of the gradients of single batches, on average"),
    Quantity("alignment/theta_update", "", "neither", "θ of the optimizer's update after the measurement"),
    Quantity("alignment/predicted_theta", "", "neither", "θ of the next gradient in the quadratic model"),
    Quantity("alignment/critical_step_size", "", "neither", "η*: smaller SGD steps turn away from that subspace"),
    Quantity(
        "alignment/critical_loss_step_size_dominant",
        "",
        "neither",
        "step size above which a step within the dominant subspace raises the expected loss",
    ),
    Quantity(
        "alignment/critical_loss_step_size_bulk",
        "",
        "neither",
        "step size above which a step within the bulk raises the expected loss",
    ),
    Quantity("alignment/step_size", "", "neither", "learning rate of plain SGD, to be held against the thresholds"),
    Quantity("alignment/suspicious", "", "lower", "1 where θ is high while dominant steps raise the loss, else 0"),
    Quantity("alignment/predicted_change_dominant", "loss", "lower", "loss change by the dominant part of the update"),
    Quantity("alignment/predicted_change_bulk", "loss", "lower", "loss change by the rest of the update"),
    Quantity("alignment/realized_change", "loss", "lower", "loss change that the update brought on these batches"),
    Quantity(
        "alignment/realized_change_dominant", "loss", "lower", "measured loss change by the dominant part of the update"
    ),
    Quantity("alignment/realized_change_bulk", "loss", "lower", "measured loss change by the rest of the update"),
    Quantity("alignment/overlap", "", "neither", "overlap of the dominant subspace with that of the last measurement"),
    Quantity("alignment/theory_theta", "", "neither", "θ that the module's own theory expects SGD to settle at"),
    Quantity("alignment/theory_critical_step_size", "", "neither", "η* at this point by the module's own theory"),
    Quantity("alignment/phase", "", "neither", "whether alignment is high, or low and rising or decreasing"),
    Quantity("alignment/shares", "", "neither", "share of the gradient in each dominant eigenvector"),
    Quantity("alignment/history", "", "neither", "picture of θ over training"),
    Quantity("alignment/num_matvecs", "", "lower", "Hessian-vector products spent on this measurement"),
    *_cost("alignment"),
    # Training with projected updates.
    Quantity("projection/train_loss", "loss", "lower", "training loss on the batches that the eigenvectors belong to"),
    Quantity("projection/chi", "", "neither", "χ: norm of the full gradient's dominant part over that of the gradient"),
    Quantity("projection/chi_average", "", "neither", "moving average of χ from zero, which decides when to project"),
    Quantity("projection/active", "", "neither", "1 where updates are projected, else 0"),
    Quantity("projection/lambda_1", "loss", "neither", "largest eigenvalue of the Hessian"),
    Quantity("projection/lambda_k", "loss", "neither", "smallest eigenvalue that counts as dominant"),
    Quantity("projection/converged", "", "higher", "1 where all eigenvectors met the tolerance, else 0"),
    Quantity("projection/num_matvecs", "", "lower", "Hessian-vector products spent on these eigenvectors"),
    *_cost("projection"),
    # The loss on a grid through the weights, and its topology.
    Quantity("landscape/values", "loss", "neither", "the loss on the grid, one dimension an axis"),
    Quantity(
        "landscape/axis_{i}", "", "neither", "i-th axis of the grid: coordinates in units of ‖θ‖ or of the direction"
    ),
    Quantity(
        "landscape/direction_{i}", "loss", "neither", "i-th eigenvalue of the Hessian, along the axis of that number"
    ),
    Quantity("landscape/span", "", "neither", "half-width of the grid, in the units of its axes"),
    Quantity("landscape/points", "", "neither", "points on each axis of the grid"),
    Quantity("landscape/center_loss", "loss", "lower", "loss at the weights, the center of the grid"),
    Quantity("landscape/range", "loss", "neither", "highest minus lowest finite loss on the grid"),
    Quantity("landscape/num_nonfinite", "", "lower", "points of the grid at which the loss is NaN or infinite"),
    *(
        quantity
        for variant, meaning, direction in _SMAD_VARIANTS
        for quantity in (
            Quantity(f"landscape/smad_{variant}", "loss", direction, meaning),
            Quantity(
                f"landscape/smad_{variant}_normalized", "", direction, "the same over the range of the loss on the grid"
            ),
            Quantity(
                f"landscape/smad_{variant}_half",
                "loss",
                "neither",
                "the same on every second point of each axis: a large difference is owed to the grid",
            ),
        )
    ),
    Quantity("landscape/aliased", "", "lower", "1 where SMAD differs by more than 30 % on every second point, else 0"),
    Quantity("landscape/num_minima", "", "lower", "minima of the loss on the grid"),
    Quantity("landscape/num_minima_half", "", "neither", "minima on every second point of each axis"),
    Quantity(
        "landscape/persistence_max", "loss", "lower", "how far the deepest minimum but the lowest lies below its pass"
    ),
    Quantity(
        "landscape/persistence_pairs", "loss", "neither", "birth and death of each component of the sublevel sets"
    ),
    Quantity("landscape/persistence_pairs_1", "loss", "neither", "birth and death of each loop of the sublevel sets"),
    Quantity(
        "landscape/bottleneck", "loss", "neither", "bottleneck distance of the components' diagram from that before it"
    ),
    Quantity(
        "landscape/wasserstein",
        "loss",
        "neither",
        "Wasserstein distance of the components' diagram from that before it",
    ),
    Quantity("landscape/trajectory", "", "neither", "coordinates on the axes of the points that training went through"),
    Quantity("landscape/trajectory_steps", "steps", "neither", "steps at which training was at these points"),
    Quantity("landscape/surface", "", "neither", "picture of the loss as a surface, or a line on a single axis"),
    Quantity("landscape/contour", "", "neither", "picture of the loss by contours, with the path of the training"),
    Quantity("landscape/persistence_diagram", "", "neither", "picture of births and deaths in the sublevel sets"),
    Quantity("landscape/merge_tree", "", "neither", "picture of how the basins merge as the level rises"),
    Quantity("landscape/profile", "", "neither", "picture of the nested basins, as wide as they hold points"),
    Quantity("landscape/smad_history", "", "neither", "picture of SMAD over training"),
    Quantity("landscape/num_evaluations", "", "lower", "evaluations of the loss spent on this measurement"),
    Quantity("landscape/num_matvecs", "", "lower", "Hessian-vector products spent on the axes"),
    *_cost("landscape"),
    # Paths to another solution.
    Quantity(
        "connectivity/barrier", "loss", "lower", "highest loss on the line to the other solution above the ends' mean"
    ),
    Quantity(
        "connectivity/barrier_position", "", "neither", "where on that line, from 0 here to 1 there, it is highest"
    ),
    Quantity(
        "connectivity/mode_connectivity",
        "loss",
        "neither",
        "mean of the ends minus the loss where a path differs most: negative is a barrier, near 0 a connection",
    ),
    Quantity("connectivity/positions", "", "neither", "positions on line and curve, from 0 here to 1 there"),
    Quantity("connectivity/losses", "loss", "neither", "loss at these positions on the straight line"),
    Quantity("connectivity/curve_losses", "loss", "neither", "loss at these positions on the curve that was trained"),
    Quantity("connectivity/path", "", "neither", "picture of the loss on the way to the other solution"),
    Quantity("connectivity/num_evaluations", "", "lower", "evaluations of the loss spent on this measurement"),
    *_cost("connectivity"),
    # Representations beside those of another network.
    Quantity(
        "similarity/cka_{name}",
        "",
        "neither",
        "centred kernel alignment of the layer {name}, 1 for the same up to rotation",
    ),
    Quantity("similarity/cka_mean", "", "neither", "mean of the centred kernel alignment over the layers"),
    Quantity("similarity/cka", "", "neither", "centred kernel alignment of each layer, or of all pairs"),
    Quantity("similarity/layers", "", "neither", "picture of the alignment of the layers"),
    Quantity("similarity/layers_table", "", "neither", "the alignment of each layer, as a table"),
    Quantity("similarity/num_evaluations", "", "lower", "passes through a network spent on this measurement"),
    *_cost("similarity"),
    # Spectra of the weights.
    Quantity("heavy_tail/alpha_mean", "", "neither", "mean exponent of the tails of the weights' eigenvalues"),
    Quantity("heavy_tail/alpha_min", "", "neither", "exponent of the heaviest tail among the weight matrices"),
    Quantity("heavy_tail/alpha_max", "", "neither", "exponent of the lightest tail among the weight matrices"),
    Quantity("heavy_tail/momentum_alpha_mean", "", "neither", "mean exponent of the tails of the momentum"),
    Quantity("heavy_tail/stable_rank_mean", "", "neither", "mean of ‖W‖_F² / ‖W‖₂² over the weight matrices"),
    Quantity("heavy_tail/momentum_stable_rank_mean", "", "neither", "mean of ‖M‖_F² / ‖M‖₂² over the momenta"),
    Quantity("heavy_tail/spectral_norm_max", "", "neither", "largest singular value of a weight matrix"),
    Quantity("heavy_tail/alphas", "", "neither", "exponent of the tail of each weight matrix"),
    Quantity("heavy_tail/momentum_alphas", "", "neither", "exponent of the tail of the momentum of each matrix"),
    Quantity("heavy_tail/distances", "", "lower", "Kolmogorov–Smirnov distance of each tail from its power law"),
    Quantity("heavy_tail/stable_ranks", "", "neither", "stable rank of each weight matrix"),
    Quantity("heavy_tail/spectral_norms", "", "neither", "largest singular value of each weight matrix"),
    Quantity("heavy_tail/layers", "", "neither", "tail, stable rank and norm of each weight matrix, as a table"),
    Quantity("heavy_tail/exponents", "", "neither", "picture of the exponents of weights and momentum"),
    Quantity("heavy_tail/num_decompositions", "", "lower", "singular value decompositions spent on this measurement"),
    *_cost("heavy_tail"),
    # Gradients as rows at right angles.
    Quantity(
        "dominance/r_min",
        "",
        "neither",
        "smallest ratio of the diagonal of a gradient's Gram matrix to the mean beside it, mean over the matrices",
    ),
    Quantity("dominance/r_avg", "", "neither", "mean of these ratios over the rows, mean over the matrices"),
    Quantity("dominance/r_max", "", "neither", "largest of these ratios, mean over the matrices"),
    Quantity(
        "dominance/cosine", "", "neither", "cosine between the row-normalized and the polar update, mean over matrices"
    ),
    Quantity("dominance/minima", "", "neither", "smallest ratio of each matrix"),
    Quantity("dominance/means", "", "neither", "mean ratio of each matrix"),
    Quantity("dominance/maxima", "", "neither", "largest ratio of each matrix"),
    Quantity("dominance/cosines", "", "neither", "cosine between the two updates of each matrix"),
    Quantity("dominance/layers", "", "neither", "ratios and cosine of each matrix, as a table"),
    Quantity("dominance/ratios", "", "neither", "picture of the ratios and the cosine"),
    Quantity("dominance/num_decompositions", "", "lower", "polar factors computed for this measurement"),
    Quantity("dominance/num_evaluations", "", "lower", "gradients of batches computed for this measurement"),
    *_cost("dominance"),
    # The learning rate among the layers.
    Quantity(
        "layer_split/best_share_{i}",
        "",
        "neither",
        "share of the first layer in the sum of the learning rates with which the loss is lowest after as many steps",
    ),
    Quantity("layer_split/gain_{i}", "loss", "neither", "by how much that loss is below the one with equal rates"),
    Quantity("layer_split/shares", "", "neither", "shares of the first layer that were tried"),
    Quantity("layer_split/losses", "loss", "lower", "loss with each share, a row for each number of steps"),
    Quantity("layer_split/theory_losses", "loss", "neither", "the same losses by the module's own theory"),
    Quantity("layer_split/curves", "", "neither", "picture of the loss over the shares"),
    Quantity("layer_split/num_evaluations", "", "lower", "losses and gradients of batches spent on this measurement"),
    *_cost("layer_split"),
    # Edges taken out of a graph.
    Quantity("kces/gkc_before", "", "neither", "kernel complexity of the labels on the given graph"),
    Quantity("kces/gkc_after", "", "lower", "kernel complexity of the labels on the graph without the pruned edges"),
    Quantity("kces/edges", "", "neither", "undirected edges of the given graph"),
    Quantity("kces/pruned", "", "neither", "undirected edges that were taken out"),
    Quantity("kces/ratio", "", "neither", "share of the edges that were taken out"),
    Quantity("kces/seconds", "s", "lower", "wall time of scoring and choosing the edges"),
    Quantity("kces/pseudo_label_accuracy", "", "higher", "accuracy of the kernel's own labels on validation nodes"),
    Quantity("kces/adversarial_edges", "", "neither", "edges of the given graph that the clean graph does not have"),
    Quantity("kces/detection_auc", "", "higher", "chance that an added edge is more suspicious than a clean one"),
    Quantity("kces/detection_precision", "", "higher", "share of the pruned edges that an attack had added"),
    Quantity("kces/detection_recall", "", "higher", "share of the edges that an attack had added that were pruned"),
    Quantity("kces/solver", "", "neither", "how the scores were computed, exactly or by Nyström's approximation"),
    Quantity("kces/score", "", "neither", "what makes an edge suspicious"),
    Quantity("kces/scores", "", "neither", "change of the complexity by each edge, sorted, at most 10,000 quantiles"),
    Quantity("kces/bins", "", "neither", "limits of the bins of suspicion"),
    Quantity("kces/kept_counts", "", "neither", "kept edges in each bin of suspicion"),
    Quantity("kces/pruned_counts", "", "neither", "pruned edges in each bin of suspicion"),
    Quantity("kces/curve_ratios", "", "neither", "shares of pruned edges that were tried"),
    Quantity("kces/curve_accuracies", "", "higher", "validation accuracy of the kernel with each of these shares"),
    Quantity("kces/top_edges", "", "neither", "the most suspicious edges with scores, cosine and labels, as a table"),
    Quantity("kces/picture", "", "neither", "picture of the suspicion of kept and pruned edges"),
    # The verdict.
    Quantity("regime/label", "", "neither", "the training regime that the measurements point to"),
    Quantity("regime/id", "", "neither", "the training regime as an integer, for loggers that take only numbers"),
    Quantity("regime/evidence", "", "neither", "the numbers that decide, beside their thresholds, as a table"),
    Quantity("regime/verdicts", "", "neither", "regimes so far with their numbers, reasons and guidance, as a table"),
    Quantity("regime/train_loss", "loss", "lower", "training loss on the probe's fixed batches"),
    Quantity("regime/reference_loss", "loss", "neither", "loss of the trivial predictor on the same batches"),
    Quantity("regime/normalized_loss", "", "lower", "training loss over the reference loss"),
    Quantity("regime/test_error", "", "lower", "error against the reference solution or the test set"),
    Quantity("regime/estimated_error", "", "lower", "an estimate of the error, made without the reference"),
    Quantity("regime/heldout_loss", "loss", "lower", "the training loss on points that were never trained on"),
    Quantity("regime/normalized_heldout_loss", "", "lower", "held-out loss over the reference loss"),
    Quantity(
        "regime/margin",
        "e-folds",
        "higher",
        "natural logarithm of the factor by which a deciding number would have to change for another label",
    ),
    Quantity(
        "regime/agreement",
        "",
        "higher",
        "share of labels that stay the same when the thresholds are moved up and down",
    ),
    Quantity("regime/provisional", "", "lower", "1 where the label may still change as training goes on, else 0"),
    Quantity("regime/loss_trend", "decades", "lower", "change of log₁₀ of the training loss over its last fifth"),
    Quantity("regime/num_evaluations", "", "lower", "loss evaluations spent on this measurement"),
    Quantity("regime/loss_history_steps", "steps", "neither", "steps at which the loss history was sampled"),
    Quantity("regime/loss_history", "loss", "lower", "training loss at these steps"),
    *_cost("regime"),
    # What guidance does about the verdict.
    Quantity("guided/decision", "", "neither", "what was changed at this check: a remedy, the way back, or none"),
    Quantity("guided/num_gradients", "", "lower", "gradients so far, Hessian-vector products counted as two each"),
    Quantity("guided/difficulty", "", "neither", "share of the problem's difficulty at which the training is"),
    Quantity("guided/point_factor", "", "neither", "times as many collocation points as at first"),
    Quantity("guided/num_interventions", "", "neither", "changes so far, ways back included"),
    Quantity("guided/num_evaluations", "", "lower", "loss evaluations spent on this check"),
    *_cost("guided"),
    # The solution as a picture.
    Quantity("field/axis_0", "", "neither", "grid coordinates along the first axis of the domain"),
    Quantity("field/axis_1", "", "neither", "grid coordinates along the second axis of the domain"),
    Quantity("field/input", "", "neither", "what the operator was given, on the grid"),
    Quantity("field/prediction", "", "neither", "the network's solution on the grid"),
    Quantity("field/estimated_error", "", "lower", "the prediction less what satisfies the equation better, estimated"),
    Quantity("field/reference", "", "neither", "the reference solution on the same grid"),
    Quantity("field/rel_l2", "", "lower", "‖û − u‖₂ / ‖u‖₂ on the grid"),
    Quantity("field/num_evaluations", "", "lower", "network evaluations spent on this measurement"),
    Quantity("field/maps", "", "neither", "pictures of solution, reference and error"),
    *_cost("field"),
    # Predictions that are refined again and again.
    Quantity("refinement/vrmse_base", "", "lower", "error of the prediction that the refinement begins with"),
    Quantity("refinement/vrmse_refined", "", "lower", "error after as many refinements as are meant"),
    Quantity("refinement/vrmse_best", "", "lower", "lowest error of all refinements"),
    Quantity("refinement/best_step", "steps", "neither", "number of refinements with the lowest error"),
    Quantity("refinement/vrmse_last", "", "lower", "error after three times as many refinements as are meant"),
    *(
        Quantity(
            f"refinement/{band}_ratio",
            "",
            "lower",
            f"mean squared error at {waves} wavenumbers after as many refinements as are meant, over that before them",
        )
        for band, waves in (("low", "low"), ("mid", "medium"), ("high", "high"))
    ),
    Quantity(
        "refinement/contraction_rate", "", "lower", "growth of small changes in a refinement: below 1 they settle"
    ),
    Quantity(
        "refinement/contraction_norm", "", "lower", "norm of the Jacobian of a refinement at the truth, its largest"
    ),
    Quantity(
        "refinement/error_floor", "", "lower", "bound on the error that refinements settle at, where they contract"
    ),
    Quantity("refinement/num_nonfinite", "", "lower", "samples that some refinement made not finite"),
    Quantity("refinement/num_evaluations", "", "lower", "steps of refinement spent on this measurement"),
    Quantity("refinement/vrmse", "", "lower", "error after 0, 1, … refinements"),
    Quantity("refinement/bands", "", "lower", "mean squared error at low, medium and high wavenumbers after each"),
    Quantity("refinement/wavenumbers", "", "neither", "wavenumbers of the spectra, in waves over the domain"),
    Quantity("refinement/spectra", "", "neither", "mean square of the fields by wavenumber after each refinement"),
    Quantity("refinement/reference_spectrum", "", "neither", "mean square of the truth by wavenumber"),
    Quantity("refinement/error_spectra", "", "lower", "mean square of the errors by wavenumber after each refinement"),
    Quantity("refinement/updates", "", "neither", "root mean square of each refinement"),
    Quantity("refinement/curve", "", "neither", "picture of the error over the number of refinements"),
    Quantity("refinement/spectrum", "", "neither", "pictures of the spectra of fields and errors"),
    *_cost("refinement"),
    # A sweep of many runs.
    Quantity("phase_diagram/num_runs", "", "neither", "runs of the sweep that finished"),
    Quantity("phase_diagram/num_failed", "", "lower", "runs of the sweep that failed"),
    Quantity("phase_diagram/share_of_{name}", "", "neither", "share of the cells whose seeds mostly ended {name}"),
    Quantity(
        "phase_diagram/deceptive_sharpness", "", "neither", "well-trained cells that are as sharp as failing ones"
    ),
    Quantity("phase_diagram/deceptive_flatness", "", "neither", "failing cells that are as flat as well-trained ones"),
    Quantity("phase_diagram/cells", "", "neither", "the cells with their regimes and averages over seeds, as a table"),
    Quantity("phase_diagram/correlations", "", "neither", "Spearman's correlations over the runs, as a table"),
    Quantity("phase_diagram/maps", "", "neither", "pictures of regimes, losses, errors and curvature over the axes"),
    Quantity("phase_diagram/seconds", "s", "lower", "time of all cells together"),
)

_DECLARED: dict[str, Quantity] = {}
_PATTERNS: dict[re.Pattern[str], Quantity] = {}

VOCABULARY: Mapping[str, Quantity] = MappingProxyType(_DECLARED)
"""All quantities by key; patterns stand under their pattern."""


def declare(*quantities: Quantity) -> None:
    """Add what a diagnostic of one's own records; declaring the same again changes nothing.

    Raises:
        ValueError: If a key is not ``diagnostic/quantity``, or means something else already; then none is added.
    """
    for quantity in quantities:
        if not re.fullmatch(r"[^/\s]+/[^/\s]+", quantity.key):
            raise ValueError(f"A key is 'diagnostic/quantity', got {quantity.key!r}.")
        if _DECLARED.get(quantity.key, quantity) != quantity:
            raise ValueError(f"{quantity.key!r} is declared already, as {_DECLARED[quantity.key].meaning!r}.")
    for quantity in quantities:
        _DECLARED[quantity.key] = quantity
        if "{" in quantity.key:
            pattern = re.escape(quantity.key)
            pattern = pattern.replace(r"\{i\}", "(?P<i>[1-9][0-9]*)").replace(r"\{name\}", "(?P<name>\\w[\\w.-]*)")
            _PATTERNS[re.compile(pattern)] = quantity


declare(*_QUANTITIES)


def describe(key: str) -> Quantity:
    """Look up a key, resolving patterns: ``describe("hessian/lambda_3")`` finds ``hessian/lambda_{i}``.

    Returns:
        The quantity with ``key`` filled in.

    Raises:
        ValueError: If the vocabulary has no such key; the message names the nearest ones.
    """
    if key in VOCABULARY and "{" not in key:
        return VOCABULARY[key]
    for pattern, quantity in _PATTERNS.items():
        if match := pattern.fullmatch(key):
            meaning = quantity.meaning
            if "{i}" in quantity.key:
                meaning = meaning.replace("i-th", f"number {match['i']}", 1)
            if "{name}" in quantity.key:
                meaning = meaning.replace("{name}", match["name"])
            return replace(quantity, key=key, meaning=meaning)
    near = difflib.get_close_matches(key, VOCABULARY, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "a key of one's own is declared first."
    raise ValueError(f"{key!r} is not in the vocabulary of recorded quantities; {hint}")

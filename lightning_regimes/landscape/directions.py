"""The directions in which a loss surface extends from a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.curvature import Eigenpairs, HessianOperator, eigsh
from lightning_regimes.landscape.direction_normalization import Normalization, normalized
from lightning_regimes.landscape.orthogonalization import append_orthogonal
from lightning_regimes.landscape.principal_components import principal_components
from lightning_regimes.landscape.surface import Unit
from lightning_regimes.probe import LossProbe, ProbeError

Kind = Literal["hessian", "random", "gradient", "pca", "interpolation"]


@dataclass(frozen=True, eq=False)
class Directions:
    """The axes of a loss surface.

    Attributes:
        vectors: one direction a column, shape (num_parameters, d).
        names: of the axes, d of them.
        kind: where the directions come from.
        metadata: how they were found, in plain numbers and lists.
        unit: in which a surface counts along them. ``"norm"``, for unit vectors: a coordinate is a share of the norm of
            the parameters. ``"absolute"``: a coordinate is a multiple of its vector.

    Raises:
        ValueError: the vectors are no matrix of finite numbers, the names do not fit, or there is no such unit.
    """

    vectors: Tensor
    names: tuple[str, ...]
    kind: str = "given"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unit: Unit = "absolute"

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.shape[1] < 1 or not self.vectors.is_floating_point():
            raise ValueError(
                "`vectors` is a real matrix with one direction a column, got shape "
                f"{tuple(self.vectors.shape)} of {self.vectors.dtype}"
            )
        if len(self.names) != self.vectors.shape[1]:
            raise ValueError(f"`names` holds {len(self.names)} names for {self.vectors.shape[1]} directions")
        if not bool(torch.isfinite(self.vectors).all()):
            raise ValueError("`vectors` has entries that are not finite")
        if self.unit not in get_args(Unit):
            raise ValueError(f"`unit` is 'norm' or 'absolute', got {self.unit!r}")

    @property
    def dim(self) -> int:
        """Number of directions."""
        return self.vectors.shape[1]

    def scale(self, probe: LossProbe) -> float:
        r"""Return c of the surface :math:`L(\theta + c \sum_i x_i v_i)` about the point of a probe, in this unit.

        That is the norm of the parameters or, for the unit ``"absolute"`` and where all parameters are zero, 1.
        """
        norm = float(torch.linalg.vector_norm(probe.point().double()))
        return norm if self.unit == "norm" and norm > 0 else 1.0


def directions(
    probe: LossProbe,
    kind: Kind = "hessian",
    n: int | None = None,
    *,
    normalize: Normalization = "none",
    seed: int = 0,
    eigenpairs: Eigenpairs | None = None,
    points: Sequence[Tensor] | None = None,
) -> Directions:
    r"""Return directions in the space of the probe's parameters.

    ``"hessian"``: the eigenvectors of the largest eigenvalues, orthonormal. On these axes the surface of a quadratic
    loss is aligned with the grid; on oblique ones a grid shows minima that the loss does not have. They are never
    rescaled by layer, which would leave no eigenvectors.

    ``"random"``: independent Gaussian vectors, made orthonormal. With ``normalize``, each filter or layer is then given
    the norm of its weights (:func:`~lightning_regimes.landscape.direction_normalization.normalized`), which makes
    surfaces of different networks comparable; the columns are no unit vectors then, and nearly orthogonal only.

    ``"gradient"``: the gradient, normalised, then random vectors orthogonal to it and to each other.

    ``"pca"``: the principal components of ``points``, such as a training's path, about their mean. The surface still
    goes through the probe's own point.

    ``"interpolation"``: towards other points. One point p gives the line :math:`\theta + t (p - \theta)`, with p at
    coordinate 1. Two points give the plane through them and the probe's: the first one is at (1, 0), the second axis is
    orthogonal to the first and as long, and ``metadata["anchors"]`` holds the coordinates of all three.

    In several processes that share a probe's loss, all of them must call this.

    Args:
        probe: the loss and the point.
        kind: see above.
        n: number of directions; default 2, for ``"interpolation"`` the number of points.
        normalize: ``"filter"`` or ``"layer"``, for random directions only.
        seed: of the private generator of random vectors, and of the search for eigenvectors.
        eigenpairs: of the Hessian at this point, if they are there; the first n are taken.
        points: parameter vectors as from :meth:`~lightning_regimes.LossProbe.point`, shape (num_parameters,) each.

    Raises:
        ValueError: the arguments do not go together, or there are not as many independent directions.
        ProbeError: the gradient is zero or not finite, or the Hessian cannot be had.

    References:
        Li, Xu, Taylor, Studer, Goldstein, Visualizing the loss landscape of neural nets, arXiv:1712.09913.
        Garipov, Izmailov, Podoprikhin, Vetrov, Wilson, Loss surfaces, mode connectivity, and fast ensembling of DNNs,
        arXiv:1802.10026 (planes through three points).
    """
    n = _checked(probe, kind, n, normalize, eigenpairs, points)
    if kind == "hessian":
        return _hessian(probe, n, seed, eigenpairs)
    if kind == "random":
        drawn = append_orthogonal([], n, size=probe.num_parameters, dtype=probe.dtype, seed=seed)
        columns = [normalized(probe, vector.to(probe.device), normalize) for vector in drawn]
        names = tuple(f"random direction {index}" for index in range(1, n + 1))
        unit: Unit = "norm" if normalize == "none" else "absolute"
        return Directions(torch.stack(columns, dim=1), names, kind, {"seed": seed, "normalize": normalize}, unit)
    if kind == "gradient":
        return _gradient(probe, n, seed)
    assert points is not None
    flat = [_checked_point(probe, point, index) for index, point in enumerate(points)]
    if kind == "pca":
        vectors, variance, share = principal_components(flat, n)
        names = tuple(f"principal component {index}" for index in range(1, n + 1))
        metadata = {"explained_variance": variance, "explained_variance_ratio": share, "num_points": len(flat)}
        return Directions(vectors.to(probe.device, probe.dtype), names, kind, metadata, "norm")
    return _interpolation(probe, flat)


def _checked(
    probe: LossProbe,
    kind: str,
    n: int | None,
    normalize: str,
    eigenpairs: Eigenpairs | None,
    points: Sequence[Tensor] | None,
) -> int:
    """Return the number of directions, once the arguments are known to go together."""
    if kind not in get_args(Kind):
        raise ValueError(f"`kind` is one of {', '.join(get_args(Kind))}, got {kind!r}")
    if normalize not in get_args(Normalization):
        raise ValueError(f"`normalize` is one of {', '.join(get_args(Normalization))}, got {normalize!r}")
    if normalize != "none" and kind != "random":
        raise ValueError(f"`normalize` is for random directions only; rescaling by layer would distort {kind!r}")
    if eigenpairs is not None and kind != "hessian":
        raise ValueError(f"`eigenpairs` are for the kind 'hessian', got them with {kind!r}")
    if (points is not None) != (kind in ("pca", "interpolation")):
        raise ValueError(
            f"the kind {kind!r} needs `points`" if points is None else f"the kind {kind!r} has no use for `points`"
        )
    if kind == "interpolation" and points is not None:
        if len(points) not in (1, 2):
            raise ValueError(f"`points` of 'interpolation' are one, for a line, or two, for a plane, got {len(points)}")
        if n not in (None, len(points)):
            raise ValueError(f"`n` is the number of points, {len(points)}, for 'interpolation', got {n}")
        return len(points)
    n = 2 if n is None else n
    if not 1 <= n <= probe.num_parameters:
        raise ValueError(f"`n` must be between 1 and the number of parameters, {probe.num_parameters}, got {n}")
    return n


def _checked_point(probe: LossProbe, point: Tensor, index: int) -> Tensor:
    if point.shape != (probe.num_parameters,):
        raise ValueError(
            f"`points` have shape ({probe.num_parameters},), the number of the probe's parameters, got "
            f"{tuple(point.shape)} at {index}"
        )
    if not bool(torch.isfinite(point).all()):
        raise ValueError(f"`points` are finite, got one that is not at {index}")
    return point.detach()


def _hessian(probe: LossProbe, n: int, seed: int, eigenpairs: Eigenpairs | None) -> Directions:
    if eigenpairs is None:
        with HessianOperator(probe) as operator:
            eigenpairs = eigsh(operator, n, seed=seed)
    if eigenpairs.vectors.ndim != 2 or len(eigenpairs.vectors) != probe.num_parameters:
        raise ValueError(
            f"`eigenpairs` have vectors of shape {tuple(eigenpairs.vectors.shape)}, not of the probe's "
            f"{probe.num_parameters} parameters"
        )
    if eigenpairs.vectors.shape[1] < n:
        raise ValueError(f"`eigenpairs` are {eigenpairs.vectors.shape[1]}, fewer than `n`={n}")
    metadata = {
        "eigenvalues": eigenpairs.values[:n].tolist(),
        "residuals": eigenpairs.residuals[:n].tolist(),
        "num_matvecs": eigenpairs.num_matvecs,
        "converged": eigenpairs.converged,
    }
    vectors = eigenpairs.vectors[:, :n].detach().to(probe.device, probe.dtype)
    names = tuple(f"eigenvector {index}" for index in range(1, n + 1))
    return Directions(vectors, names, "hessian", metadata, "norm")


def _gradient(probe: LossProbe, n: int, seed: int) -> Directions:
    gradient = probe.gradient()
    norm = float(torch.linalg.vector_norm(gradient.double()))
    if not 0 < norm < float("inf"):
        raise ProbeError(f"the norm of the gradient is {norm}; there is no direction along it: use another `kind`")
    first = (gradient.double() / norm).to(probe.dtype)
    columns = append_orthogonal([first], n - 1, size=probe.num_parameters, dtype=probe.dtype, seed=seed)
    vectors = torch.stack([column.to(probe.device) for column in columns], dim=1)
    names = ("gradient", *(f"random direction {index}" for index in range(1, n)))
    return Directions(vectors, names, "gradient", {"gradient_norm": norm, "seed": seed}, "norm")


def _interpolation(probe: LossProbe, points: list[Tensor]) -> Directions:
    origin = probe.point().double()
    steps = [point.to(probe.device, torch.float64) - origin for point in points]
    norms = [float(torch.linalg.vector_norm(step)) for step in steps]
    if 0.0 in norms:
        raise ValueError(f"`points` differ from the probe's own point, got the same at {norms.index(0.0)}")
    first = steps[0]
    if len(steps) == 1:
        columns, anchors = [first], [[0.0], [1.0]]
    else:
        along = float(first @ steps[1]) / norms[0] ** 2
        across = steps[1] - along * first
        across -= float(first @ across) / norms[0] ** 2 * first
        height = float(torch.linalg.vector_norm(across))
        if height <= 1e-6 * norms[1]:
            raise ValueError("`points` lie on one line with the probe's own point, so that there is no plane; give one")
        # As long as the first axis, so that a circle on the grid is one in the plane.
        columns = [first, across * (norms[0] / height)]
        anchors = [[0.0, 0.0], [1.0, 0.0], [along, height / norms[0]]]
    names = tuple(f"towards point {index}" for index in range(1, len(columns) + 1))
    vectors = torch.stack(columns, dim=1).to(probe.dtype)
    return Directions(vectors, names, "interpolation", {"anchors": anchors, "distances": norms}, "absolute")

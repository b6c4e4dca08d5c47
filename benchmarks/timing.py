"""How long a computation on a network takes."""

from __future__ import annotations

import contextlib
import copy
import io
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from models import Case
from torch.nn.attention import SDPBackend, sdpa_kernel

Outcome = TypeVar("Outcome")


def timed(compute: Callable[[Case], Outcome], case: Case, *, seed: int) -> tuple[float, Outcome]:
    """Return the CPU seconds of one computation on a copy of the network, and what it returned."""
    fresh = Case(case.name, copy.deepcopy(case.module), case.batches)
    torch.manual_seed(seed)
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        began = time.process_time()
        outcome = compute(fresh)
        return time.process_time() - began, outcome

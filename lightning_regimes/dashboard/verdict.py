"""The first thing in the report: the regime, why, and what to do."""

import html
import math
import re
from collections.abc import Iterator

from lightning_regimes.dashboard.number_format import power_of_ten, short
from lightning_regimes.dashboard.palette import regime_colour
from lightning_regimes.dashboard.run_view import RunView, generalization, generalization_threshold, threshold
from lightning_regimes.recording import Record

_MEANING = {
    "well-trained": "The loss is low and so is the error.",
    "under-trained": "The loss is still high: optimization is what limits this run.",
    "over-trained": "The loss is low but the error is not: data is what limits this run.",
    "inconsistent": "The error is low although the loss is high: the two do not measure the same.",
    "diverged": "The loss is above that of the trivial predictor, or not a number.",
}


def verdict_html(run: RunView) -> str:
    """The verdict as an HTML element, a plain statement where the run was never judged."""
    record = run.verdict
    label = run.label
    title = html.escape(label.capitalize() if label else "No verdict")
    badge = ""
    if record and record.scalars.get("regime/provisional"):
        badge = '<span class="badge" title="the loss has not settled; the label may change">provisional</span>'
    paragraphs = [f'<p class="label">{title}{badge}</p>']
    context = record.context if record else {}
    meaning = _MEANING.get(label or "", "")
    if not record:
        meaning = "No diagnostic judged the regime of this run; add RegimeDetection to its callbacks."
    guidance = " ".join(filter(None, (meaning, str(context.get("guidance", "")))))
    guidance = guidance.replace("L-BFGS", "L\u2011BFGS")  # a name is not broken between lines
    paragraphs.append(f'<p class="guidance">{html.escape(guidance)}</p>' if guidance else "")
    reasons = [_typeset(str(reason)) for reason in context.get("reasons", ())]
    if source := context.get("reference_source"):
        reasons.append(f"reference loss: {str(source).replace('_', ' ')}")
    if source := context.get("evidence_source"):
        reasons.append(f"evidence of generalization: {str(source).replace('_', ' ')}")
    if reasons:
        items = "".join(f"<li>{html.escape(reason)}</li>" for reason in reasons)
        paragraphs.append(f'<ul class="reasons">{items}</ul>')
    tiles = "".join(
        f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(text)}</span></div>'
        for value, text in _tiles(run, record)
    )
    paragraphs.append(f'<div class="tiles">{tiles}</div>' if tiles else "")
    return f'<div class="verdict" style="--regime: var(--{regime_colour(label).name})">{"".join(paragraphs)}</div>'


def _typeset(reason: str) -> str:
    """``4.5e-05 <= 0.025`` as the tiles write it: ``4.5×10⁻⁵ ≤ 0.025``."""
    text = re.sub(r"(?<![\w.])(\d[\d.]*)e([+-]\d{2,})\b", lambda n: f"{n[1]}×{power_of_ten(int(n[2]))}", reason)
    return text.replace("<=", "≤").replace(">=", "≥")


def _tiles(run: RunView, record: Record | None) -> Iterator[tuple[str, str]]:
    if record:
        if (loss := record.scalars.get("regime/normalized_loss")) is not None:
            fit = threshold(record, "fit")
            yield short(loss), "training loss / reference loss" + (f"; fits at {short(fit)} or less" if fit else "")
        if found := generalization(record):
            value, name = found
            limit = generalization_threshold(record, name)
            yield short(value), name + (f"; generalizes at {short(limit)} or less" if limit else "")
        if (margin := record.scalars.get("regime/margin")) is not None:
            factor = math.exp(margin) if margin < 700 else math.inf
            yield f"× {short(factor)}", "margin: the factor by which a deciding number would have to change"
        if (agreement := record.scalars.get("regime/agreement")) is not None:
            yield f"{100 * agreement:.0f} %", "agreement: labels that stay when the thresholds are moved"
    if (ratio := run.number("hessian/sharpness_ratio")) is not None:
        yield short(ratio), "sharpness / stability threshold; unstable above 1"
    elif (largest := run.number("hessian/lambda_1")) is not None:
        yield short(largest), "λ₁, the largest curvature of the loss"

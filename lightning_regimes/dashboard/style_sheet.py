"""The report's style sheet: one column on a phone, two on a desk, light and dark."""

from lightning_regimes.dashboard.palette import COLOURS

_LIGHT = "".join(f"--{colour.name}:{colour.light};" for colour in COLOURS)
_DARK = "".join(f"--{colour.name}:{colour.dark};" for colour in COLOURS)

STYLE_SHEET = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }}
main {{ max-width: 70rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }}
header p, footer {{ color: var(--muted); font-size: .875rem; margin: 0; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.05rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.05rem; margin: 0 0 .25rem; }}
.panels + section.run, section.run + section.run {{ margin-top: 3rem; padding-top: 2rem;
  border-top: 1px solid var(--grid); }}
.verdict {{ background: var(--surface); border: 1px solid var(--grid); border-left: .5rem solid var(--regime);
  border-radius: .75rem; padding: 1.5rem 1.75rem; margin: 1.25rem 0; }}
.label {{ font-size: clamp(1.9rem, 6vw, 2.75rem); font-weight: 700; letter-spacing: -.02em; line-height: 1.1;
  color: var(--regime); margin: 0; }}
.badge {{ display: inline-block; font-size: .8rem; font-weight: 600; vertical-align: middle; letter-spacing: 0;
  border: 1px solid currentColor; border-radius: 1rem; padding: .1rem .6rem; margin-left: .75rem; }}
.guidance {{ font-size: 1.1rem; margin: .75rem 0 0; max-width: 48rem; }}
.reasons {{ margin: .9rem 0 0; padding-left: 1.1rem; color: var(--muted); }}
.reasons li::marker {{ color: var(--regime); }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0 0; }}
.tile {{ border: 1px solid var(--grid); border-radius: .5rem; padding: .6rem .8rem; }}
.tile b {{ display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; line-height: 1.25; }}
.tile span {{ font-size: .8rem; color: var(--muted); display: block; line-height: 1.35; }}
.panels {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.25rem;
  grid-auto-flow: row dense; }}
.panel {{ background: var(--surface); border: 1px solid var(--grid); border-radius: .75rem; padding: 1.1rem 1.25rem;
  margin: 0; min-width: 0; }}
.wide {{ grid-column: 1 / -1; }}
header + .panels {{ margin-top: 1.25rem; }}
.counts {{ margin: 0 0 .75rem; display: flex; flex-wrap: wrap; gap: .15rem 1.25rem; }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: .75rem; }}
.panel svg {{ width: 100%; height: auto; display: block; margin: 0 auto; }}
.panel svg text, .panel svg tspan {{ font-family: inherit !important; }}
figcaption, .reading {{ color: var(--muted); font-size: .875rem; margin: .5rem 0 0; }}
.scroll {{ overflow-x: auto;
  background: linear-gradient(to right, var(--surface) 1.5rem, transparent 3rem) local,
    linear-gradient(to left, var(--surface) 1.5rem, transparent 3rem) right / 100% 100% local,
    linear-gradient(to right, var(--grid), transparent .75rem),
    linear-gradient(to left, var(--grid), transparent .75rem) right / 100% 100%; }}
table {{ border-collapse: collapse; width: 100%; font-size: .875rem; margin-top: .5rem; }}
th, td {{ text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; white-space: nowrap; }}
th {{ font-weight: 600; color: var(--muted); vertical-align: bottom; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
td.meaning {{ min-width: 15rem; white-space: normal; }}
.cells th, .wrapped td, .costs td:last-child {{ white-space: normal; }}
code, pre {{ font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }}
pre {{ overflow-x: auto; margin: .75rem 0 0; }}
details > summary {{ cursor: pointer; font-weight: 600; }}
a {{ color: var(--accent); }}
.more > summary {{ padding: .25rem 0 .75rem; }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px; }}
.chip {{ color: var(--regime); font-weight: 600; white-space: nowrap; }}
footer {{ margin-top: 2.5rem; }}
@media (max-width: 40rem) {{ main {{ padding: 1rem .75rem 3rem; }} .verdict {{ padding: 1.1rem 1.1rem; }}
  .panel {{ padding: .9rem .8rem; }}
  .values, .values tbody {{ display: block; }} .values thead, .values .step, .values .better {{ display: none; }}
  .values tr {{ display: grid; grid-template-columns: 1fr auto; padding: .35rem 0;
    border-bottom: 1px solid var(--grid); }}
  .values td {{ border: 0; padding: 0; white-space: normal; overflow-wrap: anywhere; }}
  .values .meaning {{ grid-column: 1 / -1; min-width: 0; color: var(--muted); }} }}
@media print {{ .panel, .verdict {{ break-inside: avoid; }} }}
"""

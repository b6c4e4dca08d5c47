"""What people look at after a run: the HTML report, the summary, and what an offline W&B run holds."""

from lightning_regimes.dashboard.report import write_report
from lightning_regimes.dashboard.run_summary import print_summary
from lightning_regimes.dashboard.wandb_file import WandbRun, read_wandb_file

__all__ = ["WandbRun", "print_summary", "read_wandb_file", "write_report"]

"""``lightning-regimes report --watch``: the report of a run that is still going on."""

import os
from collections.abc import Sequence

from lightning_regimes.dashboard.live_report import LiveReport


def watch(run_directories: Sequence[str | os.PathLike[str]], *, port: int) -> None:
    """Serve the report until Ctrl-C.

    Raises:
        FileNotFoundError: A directory does not exist.
        OSError: The port is taken.
    """
    with LiveReport(run_directories, port=port) as server:
        print(f"{server.address} shows the report and follows the run. Ctrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            # The way to end it, and no failure.
            print()

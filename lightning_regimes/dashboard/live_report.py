"""The report of a run that is still going on, in the browser of the machine that it runs on."""

import hashlib
import os
import threading
import warnings
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from lightning_regimes.dashboard.found_runs import found_runs
from lightning_regimes.dashboard.report import report_page
from lightning_regimes.recording import RECORDS_FILE

_HOST = "127.0.0.1"
_SECONDS_BETWEEN_LOOKS = 3
# The page asks whether there is something new, and is loaded again only then, where the reader had scrolled to.
_SCRIPT = f"""<script>
const seen = "%s";
setInterval(async () => {{
  try {{ if ((await (await fetch("/version")).text()) !== seen) location.reload(); }} catch {{ }}
}}, {1000 * _SECONDS_BETWEEN_LOOKS});
</script>"""
_FOLLOWS = " The page follows the run as long as the command that serves it goes on."
_WAITING = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Waiting · training regimes</title></head>'
    '<body style="font: 16px system-ui, sans-serif; color-scheme: light dark; margin: 3rem">'
    "<h1>No records yet</h1><p>The report appears with the first measurement.</p></body></html>\n"
)


class LiveReport(ThreadingHTTPServer):
    """Serves the report of runs and sweeps on 127.0.0.1, drawn anew when there are new records.

    It answers ``/`` with the page and ``/version`` with what changes when the page would; there is nothing else to ask
    for, neither inside of the run directories nor outside. Requests under any other name than this machine's own are
    refused, so that no page from elsewhere can read along.

    Args:
        run_directories: Run directories, folders of runs, and directories of sweeps; records may be yet to come.
        port: Where to listen; 0 takes any that is free.

    Raises:
        FileNotFoundError: If one of the directories does not exist.
        OSError: If the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, run_directories: Sequence[str | os.PathLike[str]], *, port: int = 0) -> None:
        self.run_directories = [Path(directory) for directory in run_directories]
        for directory in self.run_directories:
            if not directory.is_dir():
                raise FileNotFoundError(f"{os.fspath(directory)!r} is not a directory; give that of a run or a sweep.")
        # Figures are drawn under settings of the whole process.
        self._drawing = threading.Lock()
        self._drawn: tuple[str, bytes] | None = None
        try:
            super().__init__((_HOST, port), _Request)
        except OSError as error:
            raise OSError(f"port {port} of {_HOST} is taken; give another one with --port.") from error

    @property
    def address(self) -> str:
        """Where a browser finds the report."""
        return f"http://{_HOST}:{self.server_port}/"

    def version(self) -> str:
        """What changes whenever a record is added."""
        digest = hashlib.sha256()
        for directory in found_runs(self.run_directories):
            for path in sorted({directory / RECORDS_FILE, *directory.glob("*.jsonl"), *directory.glob("config.yaml")}):
                if path.is_file():
                    state = path.stat()
                    digest.update(f"{path} {state.st_mtime_ns} {state.st_size}\n".encode())
        return digest.hexdigest()[:16]

    def page(self) -> bytes:
        """The report as it is now, or a page that waits for the first records."""
        with self._drawing:
            version = self.version()
            if self._drawn is None or self._drawn[0] != version:
                self._drawn = version, self._draw(version)
            return self._drawn[1]

    def _draw(self, version: str) -> bytes:
        with warnings.catch_warnings():
            # A line that is being written, and runs that have not begun.
            warnings.simplefilter("ignore", UserWarning)
            try:
                page = report_page(self.run_directories)
            except (FileNotFoundError, ValueError):
                page = _WAITING
        page = page.replace("</footer>", f"{_FOLLOWS}</footer>")
        return page.replace("</body>", f"{_SCRIPT % version}</body>").encode()


class _Request(BaseHTTPRequestHandler):
    server: LiveReport
    server_version = "lightning-regimes"
    sys_version = ""
    _HEADERS: ClassVar[dict[str, str]] = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": (
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'unsafe-inline'; "
            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        ),
    }

    def do_GET(self) -> None:
        name = (self.headers.get("Host") or "").rpartition(":")[0]
        if name not in (_HOST, "localhost"):
            self._answer(HTTPStatus.FORBIDDEN, b"This report is for the machine that it runs on.\n", "text/plain")
        elif self.path == "/":
            self._answer(HTTPStatus.OK, self.server.page(), "text/html; charset=utf-8")
        elif self.path == "/version":
            self._answer(HTTPStatus.OK, self.server.version().encode(), "text/plain")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"There is only the report, at /.\n", "text/plain")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **self._HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep requests off the console."""

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_regimes.cli import main
from lightning_regimes.dashboard.live_report import LiveReport
from lightning_regimes.recording import Journal, Record


def verdict(step: int, label: str) -> Record:
    scalars = {"regime/normalized_loss": 0.5}
    return Record("regime", step, step, 0, scalars=scalars, text={"regime/label": label})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveReport]:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    with LiveReport([run]) as live:
        thread = threading.Thread(target=live.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield live
        live.shutdown()
        thread.join()


def get(server: LiveReport, path: str = "/", *, method: str = "GET", host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_it_waits_for_the_first_record_and_follows_the_run(server: LiveReport) -> None:
    status, waiting = get(server)
    assert status == 200
    assert "No records yet" in waiting
    journal = Journal(server.run_directories[0] / "regimes")
    journal.append(verdict(3, "UNDER_TRAINED"))
    _, first = get(server)
    assert "Under-trained" in first
    journal.append(verdict(7, "WELL_TRAINED"))
    _, second = get(server)
    assert "Well-trained" in second
    assert "2 records up to step 7" in second
    pages = (waiting, first, second)
    versions = [re.findall(r'const seen = "(\w+)"', page) for page in pages]
    assert len({version for (version,) in versions}) == 3
    assert get(server, "/version") == (200, versions[-1][0]), "nothing new: the page stays"


def test_a_folder_of_runs_is_followed_as_they_begin(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    with LiveReport([tmp_path / "runs"]) as live:
        assert "No records yet" in live.page().decode()
        Journal(tmp_path / "runs" / "first" / "regimes").append(verdict(0, "UNDER_TRAINED"))
        alone, version = live.page().decode(), live.version()
        assert "runs/first" in alone
        assert "follows the run" in alone
        Journal(tmp_path / "runs" / "second" / "regimes").append(verdict(0, "WELL_TRAINED"))
        assert live.version() != version
        assert "runs/second" in live.page().decode()


def test_the_page_is_drawn_only_when_there_is_something_new(
    server: LiveReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    Journal(server.run_directories[0] / "regimes").append(verdict(0, "UNDER_TRAINED"))
    before = server.page()
    monkeypatch.setattr("lightning_regimes.dashboard.live_report.report_page", lambda runs: pytest.fail("drawn again"))
    assert server.page() is before


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "//etc/passwd",
        "/regimes/records.jsonl",
        "/config.yaml",
        "/..",
        "/?x",
        "secret.txt",
        "http://127.0.0.1/secret.txt",
    ],
)
def test_there_is_nothing_else_to_ask_for(server: LiveReport, path: str) -> None:
    status, text = get(server, path)
    assert status == 404
    assert "secret" not in text


def test_only_this_machine_is_served(server: LiveReport) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert get(server, host=f"localhost:{server.server_port}")[0] == 200
    for host in ("example.org", f"example.org:{server.server_port}", "127.0.0.1.example.org:80", ""):
        assert get(server, host=host or " ")[0] == 403
    assert get(server, method="POST")[0] == 501


def test_the_page_asks_nobody_else(server: LiveReport) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request("GET", "/")
    answer = connection.getresponse()
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in answer.read().decode()
    connection.close()


def test_what_cannot_be_served_is_said_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--watch", str(tmp_path / "nowhere")]) == 1
    assert "is not a directory" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["report", "--watch", str(tmp_path), "--port", str(port)]) == 1
    assert f"port {port} of 127.0.0.1 is taken; give another one with --port." in capsys.readouterr().err


def test_ctrl_c_ends_it_without_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: LiveReport) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LiveReport, "serve_forever", interrupted)
    assert main(["report", "--watch", str(tmp_path), "--port", "0"]) == 0
    assert re.search(r"http://127\.0\.0\.1:\d+/ shows the report", capsys.readouterr().out)

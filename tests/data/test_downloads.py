"""Downloads against a server on this machine: resumed, refused, interrupted, checked."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from neural_polarization.data.downloads import RemoteFile, download
from neural_polarization.errors import DataError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT, well or badly.

    Attributes:
        requests: the Range of each request, in order.
        ranges: whether parts are served.
        breaks_after: bytes after which a connection ends, for the first `breaks` connections.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str | None] = []
        self.content = CONTENT
        self.ranges = True
        self.breaks = 0
        self.breaks_after = 300_000


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.requests.append(wanted)
        if self.path != "/file":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.breaks > 0:
            self.server.breaks -= 1
            body = body[: self.server.breaks_after]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the tests' output quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(server: Server, path: str = "file", size: int = len(CONTENT), md5: str = MD5) -> RemoteFile:
    return RemoteFile(f"http://127.0.0.1:{server.server_address[1]}/{path}", size, md5)


def test_a_download_with_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    path = download(remote(server), tmp_path / "new" / "data.bin", lambda *told: seen.append(told))
    assert path.read_bytes() == CONTENT
    assert [name for name, _, _ in seen] == ["data.bin"] * len(seen)
    done = [now for _, now, _ in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, len(CONTENT))
    assert [child.name for child in path.parent.iterdir()] == ["data.bin"]
    download(remote(server), path)  # is there already: nothing is asked for
    assert server.requests == [None]


def test_a_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:123_456])
    download(remote(server), tmp_path / "data.bin")
    assert server.requests == ["bytes=123456-"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_broken_connections_are_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.breaks = 3
    download(remote(server), tmp_path / "data.bin")
    assert server.requests == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_server_that_serves_no_parts(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:123_456])
    download(remote(server), tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_network_that_gives_up_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.breaks, server.breaks_after = 99, 10_000
    with pytest.raises(DataError, match=r"data\.bin: 50000 of 1000000 bytes came from .*run again to go on"):
        download(remote(server), tmp_path / "data.bin")
    assert not (tmp_path / "data.bin").exists()
    server.breaks = 0
    download(remote(server), tmp_path / "data.bin")
    assert server.requests[-1] == "bytes=50000-"


def test_another_content_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has MD5"):
        download(remote(server, md5="0" * 32), tmp_path / "data.bin")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data.bin.part").write_bytes(CONTENT + b"more")
    with pytest.raises(DataError, match="has 1000004 bytes, the published file has 1000000"):
        download(remote(server), tmp_path / "data.bin")
    (tmp_path / "data.bin").write_bytes(b"old")
    with pytest.raises(DataError, match="delete it, and it is downloaded again"):
        download(remote(server), tmp_path / "data.bin")


def test_no_such_file_and_no_such_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0 of 1000000 bytes .*404.* put it at"):
        download(remote(server, path="elsewhere"), tmp_path / "data.bin")
    assert len(server.requests) == 1  # what is not there is not asked for again
    with pytest.raises(DataError, match="0 of 10 bytes"):
        download(RemoteFile("http://127.0.0.1:9/file", 10, MD5), tmp_path / "data.bin")


def test_a_server_with_less_than_was_published(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:1000]
    with pytest.raises(DataError, match="of 1000000 bytes came"):
        download(remote(server), tmp_path / "data.bin")


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    file, path = remote(server), tmp_path / "data.bin"
    others = [threading.Thread(target=download, args=(file, path)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert path.read_bytes() == CONTENT
    assert server.requests == [None]

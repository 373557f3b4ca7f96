"""Downloading one file; tests/integration/test_downloads.py uses a server."""

import contextlib
import hashlib
import itertools
from types import SimpleNamespace

import pytest
import requests

from milozero.evaluation import downloads
from milozero.helpers.errors import UserError

URL = "https://wandb.example/file"


@pytest.fixture
def serve(monkeypatch):
    """Fake a server that sends chunks of 10 bytes; returns the function that sets how many it sends."""

    def install(chunks, error=None):
        response = SimpleNamespace(raise_for_status=lambda: None, iter_content=lambda _: send(chunks, error))
        monkeypatch.setattr(requests, "get", lambda *_, **__: contextlib.nullcontext(response))

    def send(chunks, error):
        yield from (b"0123456789" for _ in chunks)
        if error:
            raise error

    return install


def test_file_is_complete_and_has_its_checksum(serve, tmp_path):
    serve(range(3))
    digest = downloads._fetch(URL, tmp_path / "a.pt", 30, None)
    assert (tmp_path / "a.pt").read_bytes() == b"0123456789" * 3
    assert digest == hashlib.md5(b"0123456789" * 3).digest()


def test_endless_file_ends_one_chunk_after_its_size(serve, tmp_path):
    serve(itertools.count())
    downloads._fetch(URL, tmp_path / "a.pt", 25, None)
    assert (tmp_path / "a.pt").stat().st_size == 30


def test_connection_that_breaks_is_a_user_error(serve, tmp_path):
    serve(range(2), requests.ConnectionError("reset\nby peer"))
    with pytest.raises(UserError, match=r"^the download failed: reset by peer$"):
        downloads._fetch(URL, tmp_path / "a.pt", 30, None)

"""The link from the documentation to the repository."""

import subprocess
from types import SimpleNamespace

import mkdocs_hooks
import pytest

ADDRESS = "https://git.example.org/owner/name"


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        (ADDRESS, ADDRESS),
        (f"{ADDRESS}.git", ADDRESS),
        ("https://user:secret@git.example.org/owner/name.git", ADDRESS),
        ("git@git.example.org:owner/name.git", ADDRESS),
        ("ssh://git@git.example.org:2222/owner/name.git", ADDRESS),
        ("https://git.example.org:8443/owner/name", "https://git.example.org:8443/owner/name"),
        *((local, "") for local in ("", "/srv/name", "../name.git", "file:///srv/name", "name")),
    ],
)
def test_address_of_a_remote_has_no_password(remote, address):
    assert mkdocs_hooks.web_address(remote) == address


@pytest.mark.parametrize(
    ("remote", "added"), [(f"{ADDRESS}\n", [{"Repository": ADDRESS}]), ("/srv/name\n", []), ("", [])]
)
def test_site_links_to_its_repository(monkeypatch, remote, added):
    done = subprocess.CompletedProcess([], 0, stdout=remote)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    config = SimpleNamespace(nav=["page"])
    assert mkdocs_hooks.on_config(config).nav == ["page", *added]

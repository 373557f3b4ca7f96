"""Download checkpoints with the real Weights & Biases client from a local server."""

import itertools
import os
import time

import pytest
import wandb

from milozero.evaluation import downloads
from milozero.experiment import checkpoint
from milozero.experiment.settings import EvalConfig
from milozero.helpers.errors import UserError
from milozero.helpers.locks import Lock
from milozero.helpers.logging import log_to_terminal
from tests.support.wandb_server import Run, WandbServer

CONTENT = {"config": {}, "agent": {}, "counters": {"iteration": 7}, "workers": []}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "HTTP_TIMEOUT_S", 2)
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        files = {f"run.seed00/{name}": checkpoint.to_bytes(CONTENT) for name in ("best.pt", "iter_50.pt")}
        server.runs["me", "p", "abcd1234"] = Run("abcd1234", "run.seed00", files=files | {"config.yaml": b"a: 1"})
        yield server
    wandb.teardown()


def download(tmp_path, path="me/p/run.seed00", iter_num="best", replace=False):
    config = EvalConfig(wandb_run_path=path, iter_num=iter_num, wandb_download_replace=replace)
    return downloads.download_checkpoint(config, tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "me/p/run.seed00",
        "me/p/abcd1234/",
        "/me/p/runs/abcd1234",
        "https://wandb.ai/me/p/runs/abcd1234?nw=x",
        "https://wandb.ai/me/p/runs/abcd1234/overview",
        "https://wandb.ai/me/p/runs/abcd1234/files/run.seed00#top",
        "https://wandb.ai/me/p/runs/abcd1234/files/some/runs/x",
        "https://example.org/below/wandb/me/p/runs/abcd1234/",
    ],
)
@pytest.mark.parametrize("iter_num", ["best", "50"])
def test_checkpoint_is_found_by_name_and_by_id(server, tmp_path, path, iter_num):
    folder = download(tmp_path, path, iter_num)
    assert folder.parent == tmp_path / "downloads/me/p"
    assert checkpoint.load(checkpoint.find(str(folder), iter_num))["counters"] == CONTENT["counters"]
    assert set(os.listdir(folder)) == {checkpoint.file_name(iter_num)}


def test_checkpoint_is_downloaded_again_only_on_request(server, tmp_path):
    file = download(tmp_path) / "best.pt"
    num_requests = len(server.requests)
    kept = checkpoint.to_bytes(CONTENT | {"counters": {"iteration": 8}})
    file.write_bytes(kept)
    download(tmp_path)
    assert (file.read_bytes(), len(server.requests)) == (kept, num_requests)
    download(tmp_path, replace=True)
    assert file.read_bytes() == checkpoint.to_bytes(CONTENT)


def test_last_checkpoint_replaces_the_best_one_only_by_default(server, tmp_path):
    files = server.runs["me", "p", "abcd1234"].files
    files["run.seed00/last.pt"] = files.pop("run.seed00/best.pt")
    with pytest.raises(UserError, match="no such checkpoint; it has 50, last"):
        download(tmp_path)
    folder = downloads.download_checkpoint(EvalConfig(wandb_run_path="me/p/run.seed00"), tmp_path, is_default=True)
    assert [path.name for path in folder.iterdir()] == ["last.pt"]


def test_damaged_earlier_download_is_replaced(server, tmp_path, capsys):
    file = download(tmp_path) / "best.pt"
    file.write_bytes(file.read_bytes()[:-10])
    with log_to_terminal():
        download(tmp_path)
    assert file.read_bytes() == checkpoint.to_bytes(CONTENT)
    assert f"{file} is damaged" in capsys.readouterr().out


def test_names_may_contain_spaces_and_be_url_encoded(server, tmp_path):
    run = server.runs["me", "p", "abcd1234"]
    server.runs["me", "my project", "id"] = Run(
        "id", "two words", files={"two words/best.pt": run.files["run.seed00/best.pt"]}
    )
    for path in ("https://wandb.ai/me/my%20project/runs/id", "https://wandb.ai/me/my%20project/runs/two%20words"):
        assert (download(tmp_path, path) / "best.pt").exists()
    server.runs["me", "p", "other"] = Run("other", "a b", files=run.files)
    assert download(tmp_path, "me/p/a b") == tmp_path / "downloads/me/p/a b"


def test_url_of_another_server_is_reported_if_the_run_is_not_found(server, tmp_path):
    with pytest.raises(
        UserError, match=f"there is no run.*searched {server.url}, but the URL belongs to example.org"
    ):
        download(tmp_path, "https://example.org/me/p/runs/nothing")
    with pytest.raises(UserError) as error:
        download(tmp_path, f"{server.url}/me/p/runs/nothing")
    assert "searched" not in str(error.value)


def test_folder_that_cannot_be_written_is_reported(server, tmp_path):
    (tmp_path / "downloads").write_text("in the way")
    with pytest.raises(UserError, match=f"cannot write to {tmp_path}/downloads/me/p/run.seed00: Not a directory"):
        download(tmp_path)


@pytest.mark.parametrize(
    ("path", "iter_num", "named"),
    [
        ("me/p/", "best", "expected user/project/run or the URL of a run"),
        ("me/p/ ", "best", "expected user/project/run or the URL of a run"),
        ("https://wandb.ai/me/p", "best", "expected user/project/run or the URL of a run"),
        ("https://wandb.ai/me/p/runs/%2e%2e", "best", "expected user/project/run or the URL of a run"),
        ("https://wandb.ai/me/p/runs/a%2fb", "best", "expected user/project/run or the URL of a run"),
        ("https://wandb.ai/me/p/runs/a%00b", "best", "expected user/project/run or the URL of a run"),
        ("https://wandb.ai/me/p/runs/%2e%2e%20", "best", "expected user/project/run or the URL of a run"),
        ("https://wandb.ai/me/p/runs/%20", "best", "expected user/project/run or the URL of a run"),
        ("me/p/.. ", "best", "expected user/project/run or the URL of a run"),
        ("me/p", "best", "expected user/project/run or the URL of a run"),
        ("me/p/../run", "best", "expected user/project/run or the URL of a run"),
        ("../../run", "best", "expected user/project/run or the URL of a run"),
        ("me/p q/a", "best", "expected user/project/run or the URL of a run"),
        ("me/p/nothing", "best", "there is no run 'nothing' in me/p"),
        ("me/q/abcd1234", "best", "me has no project 'q'"),
        ("me/p/abcd1234", "last", "has no such checkpoint; it has 50, best"),
        ("me/p/abcd1234", "../best", "must be best, last or the number"),
    ],
)
def test_missing_runs_and_checkpoints_are_reported(server, tmp_path, path, iter_num, named):
    with pytest.raises(UserError, match=named):
        download(tmp_path, path, iter_num)
    assert not list(tmp_path.iterdir())


def test_run_without_checkpoints_and_ambiguous_name_are_reported(server, tmp_path):
    server.runs["me", "p", "empty"] = Run("empty", "no files")
    with pytest.raises(UserError, match="it has none"):
        download(tmp_path, "me/p/empty")
    server.runs["me", "p", "other"] = Run("other", "run.seed00")
    with pytest.raises(UserError, match="abcd1234, other"):
        download(tmp_path)


@pytest.mark.parametrize("wrong", [lambda content: content[:-1], lambda content: b"x" * len(content)])
def test_damaged_download_is_reported_and_keeps_the_earlier_one(server, tmp_path, wrong):
    file = download(tmp_path) / "best.pt"
    server.on_download = lambda name, content: wrong(content)
    with pytest.raises(UserError, match=r"damaged|download"):
        download(tmp_path, replace=True)
    assert file.read_bytes() == checkpoint.to_bytes(CONTENT)
    assert set(os.listdir(file.parent)) == {"best.pt"}


def test_file_that_is_not_a_checkpoint_is_reported(server, tmp_path):
    server.runs["me", "p", "abcd1234"].files["run.seed00/best.pt"] = b"something else"
    with pytest.raises(UserError, match=r"me/p/run\.seed00: run\.seed00/best\.pt is damaged or not a checkpoint"):
        download(tmp_path)


def test_wrong_key_and_missing_key_are_reported(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    with pytest.raises(UserError, match="user is not logged in"):
        download(tmp_path)
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    num_requests = len(server.requests)
    with pytest.raises(UserError, match="set WANDB_API_KEY"):
        download(tmp_path)
    assert len(server.requests) == num_requests


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("silent", "did not respond in time"),
        ("breaks", "EOF|did not respond"),
        ("error", "500|did not respond"),
        ("garbage", "invalid character"),
        ("empty", "credentials"),
    ],
)
def test_server_failure_is_a_one_line_error(server, tmp_path, fault, named):
    server.fault = fault
    with pytest.raises(UserError, match=named) as error:
        download(tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.pt"))


def test_checkpoint_that_differs_from_the_servers_checksum_is_refused(server, tmp_path):
    server.on_download = lambda name, content: checkpoint.to_bytes(CONTENT | {"counters": {"iteration": 8}})
    with pytest.raises(UserError, match=r"download of run\.seed00/best\.pt is damaged"):
        download(tmp_path)


def test_file_in_the_experiments_folder_takes_precedence(server, tmp_path):
    server.runs["me", "p", "abcd1234"].files["zzz/best.pt"] = checkpoint.to_bytes(CONTENT | {"agent": {"a": 1}})
    assert checkpoint.load(download(tmp_path) / "best.pt")["agent"] == {}


def drip(content):
    for byte in content:
        time.sleep(0.05)
        yield bytes([byte])


BODIES = {
    "hangs": (lambda content: iter([content[:9], *(time.sleep(3) for _ in "x")]), "took too long"),
    "drips": (drip, "took too long"),
    "endless": (lambda content: itertools.repeat(content), "is damaged"),
    "endless zeros": (lambda content: itertools.repeat(bytes(2**20)), "is damaged"),
    "short": (lambda content: iter([content[:-1]]), "is damaged"),
}


@pytest.mark.parametrize(("body", "named"), BODIES.values(), ids=BODIES)
def test_download_is_limited_in_time_and_size(server, tmp_path, monkeypatch, body, named):
    monkeypatch.setattr(downloads, "DOWNLOAD_TIMEOUT_S", 0.5)
    earlier = download(tmp_path) / "best.pt"
    written, fetch = [], downloads._fetch

    def measure(url, path, *args):
        digest = fetch(url, path, *args)
        written.append(path.stat().st_size)
        return digest

    monkeypatch.setattr(downloads, "_fetch", measure)
    server.on_download = lambda name, content: body(content)
    start = time.monotonic()
    with pytest.raises(UserError, match=named):
        download(tmp_path, replace=True)
    assert time.monotonic() - start < 2.5
    assert all(size <= earlier.stat().st_size + downloads.CHUNK_BYTES for size in written)
    assert earlier.read_bytes() == checkpoint.to_bytes(CONTENT)
    assert set(os.listdir(earlier.parent)) == {"best.pt"}


def test_file_that_is_too_large_is_not_downloaded(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_BYTES", 100)
    monkeypatch.setattr(downloads, "_fetch", None)
    with pytest.raises(UserError, match=r"best\.pt has more than 0 GiB"):
        download(tmp_path)
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("path", ["me/p/abcd1234", "me/p/run.seed00"])
def test_endless_list_is_limited_in_time(server, tmp_path, monkeypatch, path):
    monkeypatch.setattr(downloads, "LOOKUP_TIMEOUT_S", 1.0)
    server.endless = True
    with pytest.raises(UserError, match="took too long"):
        download(tmp_path, path)
    assert not list(tmp_path.iterdir())


def test_failing_storage_is_a_one_line_error(server, tmp_path):
    server.storage = f"{server.url}/nowhere"
    with pytest.raises(UserError, match=r"^the download failed: 404 Client Error") as error:
        download(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "file:///etc", "ftp://127.0.0.1", "no url", ""])
def test_file_of_no_web_server_is_a_one_line_error(tmp_path, url):
    with pytest.raises(UserError, match=r"^the download failed: ") as error:
        downloads._fetch(url, tmp_path / "file", 9, "key")
    assert "\n" not in str(error.value)


def test_key_goes_to_its_own_server_only(server, tmp_path):
    download(tmp_path)
    server.storage = server.url.replace("127.0.0.1", "localhost")
    download(tmp_path, replace=True)
    assert [bool(key) for key in server.keys] == [True, False]


@pytest.mark.parametrize("locked", [True, False])
def test_leftovers_of_a_killed_download_are_removed(server, tmp_path, locked):
    folder = tmp_path / "downloads/me/p/run.seed00"
    for name in (".download-used", ".download-left"):
        (folder / name).mkdir(parents=True)
        (folder / name / "best.pt").write_bytes(b"half")
    if locked:
        Lock(folder / ".download-left").release()
    used = Lock(folder / ".download-used")  # of another process
    assert set(os.listdir(download(tmp_path))) == {"best.pt", ".download-used"}
    used.release()

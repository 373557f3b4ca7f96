"""Checkpoints from Weights & Biases, by the real client from a server on loopback."""

import pytest
import wandb

from milozero.evaluation import downloads
from milozero.experiment import checkpoint
from milozero.helpers.errors import UserError
from tests.support.wandb_server import Run, WandbServer

CONTENT = {"config": {}, "agent": {}, "counters": {"iteration": 7}, "workers": []}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "PATIENCE", 2)
    with WandbServer() as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        files = {f"run.seed00/{name}": checkpoint.to_bytes(CONTENT) for name in ("best.pt", "iter_50.pt")}
        found.runs["me", "p", "abcd1234"] = Run("abcd1234", "run.seed00", files=files | {"config.yaml": b"a: 1"})
        yield found
    wandb.teardown()


def fetch(tmp_path, path="me/p/run.seed00", iter_num="best", replace=False):
    return downloads.fetch(path, iter_num, tmp_path, replace=replace)


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
    folder = fetch(tmp_path, path, iter_num)
    assert folder.parent == tmp_path / "downloads/me/p"
    assert checkpoint.load(checkpoint.find(str(folder), iter_num))["counters"] == CONTENT["counters"]
    assert [path.name for path in folder.iterdir()] == [checkpoint.file_name(iter_num)]


def test_what_is_there_is_downloaded_again_only_on_request(server, tmp_path):
    (file,) = fetch(tmp_path).iterdir()
    asked = len(server.asked)
    kept = checkpoint.to_bytes(CONTENT | {"counters": {"iteration": 8}})
    file.write_bytes(kept)
    fetch(tmp_path)
    assert (file.read_bytes(), len(server.asked)) == (kept, asked)
    fetch(tmp_path, replace=True)
    assert file.read_bytes() == checkpoint.to_bytes(CONTENT)


def test_what_is_there_damaged_is_downloaded_again(server, tmp_path, capsys):
    (file,) = fetch(tmp_path).iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    fetch(tmp_path)
    assert file.read_bytes() == checkpoint.to_bytes(CONTENT)
    assert f"{file} is damaged" in capsys.readouterr().out


def test_names_may_have_spaces_and_stand_in_addresses(server, tmp_path):
    run = server.runs["me", "p", "abcd1234"]
    server.runs["me", "my project", "id"] = Run(
        "id", "two words", files={"two words/best.pt": run.files["run.seed00/best.pt"]}
    )
    for path in ("https://wandb.ai/me/my%20project/runs/id", "https://wandb.ai/me/my%20project/runs/two%20words"):
        assert (fetch(tmp_path, path) / "best.pt").exists()
    server.runs["me", "p", "other"] = Run("other", "a b", files=run.files)
    assert fetch(tmp_path, "me/p/a b") == tmp_path / "downloads/me/p/a b"


def test_address_of_another_server_is_told_where_the_run_is_not_found(server, tmp_path):
    with pytest.raises(UserError, match=f"there is no run.*{server.url} was asked, the address is of example.org"):
        fetch(tmp_path, "https://example.org/me/p/runs/nothing")
    with pytest.raises(UserError) as error:
        fetch(tmp_path, f"{server.url}/me/p/runs/nothing")
    assert "was asked" not in str(error.value)


def test_folder_that_cannot_be_written_is_said(server, tmp_path):
    (tmp_path / "downloads").write_text("in the way")
    with pytest.raises(UserError, match=f"cannot write to {tmp_path}/downloads/me/p/run.seed00: Not a directory"):
        fetch(tmp_path)


@pytest.mark.parametrize(
    ("path", "iter_num", "named"),
    [
        ("me/p/", "best", "write user/project/run"),
        ("me/p/ ", "best", "write user/project/run"),
        ("https://wandb.ai/me/p", "best", "write user/project/run"),
        ("https://wandb.ai/me/p/runs/%2e%2e", "best", "write user/project/run"),
        ("https://wandb.ai/me/p/runs/a%2fb", "best", "write user/project/run"),
        ("https://wandb.ai/me/p/runs/a%00b", "best", "write user/project/run"),
        ("https://wandb.ai/me/p/runs/%2e%2e%20", "best", "write user/project/run"),
        ("https://wandb.ai/me/p/runs/%20", "best", "write user/project/run"),
        ("me/p/.. ", "best", "write user/project/run"),
        ("me/p", "best", "write user/project/run"),
        ("me/p/../run", "best", "write user/project/run"),
        ("../../run", "best", "write user/project/run"),
        ("me/p q/a", "best", "write user/project/run"),
        ("me/p/nothing", "best", "there is no run 'nothing' in me/p"),
        ("me/q/abcd1234", "best", "me has no project 'q'"),
        ("me/p/abcd1234", "last", "has no such checkpoint; it has 50, best"),
        ("me/p/abcd1234", "../best", "best, last, or the number"),
    ],
)
def test_what_is_not_there_is_said(server, tmp_path, path, iter_num, named):
    with pytest.raises(UserError, match=named):
        fetch(tmp_path, path, iter_num)
    assert not list(tmp_path.iterdir())


def test_run_without_checkpoints_and_name_of_two_are_said(server, tmp_path):
    server.runs["me", "p", "empty"] = Run("empty", "no files")
    with pytest.raises(UserError, match="it has none"):
        fetch(tmp_path, "me/p/empty")
    server.runs["me", "p", "other"] = Run("other", "run.seed00")
    with pytest.raises(UserError, match="abcd1234, other"):
        fetch(tmp_path)


@pytest.mark.parametrize("wrong", [lambda content: content[:-1], lambda content: b"x" * len(content)])
def test_damaged_download_is_said_and_leaves_what_was_there(server, tmp_path, wrong):
    (file,) = fetch(tmp_path).iterdir()
    server.serves = lambda name, content: wrong(content)
    with pytest.raises(UserError, match=r"damaged|download"):
        fetch(tmp_path, replace=True)
    assert file.read_bytes() == checkpoint.to_bytes(CONTENT)
    assert [path.name for path in file.parent.iterdir()] == ["best.pt"]


def test_file_that_is_no_checkpoint_is_said(server, tmp_path):
    server.runs["me", "p", "abcd1234"].files["run.seed00/best.pt"] = b"something else"
    with pytest.raises(UserError, match=r"me/p/run\.seed00: run\.seed00/best\.pt is damaged or no checkpoint"):
        fetch(tmp_path)


def test_wrong_key_and_no_key_are_said(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    with pytest.raises(UserError, match="user is not logged in"):
        fetch(tmp_path)
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    asked = len(server.asked)
    with pytest.raises(UserError, match="set WANDB_API_KEY"):
        fetch(tmp_path)
    assert len(server.asked) == asked


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
def test_server_that_fails_is_one_line(server, tmp_path, fault, named):
    server.fault = fault
    with pytest.raises(UserError, match=named) as error:
        fetch(tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.pt"))


def test_checkpoint_that_is_another_than_the_server_tells_is_refused(server, tmp_path):
    server.serves = lambda name, content: checkpoint.to_bytes(CONTENT | {"counters": {"iteration": 8}})
    with pytest.raises(UserError, match="came damaged"):
        fetch(tmp_path)


def test_of_two_files_of_a_name_the_experiments_own_is_taken(server, tmp_path):
    server.runs["me", "p", "abcd1234"].files["zzz/best.pt"] = checkpoint.to_bytes(CONTENT | {"agent": {"a": 1}})
    assert checkpoint.load(fetch(tmp_path) / "best.pt")["agent"] == {}

"""Help, one-line errors, and output streams that cannot take everything."""

import contextlib
import errno
import io
import re

import pytest

from milozero import main
from tests.support import ROOT
from tests.support.one_run import ABORTING


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task=train", "--p_lrr=1"], "did you mean '--p_lr'"),
        (["--task=train", "--env_id=Hoper"], "Hopper"),
        (["--task=train", "--cuda"], "no GPU is available"),
        (["--task=train", "--expert_path=nowhere"], "no such folder"),
        (["--task=train", "--data_dir=/proc/nowhere", "--num_iters=1"], "cannot write"),
        (["--task=eval", "--model_path=nowhere"], "no such folder"),
        (["--task=eval", "--model_path=~/nowhere"], "/nowhere: no such folder"),
        (["--task=eval", "--model_path=~nobody_at_all/x"], "no home folder ~nobody_at_all; write ./~nobody_at_all/x"),
        ([*ABORTING, "--env_kwargs=where=init"], "crashes the process (SIGABRT) with --env_kwargs=where=init"),
        ([*ABORTING, "--env_kwargs=where=reset"], "crashes the process (SIGABRT) with --env_kwargs=where=reset"),
        ([*ABORTING, "--env_kwargs=where=init,how=exit"], "crashes the process (exit code 7)"),
        (
            ["--task=train", "--env_id=Hopper", "--env_kwargs=render_mode=human"],
            "(SIGABRT) with --env_kwargs=render_mode=human; a window needs a display, and DISPLAY is ''",
        ),
    ],
)
def test_error_is_one_line_and_exit_code_2_and_nothing_is_written(
    milozero, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("DISPLAY", raising=False)
    result = milozero(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_help_shows_which_flags_take_a_value(milozero):
    result = milozero("-h")
    assert result.returncode == 0
    assert re.search(r"--rollout_len=\w", result.stdout)
    assert re.search(r"--cuda(?!=)\b", result.stdout)
    assert "--cuda=" not in result.stdout


@pytest.mark.usefixtures("run")
def test_output_that_cannot_encode_a_character_is_complete(tmp_path):
    flags = ["--task=eval", f"--model_path={tmp_path}/data/checkpoints/run", "--num_trajs=1"]
    outputs = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    with contextlib.redirect_stdout(outputs[0]), contextlib.redirect_stderr(outputs[1]):
        assert main.main([*flags, f"--data_dir={tmp_path}/data"]) == 0
        assert main.main(["--task=train", "--uuid=ä/", f"--data_dir={tmp_path}/data"]) == 2
    out, err = (output.buffer.getvalue().decode("ascii") for output in outputs)
    assert r"return 9.00 \xb1 0.00 (mean \xb1 standard deviation over 1 episode)" in re.sub(
        r"return [0-9.]+ ", "return 9.00 ", out
    )
    assert "must be a name, not a path" in err


class FullOutput(io.StringIO):
    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "flags", [("list_envs", "--only=CartPole"), ("demos", f"--expert_path={ROOT}/data/demos/Hopper-v3")]
)
def test_full_disk_behind_stdout_is_one_line(flags, capsys):
    with contextlib.redirect_stdout(FullOutput()):
        assert main.main([f"--task={flags[0]}", *flags[1:]]) == 2
    assert capsys.readouterr().err == "error: cannot write to stdout: No space left on device\n"

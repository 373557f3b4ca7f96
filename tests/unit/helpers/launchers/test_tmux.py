"""What tmux and conda are told, without either."""

import pytest

from helpers.errors import UserError
from helpers.launchers.tmux import check_conda, exists, literal, unsplit

CONDA = """#!/bin/sh
[ "$*" = "env list --json" ] || exit 3
echo '{"envs": ["/opt/conda", "/opt/conda/envs/py torch"]}'
"""


@pytest.fixture
def conda(tmp_path):
    program = tmp_path / "conda"
    program.write_text(CONDA)
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(("word", "told"), [("a;", "a\\;"), ("a;b", "a;b"), (";", "\\;"), ("a;;", "a;\\;"), ("", "")])
def test_word_does_not_end_tmuxs_command(word, told):
    assert unsplit(word) == told


def test_name_in_which_tmux_expands_nothing():
    assert literal("#(touch x);") == "##(touch x)\\;"


@pytest.mark.parametrize("name", ["conda", "py torch", "/opt/conda/envs/py torch"])
def test_conda_environment_is_found_by_name_and_by_path(conda, name):
    check_conda(conda, name)


@pytest.mark.parametrize("name", ["pytorch", "/opt/conda/envs/other", "envs"])
def test_conda_environment_that_is_not_there_is_refused(conda, name):
    with pytest.raises(UserError, match=f"--conda_env={name}: no such environment"):
        check_conda(conda, name)


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho no json\n", "#!/bin/sh\necho '{}'\n"])
def test_conda_that_cannot_be_asked_is_said(conda, text):
    with open(conda, "w") as file:
        file.write(text)
    with pytest.raises(UserError, match="--conda_env=x: conda cannot be asked"):
        check_conda(conda, "x")


def test_process_that_is_gone_does_not_exist():
    assert exists(1)
    assert not exists(2**22 + 1)  # beyond Linux's largest

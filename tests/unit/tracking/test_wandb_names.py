"""Project names, compared with what the real client accepts."""

import string

import pytest
import wandb

from milozero.experiment.command_line import parse
from milozero.experiment.resume import settings_from_metadata
from milozero.helpers.errors import UserError
from milozero.tracking.names import check_wandb_name


def client_accepts(name):
    try:
        wandb.Settings(project=name)
    except wandb.errors.UsageError:
        return False
    return True


def accepts(name):
    try:
        check_wandb_name(name)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("name", ["", "a", "ä" * 128, "a" * 128, "a" * 129, *(f"a{c}b" for c in string.punctuation)])
def test_accepts_the_same_names_as_the_client(name):
    assert accepts(name) == client_accepts(name)


@pytest.mark.parametrize("flag", ["wandb_project", "wandb_entity"])
@pytest.mark.parametrize("task", ["train", "eval"])
def test_invalid_name_is_refused_before_anything_starts(task, flag):
    with pytest.raises(UserError, match=f"{flag}=a/b: Weights & Biases does not allow / in a name"):
        parse([f"--task={task}", "--model_path=x" * (task == "eval") or "--seed=1", f"--{flag}=a/b"])


def test_checkpoint_of_a_run_with_an_invalid_name_is_still_readable():
    record = parse(["--task=train"]).flat() | {"wandb_project": "a/b"}
    assert settings_from_metadata(record).tracking.wandb_project == "a/b"

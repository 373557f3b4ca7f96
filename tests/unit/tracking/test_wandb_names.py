"""Names of projects, held against what the real client takes."""

import string

import pytest
import wandb

from milozero.experiment.command_line import parse
from milozero.experiment.resume import settings_from_metadata
from milozero.helpers.errors import UserError
from milozero.tracking.names import usable_name


def taken_by_the_client(name):
    try:
        wandb.Settings(project=name)
    except wandb.errors.UsageError:
        return False
    return True


def taken(name):
    try:
        usable_name(name)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("name", ["", "a", "ä" * 128, "a" * 128, "a" * 129, *(f"a{c}b" for c in string.punctuation)])
def test_same_names_are_taken_as_by_the_client(name):
    assert taken(name) == taken_by_the_client(name)


@pytest.mark.parametrize("flag", ["wandb_project", "wandb_entity"])
@pytest.mark.parametrize("task", ["train", "eval"])
def test_name_that_is_not_taken_is_said_before_anything_begins(task, flag):
    with pytest.raises(UserError, match=f"{flag}=a/b: Weights & Biases takes no / in a name"):
        parse([f"--task={task}", "--model_path=x" * (task == "eval") or "--seed=1", f"--{flag}=a/b"])


def test_checkpoint_of_a_run_with_such_a_name_is_still_read():
    record = parse(["--task=train"]).flat() | {"wandb_project": "a/b"}
    assert settings_from_metadata(record).tracking.wandb_project == "a/b"

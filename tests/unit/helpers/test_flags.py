"""Unknown flags, and the names that other libraries have for ours."""

import re

import pytest

from milozero import spawner
from milozero.experiment.command_line import parse
from milozero.experiment.settings import all_settings_names
from milozero.helpers.config.flags import build_parser, read_flags, to_flags
from milozero.helpers.config.foreign_flags import FOREIGN_FLAGS
from milozero.helpers.errors import UserError


@pytest.mark.parametrize(
    ("flag", "ours"),
    [
        ("--n_steps=5", "--rollout_len, summed over the environments of a worker: n_steps × num_envs"),
        ("--num-steps", "--rollout_len, summed over the environments of a worker: num_steps × num_envs"),
        ("--total_timesteps=1e6", "--num_timesteps, summed over all workers"),
        ("--total-timesteps", "--num_timesteps, summed over all workers"),
        ("--n-timesteps", "--num_timesteps, summed over all workers"),
        ("--learning_rate", "--p_lr and --v_lr, for policy and value function"),
        ("--learning-rate", "--p_lr and --v_lr, for policy and value function"),
        ("--n_epochs", "--epochs"),
        ("--update-epochs", "--epochs"),
        ("--n_envs", "--num_envs, per worker"),
        ("--num-envs", "--num_envs"),
        ("--env", "--env_id"),
        ("--env-id", "--env_id"),
        ("--tensorboard_log", "--tensorboard, without a folder: events go to data/logs/<experiment>"),
        ("--gae-lambda", "--gae_lambda"),
        ("--clip-coef", "--clip_range"),
        ("--ent-coef", "--ent_coef"),
        ("--vf-coef", "--vf_coef"),
        ("--max_grad_norm", "--clip_norm"),
        ("--max-grad-norm", "--clip_norm"),
        ("--norm-adv", "--normalize_advantages"),
        ("--no-norm-adv", "--no-normalize_advantages"),
        ("--track", "--wandb_project=NAME"),
        ("--exp-name", "--uuid"),
        ("--eval-freq", "--eval_frequency, in iterations"),
        ("--save-freq", "--save_frequency, in iterations"),
        ("--rollout-len=3", "--rollout_len"),
        ("--no_cuda", "--no-cuda"),
        ("--d-lr", "--d_lr"),  # of another algorithm than the default one
    ],
)
def test_flag_of_another_library_suggests_ours(flag, ours):
    with pytest.raises(UserError) as error:
        parse([flag])
    assert str(error.value) == f"unknown argument '{flag.split('=')[0]}': here it is {ours} (see main.py -h)"


@pytest.mark.parametrize("flag", ["--log-interval", "--verbose"])
def test_unneeded_flag_of_another_library_explains_why(flag):
    with pytest.raises(UserError, match=rf"^unknown argument '{flag}': not needed, each iteration is logged \(see"):
        parse([flag])


def test_each_suggested_flag_exists():
    ours = all_settings_names() | set().union(*(vars(cls()) for cls in spawner.GROUPS.values()))
    for hint in FOREIGN_FLAGS.values():
        suggested = [flag.removeprefix("no-") for flag in re.findall(r"--([a-z][\w-]*)", hint)]
        assert set(suggested) <= ours, hint


def test_no_foreign_flag_is_one_of_ours():
    assert not set(FOREIGN_FLAGS) & all_settings_names()


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--env-bundle=x", ": here it is --env_bundle"),
        ("--n-trials=3", ": here it is --num_trials"),
        ("--exp-name=x", ""),  # spawner.py has no --uuid
    ],
)
def test_spawner_suggests_only_its_own_flags(flag, hint):
    with pytest.raises(UserError) as error:
        read_flags(build_parser("spawner.py", "", "", spawner.GROUPS), [flag])
    assert str(error.value) == f"unknown argument '{flag.split('=')[0]}'{hint} (see spawner.py -h)"


def test_flag_of_another_algorithm_names_those_that_have_it(tmp_path):
    with pytest.raises(
        UserError, match=r"^--d_lr belongs to --algo=gail, --algo=airl and --algo=dac, not to --algo=ppo$"
    ):
        parse(["--d_lr=1e-3"])
    file = tmp_path / "x.yaml"
    file.write_text("environments:\n  Ant:\n    d_lr: 1e-3\n")
    with pytest.raises(UserError, match="--d_lr belongs to --algo=gail, --algo=airl and --algo=dac"):
        parse([f"--config={file}", "--env_id=Hopper"])


@pytest.mark.parametrize("extra", [[], ["--nonsense"], ["--config=missing.yaml"], ["--p_lr=fast"]])
def test_help_shows_the_algorithms_flags_despite_other_errors(capsys, extra):
    with pytest.raises(SystemExit) as end:
        parse(["--algo=gail", *extra, "-h"])
    assert end.value.code == 0
    output = capsys.readouterr().out
    assert "--algo=gail:" in output
    assert "--d_lr=" in output
    assert "--algo=ppo:" not in output


@pytest.mark.parametrize("columns", [80, 118, 200])
def test_help_fits_the_terminal_and_uses_its_width(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in (parse, lambda argv: spawner.main(argv)):
        with pytest.raises(SystemExit):
            command(["-h"])
        lines = capsys.readouterr().out.splitlines()
        assert columns * 0.9 < max(map(len, lines)) <= columns


def test_help_shows_both_forms_of_a_switch(capsys):
    with pytest.raises(SystemExit):
        parse(["-h"])
    output = capsys.readouterr().out
    assert "--cuda/--no-cuda" in output
    assert "--compile/--no-compile" in output


def test_long_choices_of_a_flag_are_in_its_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        spawner.main(["-h"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  --caliber=CALIBER  ")]
    assert line.endswith(
        "; one of debug, veryveryshort, veryshort, short, long, daylong, verylong, veryverylong, veryveryverylong"
    )


@pytest.mark.parametrize(
    ("word", "flag"),
    [("train", "--task=train"), ("eval", "--task=eval"), ("gail", "--algo=gail"), ("auto", "--resume")],
)
def test_word_without_a_flag_suggests_the_flag(word, flag):
    with pytest.raises(UserError, match=f"unknown argument '{word}': write {flag}"):
        parse(["--seed=1", word])


@pytest.mark.parametrize("flag", ["--record=False", "--record=1", "--no-record=True"])
def test_switch_with_a_value_is_explained(flag):
    with pytest.raises(UserError, match=r"^--record takes no value: write --record, or --no-record$"):
        parse(["--task=eval", flag])


def test_help_shows_each_default_once(capsys):
    with pytest.raises(SystemExit):
        parse(["--algo=ppo", "-h"])
    output = capsys.readouterr().out
    flags = re.split(r"\n  (?=-)", output)
    texts = {flag.partition("=")[0]: " ".join(flag.split()) for flag in flags}
    assert texts["--gamma"].endswith("(default: 0.99)")
    assert texts["--seed"].endswith("(default: 0; eval: the seed of the checkpoint)")
    assert all(text.count("(default") == 1 for name, text in texts.items() if name.startswith("--"))


def test_help_shows_the_flags_of_the_task_files_algorithm(capsys, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("meta:\n  algo: bc\n")
    with pytest.raises(SystemExit):
        parse([f"--config={file}", "--help"])
    assert "--algo=bc:" in capsys.readouterr().out


def test_values_survive_a_round_trip_through_flags():
    settings = parse(["--cuda", "--no-normalize_rewards", "--p_lr=0.1", "--env_kwargs=a=1"])
    assert parse(to_flags(settings.flat())).flat() == settings.flat()

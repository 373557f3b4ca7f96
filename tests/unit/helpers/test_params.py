"""Settings parsed from flags and task files."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milozero.demonstrations.dataset import ImitationConfig
from milozero.experiment.command_line import parse
from milozero.experiment.settings import CommonConfig, EvalConfig, ReportConfig
from milozero.helpers.config.mlp import parse_hidden_sizes
from milozero.helpers.config.params import build, declared_settings
from milozero.helpers.config.values import from_kwargs, to_kwargs, to_seconds
from milozero.helpers.errors import UserError

PATHS = {"config", "data_dir", "model_path", "expert_path", "expert_model", "out"}


@pytest.mark.parametrize(
    ("text", "kwargs"),
    [
        ("", {}),
        ("frame_skip=4", {"frame_skip": 4}),
        ("preset=train, frame_skip=4,flag=true,rate=1e-3,none=null,share=0.5", {
            "preset": "train", "frame_skip": 4, "flag": True, "rate": 1e-3, "none": None, "share": 0.5,
        }),
    ],
)  # fmt: skip
def test_kwargs_are_parsed_into_numbers_and_words(text, kwargs):
    assert to_kwargs(text) == kwargs


@pytest.mark.parametrize(
    ("text", "value"),
    [("on", "on"), ("1:30", "1:30"), ("-3", -3), ("1.", 1.0), (".5", 0.5), ("1e400", "1e400"), ("nan", "nan"),
     ("[1]", "[1]"), ("#f00", "#f00"),
     ("1_000", "1_000"), ("True", "True"), ("9" * 30, float("9" * 30)), ("010", "010")],
)  # fmt: skip
def test_value_of_kwargs_is_a_number_or_stays_text(text, value):
    parsed = to_kwargs(f"a={text}")["a"]
    assert (parsed, type(parsed)) == (value, type(value))


@given(st.dictionaries(st.sampled_from("abcde"), st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1)))
def test_kwargs_survive_a_round_trip(kwargs):
    assert to_kwargs(from_kwargs(kwargs)) == kwargs


@pytest.mark.parametrize("text", ["frame_skip", "=3", "a b=3", "a=1,a=2", "a=", "class=1"])
def test_invalid_kwargs_are_refused(text):
    with pytest.raises(UserError):
        to_kwargs(text)


def test_stack_names_give_layer_widths():
    assert parse_hidden_sizes("mlp_100") == (100, 100)
    assert parse_hidden_sizes("mlp_256_128") == (256, 128)
    for wrong in ("mlp", "mlp_", "cnn_3", "mlp_x", "mlp_0"):
        with pytest.raises(UserError, match="mlp_100"):
            parse_hidden_sizes(wrong)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("4-00:00:00", 345600), ("1:02:03", 3723), ("5:30", 330), ("7", 420), ("2-12", 216000), ("1-2:30", 95400)],
)
def test_durations_are_in_slurms_notation(text, seconds):
    assert to_seconds(text) == seconds


def test_empty_duration_means_no_limit():
    assert to_seconds("") == math.inf


def test_numbers_that_pyyaml_reads_as_text_get_their_declared_type(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("meta:\n  algo: ppo\nhyper:\n  num_timesteps: 1e7\n  p_lr: 3e-4\n  layer_norm: yes\n")
    settings = parse([f"--config={file}"])
    assert settings.train.num_timesteps == 10_000_000
    assert settings.agent.p_lr == 3e-4
    assert settings.agent.layer_norm is True


def test_command_line_overrides_the_file(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("p_lr: 1e-3\nv_lr: 1e-3\nbatch_norm_all: true\n")
    agent = parse([f"--config={file}", "--p_lr=0.5", "--no-batch_norm_all"]).agent
    assert (agent.p_lr, agent.v_lr, agent.batch_norm_all) == (0.5, 1e-3, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--p_lrr=1"], "did you mean '--p_lr'"),
        (["--p_lr=fast"], "expected a number"),
        (["--p_lr=-1"], "at least 0"),
        (["--gamma=1.5"], "at most 1"),
        (["--epochs=1.5"], "whole number"),
        (["--p_lr=nan"], "finite"),
        (["--p_lr"], "expected one argument"),
        (["stray"], "stray"),
        (["--algo=pppo"], "one of ppo"),
        (["--p_perception_stack=mpl_100"], "mlp_100"),
        (["--execution_time=soon"], "D-HH:MM:SS"),
        (["--batch_size=4096"], "larger than --rollout_len=2048"),
        (["--rollout_len=100"], "multiple of --num_envs=16"),
        (["--uuid=a/b"], "not a path"),
        (["--task=eval", "--p_lr=1", "--model_path=x"], "belongs to --task=train"),
        (["--task=eval"], "--model_path"),
        (["--task=eval", "--model_path=x", "--wandb_run_path=me/p/run"], "exclude each other"),
        (["--task=eval", "--model_path=x", "--wandb_download_replace"], "needs --wandb_run_path"),
        (["--task=eval", "--wandb_run_path=me/p"], "expected user/project/run"),
        (["--config=missing.yaml"], "missing.yaml"),
    ],
)
def test_error_is_one_line_with_what_to_do(arguments, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")) as error:
        parse(arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p_lrr: 1", "did you mean 'p_lr'"),
        ("p_lr: fast", "expected a number"),
        ("p_lr: [1, 2]", "p_lr is a list of choices; only spawner.py --sweep can draw from it"),
        ("- a\n- b", "name: value"),
        ("a: b: c", "not valid YAML"),
        ("meta: {p_lr: 1}\np_lr: 2", "duplicate parameter 'p_lr'"),
    ],
)
def test_error_in_a_file_names_the_file(tmp_path, text, message):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        parse([f"--config={file}"])
    assert "x.yaml" in str(error.value)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # machines may be busy
@given(st.lists(st.text(max_size=20), max_size=4))
def test_any_command_line_gives_settings_or_a_user_error(arguments):
    with contextlib.suppress(UserError):
        parse([a for a in arguments if not a.startswith(("-h", "--h"))])


@pytest.mark.parametrize("arguments", [["--p_lrr", "0.5"], ["--p_lrr=0.5", "--seeed=1"]])
def test_error_names_the_first_unknown_flag_but_not_what_follows(arguments):
    with pytest.raises(UserError, match=r"^unknown argument '--p_lrr'.*--p_lr\b"):
        parse(arguments)


def test_whole_numbers_go_up_to_int64():
    largest = np.iinfo(np.int64).max
    assert parse([f"--seed={largest}"]).common.seed == largest
    with pytest.raises(UserError, match="--seed"):
        parse([f"--seed={largest + 1}"])


@pytest.mark.parametrize("cls", [CommonConfig, EvalConfig, ReportConfig, ImitationConfig])
def test_tilde_in_a_path_is_the_home_folder(cls, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of me")
    paths = [name for name in declared_settings(cls) if name in PATHS]
    built = build(cls, dict.fromkeys(paths, "~/x"), {}, "")
    assert {getattr(built, name) for name in paths} == {"/home/of me/x"}

"""Any task file or command line gives settings, or a one-line error."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milozero.experiment.command_line import parse
from milozero.experiment.settings import Settings
from milozero.helpers.config.values import coerce
from milozero.helpers.errors import UserError
from tests.support.fuzzing import NAMES, VALUES, fuzz, is_one_line

PIECES = (
    *("[", "]", "{", "}", "&a ", "*a", "<<: ", "? ", ": ", "- ", "!!int ", "!!python/name:os.system ", "!x "),
    *("!!binary ", "!!timestamp ", "!!set ", "!!null ", "%YAML 1.1\n", "%TAG ! ", "---\n", "...\n", "|\n ", ">2\n"),
    *('"', "'", "\\", "\\U00110000", "\\UFFFFFFFF", "\\ud800", "\\0", "#", "@", "`", ",", "\t", "\n", "\n  ", " "),
    *("p_lr", "meta", "seed: 1\n", "2024-99-99", "1:30:00", "=", "~", "0x_", "\0", "\ud800", "\ufeff", "\x85"),
)
NODES = (
    *("[[1], {a: b}]", "{p_lr: 1}", "&a [*a]", "*a", "&a 1", "!!int ''", "!!bool x", "!!timestamp x", "!x y", "0x_"),
    *(
        "2024-99-99",
        "2024-01-01",
        "1:30:00",
        "=",
        "<<",
        "|\n  a\n  b",
        '"\\0"',
        '"\\ud800"',
        '"\\UFFFFFFFF"',
        "1" * 5000,
    ),
    *("{Ant: {p_lr: 1}}", "{Ant: {p_lr: [1]}}", "{Ant: 1}", "{? [Ant] : {}}", "{Ant: {seed: 1}, Ant: {}}"),
    *("[" * 500, "{a: " * 2000 + "}" * 2000, "? a", "- a", "'", "null", "!!python/object/apply:os.getcwd []"),
)
KEYS = st.sampled_from(
    [
        *NAMES,
        "environments",
        "? [a]\n",
        "? {a: b}\n",
        "1",
        "2024-01-01",
        "<<",
        "~",
        "&k p_lr",
        "*k",
        "true",
        "!!int x",
    ]
)
LINES = st.builds(
    "{}{}: {}\n".format, st.sampled_from(["", "", "meta:\n  ", "  "]), KEYS, st.sampled_from(NODES) | VALUES
)
FILES = (
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.text(max_size=100).map(lambda text: text.encode("utf-16", "surrogatepass"))
)
SNIPPETS = st.lists(st.sampled_from(PIECES) | VALUES, max_size=30).map("".join)
FLAGS = st.builds("--{}{}".format, st.sampled_from(["", "no-"]), st.sampled_from([*NAMES, "", "p_lrr", "help"]))
ARGUMENTS = (
    st.builds("{}={}".format, FLAGS, VALUES)
    | FLAGS
    | VALUES
    | st.sampled_from(["--", "-h", "-hh", "-x", "-1", "@file"])
)


def outcome(arguments):
    """Return the settings of a command line, or None after a one-line error; anything else fails."""
    settings, message = None, ""
    try:
        settings = parse(arguments)
    except UserError as error:
        message = str(error)
    except SystemExit as end:
        message = "the help" if end.code == 0 else ""
    if settings is None:
        assert message
        assert is_one_line(message)
        return None
    assert isinstance(settings, Settings)
    for value in settings.flat().values() if settings.common.task == "train" else ():
        assert value is None or isinstance(value, (bool, int, float)) or value.isprintable()
        assert not isinstance(value, float) or math.isfinite(value)
    return settings


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks") / "x.yaml"


@fuzz(400)
@given(content=FILES)
def test_fuzz_task_file_of_any_bytes(file, content):
    file.write_bytes(content)
    outcome([f"--config={file}"])


@fuzz(600)
@given(text=SNIPPETS)
def test_fuzz_task_file_of_pieces_of_yaml(file, text):
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    outcome([f"--config={file}"])


@fuzz(600)
@given(lines=st.lists(LINES, min_size=1, max_size=4))
def test_fuzz_task_file_of_real_names_and_junk(file, lines):
    file.write_bytes("".join(lines).encode("utf-8", "surrogatepass"))
    outcome([f"--config={file}"])


@fuzz(300)
@given(arguments=st.lists(st.text(max_size=20), max_size=4))
def test_fuzz_command_line_of_any_text(arguments):
    outcome(arguments)


@fuzz(600)
@given(arguments=st.lists(ARGUMENTS, max_size=4))
def test_fuzz_command_line_of_real_flags_and_junk(capsys, arguments):
    outcome(arguments)
    capsys.readouterr()  # the help


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("execution_time: 1:30:00", "execution_time", "1:30:00"),  # YAML 1.1 would read 5400, i.e. 90 hours
        ("uuid: 2024-01-01", "uuid", "2024-01-01"),
        ("uuid: 007", "uuid", "007"),
        ("uuid: yes", "uuid", "yes"),
        ("seed: 010", "seed", 10),
        ("num_iters: 1_000", "num_iters", 1000),
        ("num_iters: ~", "num_iters", None),
        ("num_iters:", "num_iters", None),
        ("layer_norm: on", "layer_norm", True),
    ],
)
def test_value_in_a_file_is_its_literal_text(file, line, name, value):
    file.write_text(line)
    assert outcome([f"--config={file}"]).flat()[name] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uuid: 2024-99-99\np_lr: x", "expected a number"),  # an invalid date
        ("p_lr: !!int ''", "expected a number"),
        ("uuid: !env HOME", "must be one number or text"),  # tags are not ignored
        ("p_lr: !!python/object/apply:os.getcwd []", "must be one number or text"),
        ("p_lr: 1\np_lr: 2", "duplicate parameter"),
        ("? [a]\n: 1", "unknown parameter '\\?'"),
        ("[" * 30_000, "nested too deeply"),
        ('uuid: "\\UFFFFFFFF"', "not valid YAML"),
        ('uuid: "a\\0b"', "printable text"),
        ('data_dir: "a\\nb"', "printable text"),
        ("#" * 70_000, "64 KiB"),
        ("seed: 1e300", "at most 9223372036854775807"),
        ("p_lr: 1e300", "at most 3e\\+38"),
        ("seed: " + "9" * 5000, "finite"),
        ("num_envs: 1e12\nrollout_len: 1e12", "at most 65536"),
        ("p_perception_stack: mlp_99999", "too large"),
        ("p_perception_stack: mlp" + "_16384" * 3, "too large"),
        ("p_perception_stack: mlp_²", "write mlp_100"),
        ("execution_time: ²", "D-HH:MM:SS"),
        ("execution_time: " + "9" * 400, "D-HH:MM:SS"),
        ("data_dir: " + "x" * 256, "at most 255"),
        ("data_dir: " + "x/" * 2000, "at most 3000 bytes"),
        ("uuid: " + "x" * 201, "at most 200 bytes long"),
        ("env_id: Hopper-v" + "9" * 5000, "at most 3000 bytes"),  # more digits than int() accepts
    ],
)
def test_junk_in_a_file_is_one_line(file, text, message):
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        parse([f"--config={file}"])
    assert is_one_line(str(error.value))


def test_aliases_of_aliases_do_not_fill_the_memory(file):
    others = [name for name in NAMES if name != "task"][:12]
    lines = [f"{others[0]}: &{others[0]} [x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise(others)]
    file.write_text("\n".join([*lines, f"task: *{others[-1]}"]))  # expands to 9**11 items
    assert outcome([f"--config={file}"]) is None


def test_error_about_a_value_with_line_breaks_and_escapes_is_one_printable_line():
    with pytest.raises(UserError) as error:
        parse(["--p_lr=a\nb\x1b[2J\ud800"])
    assert str(error.value) == r"command line: --p_lr=a\nb\x1b[2J\ud800: expected a number"


def test_path_with_a_nul_is_a_user_error():
    for flag in ("config", "data_dir", "expert_path"):
        assert outcome([f"--{flag}=a\0b"]) is None


def test_number_too_large_for_a_float_is_a_user_error():
    with pytest.raises(ValueError, match="finite"):
        coerce(10**400, float)  # such as in a checkpoint's config

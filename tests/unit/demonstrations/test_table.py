"""The table of --task=demos."""

import pytest

from milozero.demonstrations import dataset as demos
from milozero.demonstrations import table
from milozero.demonstrations.dataset import ImitationConfig
from milozero.helpers.errors import UserError
from tests.support.demos import episode


def test_table_shows_each_episode_and_a_summary(tmp_path, capsys):
    for number, length in enumerate((5, 2)):
        metadata = {"env_id": "X-v0", "seed": number + 70, "mujoco_version": "3.17.0", "teacher": "long " * 40}
        demos.write_demo(tmp_path / f"{number}.h5", episode(length), metadata)
    table.show(ImitationConfig(expert_path=str(tmp_path)))
    output = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines()]
    assert ["0", "5", "10.0", "2.000", "time limit", "70"] in rows
    assert ["1", "2", "1.0", "0.500", "time limit", "71"] in rows
    assert "│      5 │   10.0 │    2.000 │ time limit │ 70   │" in output  # numbers are aligned to the right
    assert "episodes:      2, 7 steps" in output
    assert "return:        5.5 ± 4.5, 1.0 to 10.0" in output
    assert "env_id:        X-v0" in output
    assert "mujoco_version: 3.17.0" in output
    assert f"teacher:       {'long ' * 40}" in output  # on one line, for grep
    assert "seed:" not in output


def test_progress_bar_is_on_stderr(tmp_path, capsys, monkeypatch):
    consoles = []

    def track(numbers, *_, console, **__):
        consoles.append(console)
        return numbers

    monkeypatch.setattr("rich.progress.track", track)
    demos.write_demo(tmp_path / "a.h5", episode(), {})
    table.show(ImitationConfig(expert_path=str(tmp_path)))
    assert "episodes:" in capsys.readouterr().out
    (console,) = consoles
    assert console.stderr


def test_metadata_is_shown_verbatim_and_damaged_metadata_is_a_user_error(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "[red]"
    folder.mkdir()
    demos.write_demo(folder / "a.h5", episode(3), {"env_id": "[/x]", "seed": 1})
    table.show(ImitationConfig(expert_path=str(folder)))
    output = capsys.readouterr().out
    assert "[/x]" in output
    assert "[red]" in output

    def broken(_):
        raise RuntimeError("unable to read the attribute")

    monkeypatch.setattr("milozero.demonstrations.formats.hdf5.read_metadata", broken)
    with pytest.raises(UserError, match="unable to read the attribute"):
        table.show(ImitationConfig(expert_path=str(folder)))


def test_long_table_is_truncated_with_a_count(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(table, "MAX_ROWS", 1)
    for number in range(3):
        demos.write_demo(tmp_path / f"{number}.h5", episode(4), {})
    table.show(ImitationConfig(expert_path=str(tmp_path), num_demos=3))
    assert "... and 2 more" in capsys.readouterr().out

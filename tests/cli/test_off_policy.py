"""SAC and TD3 from the command line: training, evaluation, the replay buffer in checkpoints, and refusals."""

import re
import shutil

import numpy as np
import pytest

from milozero.agents.replay_buffer import ReplayBuffer, Steps
from milozero.experiment import checkpoint
from milozero.experiment.replay_files import ReplayFiles, load, shards_of
from tests.support.one_run import OFF_POLICY, assert_equal, logged_rows

TRAIN = ("--task=train", "--num_envs=4", "--rollout_len=128", "--eval_episodes=1", "--no-compile", *OFF_POLICY)
HOPPER = (*TRAIN, "--env_id=Hopper", "--save_frequency=2")
REPLAY = "data/checkpoints/run/replay"


def segments(tmp_path, name="run", file="last"):
    return checkpoint.load(tmp_path / f"data/checkpoints/{name}/{file}.pt")["workers"][0]["replay"]


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_policy_is_evaluated_and_saved_as_demonstrations(milozero, tmp_path, algo):
    flags = (*TRAIN, "--env_id=Pendulum", f"--algo={algo}", "--num_iters=4", "--learning_starts=160", "--uuid=run")
    assert milozero(*flags).returncode == 0
    rows = logged_rows(tmp_path, "run")
    assert rows[0]["q_loss"] == ""  # nothing has been learned yet
    assert float(rows[-1]["td_error"]) > 0
    assert float(rows[-1]["buffer_size"]) == 300
    result = milozero(
        *("--task=eval", "--model_path=data/checkpoints/run", "--num_trajs=2", "--save_traj", "--eval_stochastic")
    )
    assert result.returncode == 0, result.stderr
    clone = ("--algo=bc", "--env_id=Pendulum", "--num_iters=1", "--num_envs=4", "--rollout_len=128", "--no-compile")
    demos = next((tmp_path / "data/evaluations/run").rglob("*.h5")).parent
    result = milozero("--task=train", *clone, f"--expert_path={demos}")
    assert result.returncode == 0, result.stderr


def test_updates_per_step_counts_all_environments(milozero, tmp_path):
    for num_envs in (1, 4):
        flags = (*HOPPER, "--algo=sac", f"--num_envs={num_envs}", "--num_iters=4", f"--uuid=run{num_envs}")
        assert milozero(*flags, "--updates_per_step=0.3").returncode == 0
    steps = [
        checkpoint.load(tmp_path / f"data/checkpoints/run{n}/last.pt")["agent"]["optimizer"]["steps"] for n in (1, 4)
    ]
    assert steps == [124, 124]  # 0.3 of the 416 steps since the round in which learning started, in fours


def test_files_of_the_last_and_of_two_numbered_checkpoints_stay(milozero, tmp_path):
    """Evaluations save ``last`` in between; 300 steps are 75 rows of 4."""
    flags = (*HOPPER, "--algo=td3", "--eval_frequency=1", "--uuid=run")
    assert milozero(*flags, "--num_iters=6").returncode == 0
    listed = {name: {each["file"] for each in segments(tmp_path, file=name)} for name in ("iter_4", "iter_6", "last")}
    remaining = {path.name for path in (tmp_path / REPLAY).iterdir()}
    assert remaining == listed["iter_4"] | listed["iter_6"] | listed["last"]
    assert not {segment["file"] for segment in segments(tmp_path, file="iter_2")} <= remaining
    (tmp_path / "data/checkpoints/run/last.pt").unlink()
    (tmp_path / "data/checkpoints/run/iter_6.pt").unlink()
    result = milozero(*flags, "--num_iters=6", "--resume")
    assert "resuming after iteration 4, bit-exact" in result.stdout


def test_save_writes_only_the_new_steps(tmp_path):
    buffer, files = ReplayBuffer(20_000, 2, 3, 1), ReplayFiles(tmp_path, 0, 1)
    sizes = []
    for _ in range(400):
        buffer.add(some_steps(100))
        written = {path.name for path in tmp_path.rglob("*.bin")}
        files.save(buffer)
        files.checkpoint_written(only_last=False)
        (name,) = {path.name for path in tmp_path.rglob("*.bin")} - written
        sizes.append((tmp_path / "replay" / name).stat().st_size)
    row = sizes[0] // 100
    assert max(sizes) < 270 * row  # a file of up to 10,000 / 64 rows is extended by 100
    assert len(files.segments) <= 66
    other = ReplayBuffer(20_000, 2, 3, 1)
    load(other, tmp_path, [files.segments], exact=True)
    assert (other.start, other.end) == (buffer.start, buffer.end) == (30_000, 40_000)
    for own, expected in zip(other.rows_between(30_000, 40_000), buffer.rows_between(30_000, 40_000), strict=True):
        np.testing.assert_array_equal(own, expected)


def some_steps(count, num_envs=2):
    rng = np.random.default_rng(count)
    flags = [rng.random((count, num_envs)) < 0.1 for _ in range(3)]
    obs, actions = (rng.random((rows, num_envs, size), np.float32) for rows, size in ((count + 1, 3), (count, 1)))
    return Steps(obs, actions, rng.random((count, num_envs), np.float32), *flags)


def test_folder_that_is_removed_during_a_run_is_written_again(tmp_path):
    buffer, files = ReplayBuffer(2000, 2, 3, 1), ReplayFiles(tmp_path, 0, 1)
    for _ in range(3):
        buffer.add(some_steps(100))
        files.save(buffer)
        shutil.rmtree(tmp_path / "replay")
    buffer.add(some_steps(100))
    (segment,) = files.save(buffer)
    assert (segment["first"], segment["end"]) == (0, 400)
    load(ReplayBuffer(2000, 2, 3, 1), tmp_path, [[segment]], exact=True)


def test_temporary_files_and_those_of_former_workers_are_removed(tmp_path):
    buffer, files = ReplayBuffer(2000, 2, 3, 1), ReplayFiles(tmp_path, 0, 2)
    (tmp_path / "replay").mkdir()
    for name in (".rank0_0_100_00000000.bin.77", "rank2_0_100_00000000.bin", "rank1_0_100_00000000.bin", "notes.txt"):
        (tmp_path / "replay" / name).write_text("")
    buffer.add(some_steps(100))
    files.save(buffer)
    files.checkpoint_written(only_last=False)
    left = {path.name for path in (tmp_path / "replay").iterdir()}
    assert left == {files.segments[0]["file"], "rank1_0_100_00000000.bin", "notes.txt"}  # rank 1 removes its own


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_resumed_run_ends_with_the_same_bits_after_the_buffer_has_wrapped_around(milozero, tmp_path, algo):
    flags = (*HOPPER, f"--algo={algo}", "--train_freq=16")
    assert milozero(*flags, "--num_iters=8", "--uuid=whole").returncode == 0
    for end in (3, 5, 8):
        result = milozero(*flags, f"--num_iters={end}", "--uuid=run", "--resume=auto", "--save_frequency=50")
        assert result.returncode == 0, result.stderr
    whole, parts = (checkpoint.load(tmp_path / f"data/checkpoints/{name}/last.pt") for name in ("whole", "run"))
    for content in (whole, parts):
        assert content["workers"][0].pop("replay")[-1]["end"] == 256
    assert_equal(parts["agent"], whole["agent"])
    assert_equal(parts["workers"], whole["workers"])
    losses = [[row["q_loss"] for row in logged_rows(tmp_path, name)] for name in ("whole", "run")]
    assert losses[0] == losses[1]


def test_run_without_a_saved_buffer_resumes_with_an_empty_one_and_says_so(milozero, tmp_path):
    flags = (*HOPPER, "--algo=sac", "--uuid=run")
    assert milozero(*flags, "--no-save_buffer", "--num_iters=4").returncode == 0
    assert not (tmp_path / REPLAY).exists()
    result = milozero(*flags, "--save_buffer", "--num_iters=5", "--resume")
    assert result.returncode == 0, result.stderr
    assert (
        "not bit-exact: the replay buffer starts empty, because the checkpoint was saved without it" in result.stderr
    )
    row = logged_rows(tmp_path, "run")[-1]
    assert float(row["buffer_size"]) == np.mean([32, 64, 96, 128])
    assert row["q_loss"] != ""  # learning starts again when the buffer has --learning_starts steps
    result = milozero(*flags, "--no-save_buffer", "--num_iters=6", "--resume")  # the saved buffer is still restored
    assert "not bit-exact" not in result.stderr
    assert float(logged_rows(tmp_path, "run")[-1]["buffer_size"]) > 128


@pytest.mark.parametrize("damage", ["removed", "truncated", "another bit", "longer"])
def test_damaged_replay_file_is_one_line_that_names_the_cure(milozero, tmp_path, damage):
    flags = (*HOPPER, "--algo=sac", "--uuid=run")
    assert milozero(*flags, "--num_iters=4").returncode == 0
    path = tmp_path / REPLAY / segments(tmp_path)[-1]["file"]
    data = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        changed = {"truncated": data[:-1], "longer": data + b"x", "another bit": bytes([data[0] ^ 1]) + data[1:]}
        path.write_bytes(changed[damage])
    before = checkpoint.load(tmp_path / "data/checkpoints/run/last.pt")
    result = milozero(*flags, "--num_iters=6", "--resume")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert re.search(rf"{path.name}.*to resume with an empty replay buffer, remove the folder", result.stderr)
    assert_equal(checkpoint.load(tmp_path / "data/checkpoints/run/last.pt"), before)
    shutil.rmtree(tmp_path / REPLAY)
    result = milozero(*flags, "--num_iters=6", "--resume")
    assert result.returncode == 0
    assert "the replay buffer starts empty, because data/checkpoints/run/replay is missing" in result.stderr.replace(
        f"{tmp_path}/", ""
    )


def test_invalid_list_of_replay_files_is_refused(milozero, tmp_path):
    flags = (*HOPPER, "--algo=sac", "--uuid=run")
    assert milozero(*flags, "--num_iters=4").returncode == 0
    path = tmp_path / "data/checkpoints/run/last.pt"
    content = checkpoint.load(path)
    outside = content["workers"][0]["replay"][0] | {"file": "../../../secret"}
    for wrong in ("x", [1], [outside], [content["workers"][0]["replay"][-1] | {"first": -1}]):
        content["workers"][0]["replay"] = wrong
        path.write_bytes(checkpoint.to_bytes({k: v for k, v in content.items() if k != "version"}))
        result = milozero(*flags, "--num_iters=6", "--resume")
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        assert "the checkpoint does not match its own settings" in result.stderr


def test_run_without_space_for_the_buffer_keeps_its_last_checkpoint_and_saves_later(milozero, tmp_path, monkeypatch):
    from milozero.experiment import replay_files

    write, failing = replay_files.write_atomically, [2]

    def fail_twice(path, content):
        if failing[0]:
            failing[0] -= 1
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(replay_files, "write_atomically", fail_twice)
    result = milozero(*HOPPER, "--algo=sac", "--num_iters=6", "--eval_frequency=0", "--uuid=run")
    assert result.returncode == 0, result.stderr
    assert "checkpoint of iteration 2 not written: No space left on device" in result.stderr
    assert "training continues, and the next save retries" in result.stderr
    assert (segments(tmp_path)[-1]["end"], (tmp_path / "data/checkpoints/run/iter_4.pt").exists()) == (192, True)


def test_former_workers_steps_are_shared_out_if_their_number_changes(tmp_path):
    assert [shards_of(rank, 2, 3) for rank in range(2)] == [[0, 2], [1]]
    assert [shards_of(rank, 3, 2) for rank in range(3)] == [[0], [1], [0]]
    shards = []
    for rank in range(2):
        buffer = ReplayBuffer(600, 2, 3, 1)
        buffer.add(some_steps(200 + rank))
        shards.append(ReplayFiles(tmp_path, rank, 2).save(buffer))
    both = ReplayBuffer(1200, 2, 3, 1)
    load(both, tmp_path, shards, exact=False)
    assert (both.start, both.end) == (0, 403)  # each worker's steps end with a row of padding
    np.testing.assert_array_equal(both.rows_between(201, 402).obs, some_steps(201).obs)
    part = ReplayBuffer(200, 2, 3, 1)  # of three workers: smaller than one file
    load(part, tmp_path, shards[:1], exact=False)
    np.testing.assert_array_equal(part.rows_between(part.start, part.end).obs[-3:-1], some_steps(200).obs[-2:])


REFUSED = {
    ("--algo=sac", "--env_id=CartPole"): "off-policy algorithms need continuous actions; for discrete ones, use",
    ("--algo=td3", "--env_id=tests.support.user_envs:Unbounded-v0"): "need actions with finite bounds",
    ("--algo=sac", "--train_freq=30"): "--train_freq=30 must be a multiple of --num_envs=4 and divide --rollout_len=",
    ("--algo=sac", "--buffer_size=8"): "--buffer_size=8 is too small: each worker needs at least --train_freq=32",
    ("--algo=td3", "--num_timesteps=128"): "--learning_starts=128 must be less than --num_timesteps=128",
    ("--algo=td3", "--ent_coef=0.1"): "--ent_coef belongs to --algo=ppo, --algo=sac,",
    ("--algo=sac", "--epochs=3"): "not to --algo=sac",
    ("--algo=sac", "--ent_coef=0"): "--ent_coef",
}


@pytest.mark.parametrize(("flags", "message"), REFUSED.items(), ids=map(str, REFUSED))
def test_what_does_not_fit_is_one_line_before_anything_is_written(milozero, tmp_path, flags, message):
    result = milozero(*TRAIN, "--env_id=Hopper", *flags)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert message in result.stderr
    assert not (tmp_path / "data/checkpoints").exists()


def test_another_run_starts_from_policy_critics_and_temperature(milozero, tmp_path):
    assert milozero(*HOPPER, "--algo=sac", "--num_iters=3", "--uuid=run").returncode == 0
    start = ("--init_from=data/checkpoints/run", "--init_iter_num=last", "--num_iters=1", "--learning_starts=2000")
    result = milozero(*HOPPER, "--algo=sac", *start, "--uuid=next")
    assert result.returncode == 0, result.stderr
    assert "policy, observation normalizer, critics, temperature" in result.stdout
    old, new = (checkpoint.load(tmp_path / f"data/checkpoints/{name}/last.pt")["agent"] for name in ("run", "next"))
    assert_equal(new["optimizer"]["parameters"], old["optimizer"]["parameters"])
    assert new["optimizer"]["steps"] == 0
    result = milozero(*HOPPER, "--algo=td3", *start)
    assert "--algo=td3 needs a deterministic policy, but sac trained a squashed Gaussian policy" in result.stderr
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)

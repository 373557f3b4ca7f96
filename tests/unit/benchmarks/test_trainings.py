"""Runs that benchmarks start, and the pages that they update."""

import pytest


def test_stopped_run_gives_no_result(trained, tmp_path):
    import imitation

    trained("stopped")
    with pytest.raises(RuntimeError, match="stopped before its end"):
        imitation.measure(imitation.Case("bc", "Hopper-v5", 4, 0), tmp_path)


def test_finished_run_is_evaluated_but_not_trained_again(trained, tmp_path):
    import imitation

    commands, case = trained("finished"), imitation.Case("ppo on airl's reward", "Hopper-v5", 16, 2)
    rows = [imitation.measure(case, tmp_path) for _ in range(2)]
    assert [arguments[0] for arguments in commands] == ["--task=train", "--task=eval", "--task=eval"]
    assert f"--reward_path={tmp_path}/checkpoints/{case.teacher.name}" in commands[0]
    assert {"--seed=2", "--num_demos=16", "--resume=auto"} <= set(commands[0])
    assert rows[0] == rows[1] == {**vars(case), "return": 12.3, "steps": 200, "seconds": 10, "evaluations": []}


def test_table_replaces_only_its_own_block_even_if_that_is_empty(tmp_path):
    import trainings

    marks = [f"<!-- made by: python benchmarks/{name} -->\n" for name in ("a.py", "a.py --more")]
    page = tmp_path / "page.md"
    page.write_text(f"{marks[0]}<!-- end -->\ntext\n{marks[1]}old\n<!-- end -->\n")
    trainings.update_page(page, "a.py", "new\n")
    assert page.read_text() == f"{marks[0]}new\n<!-- end -->\ntext\n{marks[1]}old\n<!-- end -->\n"

"""The tables and runs of the imitation benchmark."""

import json
import sys


def test_imitation_tables_show_percentages_of_the_expert_for_each_seed(tmp_path):
    import imitation_tables as tables

    expert = {"Hopper-v5": 2000.0, "Walker2d-v5": 4000.0}
    common = {"env_id": "Hopper-v5", "demos": 4, "steps": 500_000, "seconds": 9}
    rows = [
        {**common, "method": "gail", "seed": 1, "return": 2200.0},
        {**common, "method": "gail", "seed": 0, "return": 1000.0},
        {**common, "method": "gail, shuffled", "seed": 0, "return": 100.0},
        {**common, "method": "bc", "seed": 0, "return": 300.0},
    ]
    lines = tables.returns(rows, expert, {"bc": (4,), "gail": (1, 4)}).splitlines()
    assert "| Hopper-v5 | expert | | | 2,000 | 100 | |" in lines
    assert "| Hopper-v5 | gail | 4 | 2 | 1,600 | 80 (50, 110) | 500,000 |" in lines
    assert "| Hopper-v5 | bc | 4 | 1 | 300 | 15 (15) | – |" in lines
    assert len(lines) == 2 + 4
    controls = {"gail": (4,), "gail, shuffled": (4,), "airl": (16,), "airl, shuffled": (16,)}
    assert tables.controls(rows, expert, controls).splitlines()[2:] == [
        "| gail | 80 (50, 110) | 5 (5) |",
        "| airl | – | – |",  # not measured
    ]
    summary = tables.summary(rows, expert).splitlines()
    assert summary[0] == "| % of the expert's return | Hopper-v5 | Walker2d-v5 |"
    assert summary[2] == "| behavioral cloning, 4 demonstrations | 15 | – |"
    tables.plot(rows, expert, ["gail", "bc"], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    tables.plot(rows[2:3], expert, ["gail", "bc"], tmp_path / "empty.png")  # only a control is measured
    assert (tmp_path / "empty.png").exists()


def test_speed_is_the_first_evaluation_near_the_expert():
    import imitation_tables as tables

    common = {"env_id": "Hopper-v5", "demos": 1, "method": "dac"}
    rows = [
        {**common, "seed": 0, "evaluations": [[100, 60, 90.0], [200, 150, 96.0], [300, 200, 99.0]]},
        {**common, "seed": 1, "evaluations": [[100, 60, 90.0]]},
        {**common, "seed": 2},  # of an earlier version
        {**common, "method": "bc", "seed": 0, "evaluations": [[1, 2, 99.0]]},  # steps mean nothing
    ]
    lines = tables.speed(rows, {"Hopper-v5": 100.0}, {"bc": (1,), "dac": (1,)}).splitlines()
    assert lines[2:] == ["| Hopper-v5 | dac | 1 | 200, never | 2, – |"]


def test_readme_shows_airl_without_cloning():
    import imitation
    import imitation_tables as tables

    (method, number) = next(case for label, case in tables.IN_README.items() if label.startswith("AIRL"))
    flags = imitation.ALL[method].flags
    assert number in imitation.ALL[method].demos
    assert not any("pretrain" in flag for flag in flags)
    rows = json.loads(imitation.RESULTS.read_text())
    assert tables.summary(rows, imitation.experts()) in imitation.README.read_text()


def test_controls_differ_from_each_other_only_in_reward_and_ablation():
    import imitation

    assert len(imitation.CONTROLS) == 18
    for name in ("dac", "sqil", "iq"):
        plain, shuffled = imitation.CONTROLS[name], imitation.CONTROLS[f"{name}, shuffled"]
        assert shuffled.flags == (*plain.flags, "--d_ablation=shuffled")
        assert plain.flags == imitation.METHODS[name].flags
    absorbing = ("--d_reward=unbiased", "--d_absorbing")
    for algo in ("gail", "airl"):
        plain, recommended = imitation.CONTROLS[algo], imitation.CONTROLS[f"{algo}, unbiased reward, absorbing"]
        assert recommended.flags == (*plain.flags, *absorbing)
        shuffled = imitation.CONTROLS[f"{algo}, unbiased reward, absorbing, shuffled"]
        assert shuffled.flags == (*recommended.flags, "--d_ablation=shuffled")
        assert plain.demos == recommended.demos == shuffled.demos


def test_run_on_a_learned_reward_comes_after_the_run_that_learns_it():
    import imitation

    runs = list(imitation.cases(imitation.ALL, ["Hopper-v5"], [16], 2))
    students = [run for run in runs if run.teacher]
    assert len(students) == 2
    for run in students:
        assert run.teacher.seed == run.seed
        assert runs.index(run.teacher) < runs.index(run)
    assert len({run.name for run in runs}) == len(runs)


def test_imitation_reports_the_failed_run_and_saves_no_row_for_it(monkeypatch, tmp_path, capsys):
    import imitation

    def measure(case, data):
        raise RuntimeError(f"{case.name} was stopped before its end")

    page = tmp_path / "imitation.md"
    page.write_text("<!-- made by: python benchmarks/imitation.py -->\nold\n<!-- end -->\n")
    replaced = {"measure": measure, "RESULTS": tmp_path / "imitation.json", "PAGE": page, "README": page}
    replaced |= {"experts": lambda: {"Hopper-v5": 1.0}}
    for name, value in replaced.items():
        monkeypatch.setattr(imitation, name, value)
    monkeypatch.setattr(sys, "argv", ["imitation.py", "--only", "bc", "--envs", "Hopper-v5", "--demos", "4"])
    assert imitation.main() == 1
    assert "a run failed: bc.Hopper-v5.demos04.seed00 was stopped" in capsys.readouterr().out
    assert not replaced["RESULTS"].exists()


def test_controls_do_not_replace_the_cases_of_a_method_that_is_also_selected(monkeypatch, tmp_path):
    import imitation

    selected = {}

    def select(methods, envs, numbers, seeds):
        selected.update(methods)
        return iter(())

    page = tmp_path / "page.md"
    page.write_text("")
    replaced = {"cases": select, "RESULTS": tmp_path / "imitation.json", "PAGE": page, "README": page}
    for name, value in (replaced | {"experts": lambda: {"Hopper-v5": 1.0}}).items():
        monkeypatch.setattr(imitation, name, value)
    monkeypatch.setattr(sys, "argv", ["imitation.py", "--only", "gail", "controls"])
    assert imitation.main() == 0
    assert selected == imitation.CONTROLS | {"gail": imitation.METHODS["gail"]}

"""Mutation testing: sampling and applying mutants, selecting tests, and the verdict."""

import itertools
import json
import sys

import pytest

CODE = '''
"""Twice 2 + 2."""
from __future__ import annotations
import functools

LIMIT: int | None = 3


@functools.cache
def clip(x: float, *, low: float | None = None) -> float | None:
    if low is not None and x < low:
        raise ValueError(f"{x + 1} is too small")
    return min(x, LIMIT) + 1


if __name__ == "__main__":
    print(clip(2))
'''


@pytest.fixture
def mutations():
    import mutations

    return mutations


def row(outcome="survived", *, file="agents/a.py", line=1, why=""):
    return {
        "file": file,
        "line": line,
        "operator": "AddNot",
        "before": "if x:",
        "after": "if not x:",
        "outcome": outcome,
        "by": "",
        "tests": 3,
        "seconds": 1.0,
        "why": why,
    }


def traces(**changes):
    from mutants import Traces

    near, far = "tests/unit/agents/test_other.py::test_near", "tests/unit/agents/test_other.py::test_far"
    own = "tests/unit/agents/test_a.py::test_own"
    covered = {"agents/a.py": {2: {near}, 3: {near, far}, 7: {far}}}
    seconds = {near: 1.0, far: 0.5, own: 2.0, "tests/unit/helpers/test_a.py::test_of_another": 0.1}
    return Traces(**({"seconds": seconds, "covered": covered} | changes)), near, far, own


def test_meaningless_mutations_are_skipped(mutations):
    lines = {line for line, _ in mutations.find_sites(CODE)}
    text = CODE.splitlines()
    assert [text[line - 1].strip() for line in sorted(lines)] == [
        "LIMIT: int | None = 3",
        "if low is not None and x < low:",
        "return min(x, LIMIT) + 1",
    ]
    names = [name for changes in mutations.find_sites(CODE).values() for name, _ in changes]
    assert not any(name.startswith("ReplaceBinaryOperator_BitOr") for name in names)


def test_sample_is_reproducible_and_bounded(mutations):
    sources = {"agents/a.py": CODE, "helpers/b.py": CODE}
    drawn = mutations.sample(sources, 5, seed=1)
    assert drawn == mutations.sample(sources, 5, seed=1)
    assert drawn != mutations.sample(sources, 5, seed=2)
    assert len(drawn) == len({mutant.key() for mutant in drawn}) == 5
    assert len(mutations.sample(sources, 10**6, seed=1)) <= 2 * len(mutations.find_sites(CODE))
    assert mutations.sample({}, 5, seed=1) == []


def test_larger_sample_extends_a_smaller_one_and_ignores_edits_elsewhere(mutations):
    small = mutations.sample({"agents/a.py": CODE}, 3, seed=1)
    assert mutations.sample({"agents/a.py": CODE}, 6, seed=1)[:3] == small
    moved = mutations.sample({"agents/a.py": f"\n\n{CODE}"}, 3, seed=1)
    assert [(m.line - 2, m.operator, m.after) for m in moved] == [(m.line, m.operator, m.after) for m in small]


def test_sample_weights_packages_by_the_root_of_their_size(mutations):
    sources = {f"helpers/{name}.py": CODE for name in "abcd"} | {"agents/a.py": CODE, "spawner.py": CODE}
    found = [mutations.package(mutant.file) for mutant in mutations.sample(sources, 12, seed=0)]
    assert {name: found.count(name) for name in found} == {"helpers": 6, "agents": 3, "programs": 3}


def test_mutant_is_applied_exactly_and_undone(mutations, tmp_path):
    path = tmp_path / "a.py"
    path.write_text(CODE)
    for mutant in mutations.sample({"a.py": CODE}, 100, seed=3):
        with mutations.apply_mutant(path, mutant):
            old, new = CODE.splitlines(), path.read_text().splitlines()
            assert [k + 1 for k, (a, b) in enumerate(zip(old, new, strict=True)) if a != b] == [mutant.line]
            assert (old[mutant.line - 1], new[mutant.line - 1]) == (mutant.before, mutant.after)
        assert path.read_text() == CODE
    with pytest.raises(KeyError), mutations.apply_mutant(path, mutant):
        raise KeyError
    assert path.read_text() == CODE


def test_decorator_is_removed_and_named(mutations):
    code = "import torch\n\n\n@torch.no_grad()\ndef act(x):\n    return x\n"
    (mutant,) = mutations.sample({"agents/a.py": code}, 9, seed=0)
    assert (mutant.line, mutant.before, mutant.after) == (4, "@torch.no_grad()", "")


@pytest.mark.parametrize(
    ("line", "lines", "at_import"),
    [
        (1, [1], True),  # a constant
        (4, [3, 4], True),  # defaults
        (6, [5, 6], False),  # a condition that spans lines, without its body
        (7, [7], False),
        (8, [8], False),
        (9, [9], False),
    ],
)
def test_statement_at_a_line(line, lines, at_import):
    from mutants import statement

    code = "A = 1\n\ndef f(\n    x=1):\n    if (x and\n            A):\n        x = 2\n    elif x:\n        pass\n"
    result, imported = statement(code, line)
    assert (list(result), imported) == (lines, at_import)


def test_tests_that_execute_the_line_run_first_and_fastest_first():
    from mutations import Mutant

    code = "A = 1\ndef f(x):\n    x += 1\n    return (\n        x)\n"
    known, near, far, own = traces()
    assert known.select_tests(Mutant("agents/a.py", 3, "", 0, "", ""), code, 60) == [far, near, own]
    assert known.select_tests(Mutant("agents/a.py", 1, "", 0, "", ""), code, 60) == [own, far, near]  # at import
    assert known.select_tests(Mutant("agents/a.py", 5, "", 0, "", ""), code, 60) == [far, near, own]  # not executed
    assert known.select_tests(Mutant("agents/a.py", 3, "", 0, "", ""), code, 1.5) == [far, near]  # in the budget
    known.failing.add(far)
    assert known.select_tests(Mutant("agents/a.py", 3, "", 0, "", ""), code, 60) == [near, own]
    assert traces(seconds={}, covered={})[0].select_tests(Mutant("agents/a.py", 3, "", 0, "", ""), code, 60) == []


class Server:
    """A fake server: a test fails if the file contains its text in `fails`; "" is in every file."""

    def __init__(self, folder, fails):
        self.copy, self.fails = folder, fails
        (folder / "a.py").write_text("x = 1\n")

    def run(self, tests, timeout):
        text = (self.copy / "a.py").read_text()
        for test in tests:
            if (mark := self.fails.get(test.rpartition("_")[2])) is not None and mark in text:
                return "killed", test, {}
        return "survived", tests[-1], {}


def test_copies_of_the_checkout_have_its_links():
    """`milozero` consists of links: without them, no test could import anything."""
    from isolation import list_files

    names = list_files()
    assert {"agents/ppo_agent.py", "milozero/__init__.py", "milozero/agents", "milozero/main.py"} <= set(names)
    assert "" not in names


@pytest.mark.parametrize(
    ("fails", "outcome", "by"),
    [
        ({"slow": "2"}, "killed", "tests/unit/test_a.py::test_slow"),
        ({}, "survived", ""),
        ({"quick": ""}, "survived", ""),  # fails without the mutant, too
        ({"quick": "", "slow": "2"}, "killed", "tests/unit/test_a.py::test_slow"),
        ({"quick": "", "slow": ""}, "no tests", ""),
    ],
)
def test_only_a_test_that_passes_without_the_mutant_kills_it(mutations, tmp_path, fails, outcome, by):
    from mutants import Traces, judge

    tests = [f"tests/unit/test_a.py::test_{name}" for name in ("quick", "slow")]
    known = Traces(dict.fromkeys(tests, 1.0), {"a.py": {1: set(tests)}})
    server = Server(tmp_path, fails)
    mutant = mutations.mutant("a.py", "x = 1\n", "NumberReplacer", 0)
    result = judge(mutant, server, known, budget=60)
    assert (result["outcome"], result["by"]) == (outcome, by)
    assert (tmp_path / "a.py").read_text() == "x = 1\n"


def test_survivor_without_an_explanation_is_open():
    from mutants import explain, format_report, verdict

    rows = [row("killed"), row("timeout"), row(line=5), row("no tests", line=7, why="never run")]
    assert verdict(rows) == (0.5, [rows[2]])
    assert "OPEN" in format_report(rows)
    assert "| agents | 4 | 2 | 50 |" in format_report(rows)
    assert explain(rows, "agents/a.py:5:AddNot", "x is always true") == 1
    assert verdict(rows) == (0.5, [])
    assert "OPEN" not in format_report(rows)
    assert explain(rows, "agents/a.py:1:AddNot", "it was killed") == 0


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([row("killed")] * 9 + [row(why="equal")], 0),
        ([row("killed")] * 9 + [row()], 1),
        ([row("killed")] * 8 + [row(why="equal")] * 2, 1),
        ([], 1),
    ],
)
def test_too_many_or_unexplained_survivors_give_exit_code_1(tmp_path, monkeypatch, capsys, rows, code):
    import mutants

    rows = [each | {"line": number} for number, each in zip(itertools.count(1), rows, strict=False)]
    mutants.save(tmp_path / "mutants.json", {"seed": 0, "count": len(rows)}, rows)
    assert json.loads((tmp_path / "mutants.json").read_text()) == {"seed": 0, "count": len(rows), "rows": rows}
    monkeypatch.setattr(sys, "argv", ["mutants.py", "--show", f"--results={tmp_path / 'mutants.json'}"])
    assert mutants.main() == code
    assert f"of {len(rows)} killed" in capsys.readouterr().out

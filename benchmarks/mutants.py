"""Mutation testing with cosmic-ray's operators: change random lines of the code and check that a test fails.

    python benchmarks/mutants.py [--count 240] [--seed 0] [--workers 2]
    python benchmarks/mutants.py --again survived      # after adding tests
    python benchmarks/mutants.py --explain FILE:LINE:OPERATOR "why no test can, or should, fail"
    python benchmarks/mutants.py --show

For each mutant, the in-process tests that execute its line run first, from fastest to slowest, followed by the tests
in its module's own test file, until one fails. Each row is saved to benchmarks/results/mutants.json when it is done;
running the command again resumes. Mutants are applied to copies of the checkout. Needs requirements-dev.txt and
Linux's unshare.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isolation import ROOT, Server, list_files, run_parallel
from mutations import Mutant, apply_mutant, package, sample

RESULTS = ROOT / "benchmarks" / "results" / "mutants.json"
PACKAGES = (
    *("agents", "demonstrations", "environments", "evaluation", "experiment", "helpers/config"),
    *("studies", "training", "tracking"),
)
MODULES = ("affinity", "comm", "files", "locks", "seeding")  # of helpers
TARGETS = (
    *(f"{package}/**/*.py" for package in PACKAGES),
    *("orchestrator.py", "spawner.py", *(f"helpers/{name}.py" for name in MODULES)),
)
TESTS = ["tests/unit", "tests/cli"]
GOAL = 0.9  # required fraction of killed mutants
TIMEOUT_FACTOR, TIMEOUT_MARGIN_S = 4.0, 30.0  # timeout: factor · duration of the tests + margin
KILLED = ("killed", "timeout")
ALIVE = ("survived", "no tests")
AGAIN = {"survived": ALIVE, "timeout": ("timeout",), "all": (*KILLED, *ALIVE)}
Row = dict[str, Any]


def statement(source: str, line: int) -> tuple[range, bool]:
    """Return the lines of the innermost statement at a line, without its body, and whether an import executes it."""
    result = range(line, line + 1), True

    def visit(node: ast.AST, inside: bool) -> None:
        nonlocal result
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt | ast.ExceptHandler):
                first = min([child.lineno, *(each.lineno for each in getattr(child, "decorator_list", []))])
                body = getattr(child, "body", None)
                last = max(child.lineno, body[0].lineno - 1) if body else (child.end_lineno or child.lineno)
                result = (range(first, last + 1), not inside) if first <= line <= last else result
            visit(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    visit(ast.parse(source), False)
    return result


@dataclass
class Traces:
    """Durations, coverage and failures of the tests without mutants."""

    seconds: dict[str, float] = field(default_factory=dict)
    covered: dict[str, dict[int, set[str]]] = field(default_factory=dict)  # file → line → tests that execute it
    failing: set[str] = field(default_factory=set)
    sound: set[str] = field(default_factory=set)  # tests that killed a mutant and pass without it

    def select_tests(self, mutant: Mutant, source: str, budget: float) -> list[str]:
        """Return the tests that can detect a mutant, in order, taking at most `budget` seconds."""
        lines, at_import = statement(source, mutant.line)
        covered = self.covered.get(mutant.file, {})
        covering = set[str]().union(*(covered.get(line, ()) for line in lines))
        if at_import or not covering:  # every test is a candidate
            covering = set[str]().union(*covered.values())
        path, unit = Path(mutant.file), Path("tests/unit")
        name = path.parent.name if path.stem == "__init__" else path.stem
        mirrors = [unit / folder / f"test_{name}" for folder in path.parents]  # a folder of tests may cover a package
        own = {test for test in self.seconds if test.startswith(tuple(map(str, mirrors)))}
        ranked = [own, covering] if at_import else [covering, own]
        tests = [
            t for group in (ranked[0], ranked[1] - ranked[0]) for t in sorted(group, key=self.seconds.__getitem__)
        ]
        tests = [test for test in tests if test not in self.failing]
        spent = itertools.accumulate(self.seconds[test] for test in tests)
        return [test for k, (test, total) in enumerate(zip(tests, spent, strict=True)) if total <= budget or k == 0]


def trace_tests(tests: Sequence[str], servers: Sequence[Server], cache: Path) -> Traces:
    """Trace tests without mutants, reusing cached results if the files that they depend on are unchanged."""
    from coverage import CoverageData

    names, lock, traces = list_files(), threading.Lock(), Traces()
    other = re.compile(r"docs/|benchmarks/(?!isolation)|.*\.md$|.*/test_\w+\.py$")
    relevant = [name for name in names if not other.match(name) and (ROOT / name).is_file()]
    shared = [(name, hashlib.sha256((ROOT / name).read_bytes()).digest()) for name in relevant]

    def trace(name: str, server: Server) -> None:
        key = hashlib.sha256(repr((name, (ROOT / name).read_bytes(), shared)).encode()).hexdigest()[:16]
        cached, scratch = cache / f"{key}.json", server.copy.parent / "coverage"
        if not cached.exists():
            scratch.unlink(missing_ok=True)
            outcome, at, answer = server.run([name], timeout=1800, trace=scratch)
            if outcome == "timeout":
                raise RuntimeError(f"{at} timed out without a mutant")
            if scratch.exists():  # otherwise the file could not be imported
                shutil.copy2(scratch, cached.with_suffix(".coverage"))
            write(cached, json.dumps(answer["events"]))
        seconds, failing = Counter[str](), set()
        for what, test, duration in json.loads(cached.read_text()):
            seconds[test] += duration
            failing |= {test} if what == "failed" else set()
        data = CoverageData(str(cached.with_suffix(".coverage")))
        data.read()
        with lock:
            traces.seconds |= {test: duration for test, duration in seconds.items() if "::" in test}
            traces.failing |= failing
            for path in data.measured_files():
                covered = traces.covered.setdefault(path.partition("/copy/")[2], defaultdict(set))
                for line, contexts in data.contexts_by_lineno(path).items():
                    for test, _, when in (context.rpartition("|") for context in contexts if context):
                        # A fixture's setup may be shared by all tests of the file.
                        covered[line] |= {each for each in seconds if "::" in each} if when == "setup" else {test}

    files = [name for name in names if re.search(r"/test_\w+\.py$", name) and name.startswith(tuple(tests))]
    run_parallel(files, servers, trace, "tests")
    if unusable := sorted(file for file in files if not any(test.startswith(f"{file}::") for test in traces.seconds)):
        raise RuntimeError(f"no test runs without mutants in {', '.join(unusable)}")
    return traces


def judge(mutant: Mutant, server: Server, traces: Traces, budget: float) -> Row:
    """Run the tests against a mutant; return its row.

    A failing or hanging test counts only if it passes in the same order without the mutant.
    """
    path = server.copy / mutant.file
    source, started, outcome, by = path.read_text(), time.monotonic(), "no tests", ""

    def run(tests: Sequence[str]) -> tuple[str, str, Any]:
        duration = sum(traces.seconds[test] for test in tests)
        return server.run(tests, TIMEOUT_FACTOR * duration + TIMEOUT_MARGIN_S)

    while tests := traces.select_tests(mutant, source, budget):
        with apply_mutant(path, mutant):
            outcome, by, _ = run(tests)
        if outcome == "survived" or (outcome == "killed" and by in traces.sound):
            break
        if run(tests[: tests.index(by) + 1] if by in tests else tests[:1])[0] == "survived":
            traces.sound.add(by)
            break
        traces.failing.add(by if by in tests else tests[0])
    return {
        "file": mutant.file,
        "line": mutant.line,
        "operator": mutant.operator,
        "before": mutant.before,
        "after": mutant.after,
        "outcome": outcome if tests else "no tests",
        "by": by if tests and outcome in KILLED else "",
        "tests": len(tests),
        "seconds": round(time.monotonic() - started, 1),
        "why": "",
    }


def verdict(rows: Sequence[Row]) -> tuple[float, list[Row]]:
    """Return the fraction of killed mutants, and the surviving mutants without an explanation."""
    killed = sum(row["outcome"] in KILLED for row in rows)
    return killed / max(1, len(rows)), [row for row in rows if row["outcome"] not in KILLED and not row["why"]]


def format_report(rows: Sequence[Row]) -> str:
    """Return the table of packages and the list of surviving mutants."""
    lines = ["| package | mutants | killed | % |", "|---|---|---|---|"]
    names = sorted({package(row["file"]) for row in rows})
    groups = {name: [row for row in rows if package(row["file"]) == name] for name in names}
    for name, group in {**groups, "all": rows}.items():
        share = verdict(group)[0]
        lines.append(f"| {name} | {len(group)} | {round(share * len(group))} | {100 * share:.0f} |")
    for row in rows:
        if row["outcome"] not in KILLED:
            location = f"{row['file']}:{row['line']}:{row['operator']}"
            lines += ["", f"{location} ({row['outcome']}, tests: {row['tests']})"]
            lines += [f"  - {line.strip()}" for line in row["before"].splitlines()]
            lines += [f"  + {line.strip()}" for line in row["after"].splitlines()]
            lines += [f"  {row['why'] or 'OPEN'}"]
    return "\n".join(lines)


def explain(rows: Sequence[Row], where: str, why: str) -> int:
    """Record why the mutants at FILE:LINE:OPERATOR survive; return their number."""
    matching = [r for r in rows if f"{r['file']}:{r['line']}:{r['operator']}" == where and r["outcome"] not in KILLED]
    for row in matching:
        row["why"] = why
    return len(matching)


def write(path: Path, text: str) -> None:
    """Write a file atomically."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def save(path: Path, head: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Save the results, one row per line."""
    lines = ",\n".join(f" {json.dumps(row)}" for row in sorted(rows, key=lambda row: (row["file"], row["line"])))
    write(path, f'{json.dumps(dict(head))[:-1]}, "rows": [\n{lines}\n]}}\n')


def judge_all(
    drawn: Sequence[Mutant], rows: dict[Any, Row], options: argparse.Namespace, head: Mapping[str, Any]
) -> None:
    """Judge mutants; add each row to `rows` and save it."""
    whys = {(r["file"], r["operator"], r["before"], r["after"]): r["why"] for r in rows.values()}
    options.cache.mkdir(parents=True, exist_ok=True)
    lock, servers = threading.Lock(), []
    with (
        tempfile.TemporaryDirectory(prefix="m", ignore_cleanup_errors=True) as scratch,
        contextlib.ExitStack() as stack,
    ):
        for number in range(options.workers):
            servers.append(Server(Path(scratch) / str(number), options.cache))
            stack.callback(servers[-1].close)
        traces = trace_tests(options.tests, servers, options.cache)

        def one(mutant: Mutant, server: Server) -> None:
            row = judge(mutant, server, traces, options.budget)
            with lock:
                if row["outcome"] not in KILLED:
                    row["why"] = whys.get((row["file"], row["operator"], row["before"], row["after"]), "")
                rows[mutant.key()] = row
                save(options.results, head, rows.values())

        run_parallel(drawn, servers, one, "mutants")
    if traces.failing:
        print("skipped, because they fail without a mutant:", *sorted(traces.failing), sep="\n  ")


def main() -> int:
    """Test the missing mutants and print all. Return 1 if too many survive or a survivor is unexplained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=240, help="mutants (default: 240, or those in the results)")
    parser.add_argument("--seed", type=int, default=None, help="sampling seed (default: 0, or the results')")
    parser.add_argument("--workers", type=int, default=2, help="number of mutants tested in parallel")
    parser.add_argument("--budget", type=float, default=60.0, help="maximum seconds of tests per mutant")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="folders or files of in-process tests")
    parser.add_argument("--again", choices=[*AGAIN], help="test these mutants again")
    parser.add_argument("--explain", nargs=2, metavar=("FILE:LINE:OPERATOR", "WHY"), help="why a mutant survives")
    parser.add_argument("--show", action="store_true", help="only print the saved results")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / f"milozero_mutants_{os.getuid()}")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    saved: dict[str, Any] = (
        json.loads(options.results.read_text()) if options.results.exists() else {"rows": [], "count": 0}
    )
    head = {name: value for name, value in saved.items() if name != "rows"}
    rows = {(row["file"], row["line"], row["operator"], row["after"]): row for row in saved["rows"]}
    if options.explain:
        if not explain(saved["rows"], *options.explain):
            parser.error(f"no mutant survives at {options.explain[0]}")
        save(options.results, head, rows.values())
    elif not options.show:
        seed = head.get("seed", 0) if options.seed is None else options.seed
        if seed != head.get("seed", seed):
            parser.error(f"{options.results} is of --seed={head['seed']}; choose another file with --results")
        if importlib.util.find_spec("cosmic_ray") is None:
            parser.error("cosmic-ray is missing: pip install -r requirements-dev.txt")
        count = max(options.count, head["count"])
        version = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        commit = subprocess.run(version, check=True, capture_output=True, text=True).stdout.strip()
        head = {"commit": commit, "seed": seed, "count": count, "python": platform.python_version()}
        files = sorted({path for pattern in TARGETS for path in ROOT.glob(pattern)})
        mutants = sample({path.relative_to(ROOT).as_posix(): path.read_text() for path in files}, count, seed)
        again = AGAIN.get(options.again, ())
        missing = [each for each in mutants if each.key() not in rows or rows[each.key()]["outcome"] in again]
        if missing:
            judge_all(missing, rows, options, head)
        rows = {each.key(): rows[each.key()] for each in mutants}  # drop mutants of code that has changed
        save(options.results, head, rows.values())
    share, open_rows = verdict([*rows.values()])
    print(format_report([*rows.values()]))
    print(f"\n{100 * share:.1f} % of {len(rows)} killed, {len(open_rows)} unexplained survivors")
    return int(share < GOAL or bool(open_rows))


if __name__ == "__main__":
    sys.exit(main())

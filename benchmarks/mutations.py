"""Mutants: find the changes that cosmic-ray's operators can make, sample some, apply and undo them."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """A change to one line, or to several if a statement spans them."""

    file: str
    line: int
    operator: str  # cosmic-ray's
    occurrence: int  # index among the sites in the file that the operator can change
    before: str
    after: str

    def key(self) -> tuple[str, int, str, str]:
        """Return the key that identifies the mutant's row."""
        return self.file, self.line, self.operator, self.after


# Calls whose f-strings are messages, and decorators whose removal fails immediately or only slows the code down.
MESSAGE = re.compile(r"(\w+\.)*(print|warn|log|debug|info|warning|error|exception|\w*Error)")
PLAIN = re.compile(r"@(\w+\.)*(dataclass|staticmethod|classmethod|property|abstractmethod|overload|\w*cache\w*)\b")


def is_meaningless(node: Any) -> bool:
    """Return whether no test should detect a change to this syntax node."""
    above = [node]
    while above[-1].parent is not None:
        above.append(above[-1].parent)
    in_text = False
    for child, parent in zip([None, *above], above, strict=False):
        kind = parent.type
        in_text |= kind == "fstring"
        if (
            (kind == "annassign" and child is parent.children[1])  # annotations only matter to readers and mypy
            or kind == "tfpdef"
            or (kind == "funcdef" and child is parent.annotation)
            or (kind in ("parameters", "lambdef") and child is node)  # a bare * or /, not an operator
            or (kind == "decorator" and PLAIN.match(parent.get_code(include_prefix=False)))
            # code that never runs when the module is imported
            or (kind == "if_stmt" and re.search("TYPE_CHECKING|__name__", parent.children[1].get_code()))
            # the wording of a message; no operator changes plain strings such as docstrings
            or (in_text and kind == "atom_expr" and MESSAGE.fullmatch(parent.children[0].get_code().strip()))
        ):
            return True
    return False


@functools.cache
def operators() -> dict[str, Any]:
    """Return cosmic-ray's operators, except those that need arguments or create equivalent mutants."""
    from cosmic_ray import plugins

    available = {name.partition("/")[2]: plugins.get_operator(name) for name in plugins.operator_names()}
    equivalent = ("_Is_Eq", "_IsNot_NotEq", "_Eq_Is", "_NotEq_IsNot")  # for enums, small integers, interned strings
    return {
        name: kind() for name, kind in available.items() if not kind.arguments() and not name.endswith(equivalent)
    }


def find_sites(source: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Return (line, column) → possible changes, as pairs of operator and occurrence in the file."""
    from cosmic_ray.ast import ast_nodes, get_ast

    ignored, signs = (
        {"name", "newline", "string", "fstring_string", "endmarker"},
        {*["+", "-", "*", "/", "//", "%", "**", ">>", "<<", "|", "&", "^"]},
    )
    nodes = [  # skip leaves that no operator inspects, which are most of the tree
        node
        for node in ast_nodes(get_ast(source))
        if node.type not in ignored and (node.type != "operator" or node.value in signs)
    ]
    sites = defaultdict(list)
    for name, operator in operators().items():
        positions = ((node, start) for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, (node, start) in enumerate(positions):
            if not is_meaningless(node):
                sites[start].append((name, occurrence))
    return dict(sites)


def mutate(source: str, operator: str, occurrence: int) -> str:
    """Return the source after one mutation."""
    from cosmic_ray.mutating import mutate_code

    return mutate_code(source, operators()[operator], occurrence) or source


def mutant(file: str, source: str, operator: str, occurrence: int) -> Mutant | None:
    """Create a mutant; return None if it is not valid Python or does not differ."""
    try:
        after = mutate(source, operator, occurrence)
        if ast.dump(ast.parse(after)) == ast.dump(ast.parse(source)):
            return None
    except (SyntaxError, AttributeError):  # raised inside cosmic-ray for exception names that contain a dot
        return None
    old, new = source.splitlines(), after.splitlines()
    start = next((k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    while min(len(old), len(new)) > start and old[-1] == new[-1]:
        del old[-1], new[-1]
    old, new = old[start:], [line for line in new[start:] if line.strip()]
    while old and not old[0].strip():  # an empty line removed with a decorator
        del old[0]
        start += 1
    return Mutant(file, start + 1, operator, occurrence, "\n".join(old), "\n".join(new))


def package(file: str) -> str:
    """Return the package name that a file's mutants are counted under."""
    folder = str(Path(file).parent)
    return "programs" if folder == "." else folder


def sample(sources: Mapping[str, str], count: int, seed: int) -> list[Mutant]:
    """Sample mutants: at most one per site, and from each package in proportion to the square root of its sites.

    The sample depends on the text of lines, not on their numbers: edits elsewhere leave it nearly unchanged, and a
    larger count extends it.
    """

    def random_key(*values: Any) -> bytes:
        return hashlib.sha256(repr((seed, *values)).encode()).digest()

    queues: dict[str, list[Any]] = defaultdict(list)
    for file, source in sorted(sources.items()):
        lines, seen = source.splitlines(), Counter[Any]()
        for (line, column), changes in sorted(find_sites(source).items()):
            text = (file, lines[line - 1], column)
            seen[text] += 1
            site = (*text, seen[text])
            shuffled = sorted((random_key(*site, k, change[0]), change) for k, change in enumerate(changes))
            queues[package(file)].append((random_key(*site), file, [change for _, change in shuffled]))
    weights = {name: math.sqrt(len(candidates)) for name, candidates in queues.items()}
    mutants: list[Mutant] = []
    counts = Counter[str]()
    for candidates in queues.values():
        candidates.sort()
    while len(mutants) < count and any(queues.values()):
        name = max((name for name in queues if queues[name]), key=lambda name: weights[name] / (counts[name] + 1))
        _, file, ways = queues[name].pop()
        if found := next(filter(None, (mutant(file, sources[file], *way) for way in ways)), None):
            mutants.append(found)
            counts[name] += 1
    return mutants


@contextlib.contextmanager
def apply_mutant(path: Path, mutant: Mutant) -> Iterator[None]:
    """Apply a mutant to a file within a `with` block."""
    source = path.read_bytes()
    try:
        path.write_text(mutate(source.decode(), mutant.operator, mutant.occurrence))
        yield
    finally:
        path.write_bytes(source)

"""Mutants: what cosmic-ray's operators can change in a file; some of that drawn, applied and undone."""

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
    """A change of a line, or of a few where a condition spans them."""

    file: str
    line: int
    operator: str  # cosmic-ray's
    occurrence: int  # among all that the operator could change in the file
    before: str
    after: str

    def key(self) -> tuple[str, int, str, str]:
        """Return what tells its row from others."""
        return self.file, self.line, self.operator, self.after


# Names of calls whose f-strings are messages; and decorators without which code fails at once, or is only slower.
MESSAGE = re.compile(r"(\w+\.)*(print|say|tell|warn|log|debug|info|warning|error|exception|\w*Error)")
PLAIN = re.compile(r"@(\w+\.)*(dataclass|staticmethod|classmethod|property|abstractmethod|overload|\w*cache\w*)\b")


def meaningless(node: Any) -> bool:
    """Return whether a change of this node of a syntax tree says nothing about the tests."""
    above = [node]
    while above[-1].parent is not None:
        above.append(above[-1].parent)
    in_text = False
    for child, parent in zip([None, *above], above, strict=False):
        kind = parent.type
        in_text |= kind == "fstring"
        if (
            (kind == "annassign" and child is parent.children[1])  # annotations are for readers and for mypy
            or kind == "tfpdef"
            or (kind == "funcdef" and child is parent.annotation)
            or (kind in ("parameters", "lambdef") and child is node)  # a bare * or /, which is no product
            or (kind == "decorator" and PLAIN.match(parent.get_code(include_prefix=False)))
            # Only mypy, or nobody who imports the module, comes by.
            or (kind == "if_stmt" and re.search("TYPE_CHECKING|__name__", parent.children[1].get_code()))
            # How a message is worded. No operator changes docstrings, `__all__` and other plain strings.
            or (in_text and kind == "atom_expr" and MESSAGE.fullmatch(parent.children[0].get_code().strip()))
        ):
            return True
    return False


@functools.cache
def operators() -> dict[str, Any]:
    """Return cosmic-ray's operators, but for those that need arguments or make mutants that mean the same."""
    from cosmic_ray import plugins

    found = {name.partition("/")[2]: plugins.get_operator(name) for name in plugins.operator_names()}
    same = ("_Is_Eq", "_IsNot_NotEq", "_Eq_Is", "_NotEq_IsNot")  # of enums, small numbers and interned text
    return {name: kind() for name, kind in found.items() if not kind.arguments() and not name.endswith(same)}


def places(source: str) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Return by line and column what can be changed: by which operators, and their occurrence in the file."""
    from cosmic_ray.ast import ast_nodes, get_ast

    idle, signs = (
        {"name", "newline", "string", "fstring_string", "endmarker"},
        {*["+", "-", "*", "/", "//", "%", "**", ">>", "<<", "|", "&", "^"]},
    )
    nodes = [  # without the leaves that no operator looks at: most of the tree
        node
        for node in ast_nodes(get_ast(source))
        if node.type not in idle and (node.type != "operator" or node.value in signs)
    ]
    found = defaultdict(list)
    for name, operator in operators().items():
        spots = ((node, start) for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, (node, start) in enumerate(spots):
            if not meaningless(node):
                found[start].append((name, occurrence))
    return dict(found)


def spoil(source: str, operator: str, occurrence: int) -> str:
    """Return the source after one mutation."""
    from cosmic_ray.mutating import mutate_code

    return mutate_code(source, operators()[operator], occurrence) or source


def mutant(file: str, source: str, operator: str, occurrence: int) -> Mutant | None:
    """Return a mutant; None where it is no Python, or the same."""
    try:
        after = spoil(source, operator, occurrence)
        if ast.dump(ast.parse(after)) == ast.dump(ast.parse(source)):
            return None
    except (SyntaxError, AttributeError):  # cosmic-ray's own, of exceptions that are named with a dot
        return None
    old, new = source.splitlines(), after.splitlines()
    start = next((k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    while min(len(old), len(new)) > start and old[-1] == new[-1]:
        del old[-1], new[-1]
    old, new = old[start:], [line for line in new[start:] if line.strip()]
    while old and not old[0].strip():  # goes with a decorator
        del old[0]
        start += 1
    return Mutant(file, start + 1, operator, occurrence, "\n".join(old), "\n".join(new))


def package(file: str) -> str:
    """Return under which name a file's mutants are counted."""
    folder = str(Path(file).parent)
    return "programs" if folder == "." else folder


def sample(sources: Mapping[str, str], count: int, seed: int) -> list[Mutant]:
    """Draw mutants of files: at most one for a place, and of packages by the square root of their places.

    What is drawn depends on the lines' text, not on their numbers: an edit elsewhere leaves nearly all of it, and a
    larger count adds to it.
    """

    def chance(*of: Any) -> bytes:
        return hashlib.sha256(repr((seed, *of)).encode()).digest()

    waiting: dict[str, list[Any]] = defaultdict(list)
    for file, source in sorted(sources.items()):
        lines, seen = source.splitlines(), Counter[Any]()
        for (line, column), changes in sorted(places(source).items()):
            text = (file, lines[line - 1], column)
            seen[text] += 1
            spot = (*text, seen[text])
            ways = sorted((chance(*spot, k, change[0]), change) for k, change in enumerate(changes))
            waiting[package(file)].append((chance(*spot), file, [change for _, change in ways]))
    weights = {name: math.sqrt(len(these)) for name, these in waiting.items()}
    drawn: list[Mutant] = []
    taken = Counter[str]()
    for these in waiting.values():
        these.sort()
    while len(drawn) < count and any(waiting.values()):
        name = max((name for name in waiting if waiting[name]), key=lambda name: weights[name] / (taken[name] + 1))
        _, file, ways = waiting[name].pop()
        if found := next(filter(None, (mutant(file, sources[file], *way) for way in ways)), None):
            drawn.append(found)
            taken[name] += 1
    return drawn


@contextlib.contextmanager
def spoiled(path: Path, mutant: Mutant) -> Iterator[None]:
    """Apply a mutant to a file for as long as the block lasts."""
    source = path.read_bytes()
    try:
        path.write_text(spoil(source.decode(), mutant.operator, mutant.occurrence))
        yield
    finally:
        path.write_bytes(source)

"""Shape comments such as `# (B, T, 3*C)` that are executed: which lines have one, and what they say when reached."""

import ast
import inspect
import io
import itertools
import re
import sys
import tokenize
import types
from collections.abc import Iterator, Sequence
from typing import Any

from tinygrad_notes.check.dimensions import mismatch, parse
from tinygrad_notes.core import Variable

import numpy as np


class ShapeError(AssertionError):
    """A value does not have the shape that the comment behind it says."""


def shapes(*targets: Any) -> "Shapes":
    """Inside, the shape comments of these functions, classes or modules are executed.

    A comment at the end of an assignment, a return, a loop's head or a parameter's own line,
    such as `# (B, T, 3*C)`, says the shape of what is assigned, returned or passed. A letter
    is the local integer of that name (`B, T, C = x.shape`), or stands for one number within a
    call; `...` for any dimensions; `4C` is `4*C`; behind the parenthesis may stand prose. One
    shape speaks for each of several names, `# (B, T), (B,)` for one after the other. A shape
    of one dimension is written `(T,)`. None is let through.
    Raises ShapeError with file, line, comment and shape; ValueError if the targets have no shape
    comment. `.unreached` of the context lists comments that were not executed.
    """
    return Shapes(targets)


class Shapes:
    """The context that `shapes` returns. It sets Python's trace function, and calls the one that was set before for all other code."""

    def __init__(self, targets: Sequence[Any]):
        self.functions: dict[tuple[str, int], dict[int, Remark]] = {}  # by file and first line: remarks by line
        for target in targets:
            for function in functions_of(target):
                self.functions |= remarks_of(function)
        if not any(self.functions.values()):
            raise ValueError(
                f"shapes: no shape comment such as `# (B, T, C)` in {', '.join(map(str, targets)) or 'nothing'}; pass functions, classes or modules that have some"
            )
        self.reached: set[tuple[str, int]] = set()

    @property
    def unreached(self) -> list[str]:
        """`file:line: comment` of each comment that no call has executed."""
        found = {(file, r.line): r for (file, _), remarks in self.functions.items() for r in remarks.values() if r.shapes}
        return [f"{file}:{line}: {r.text}" for (file, line), r in sorted(found.items()) if (file, line) not in self.reached]

    def __enter__(self) -> "Shapes":
        self.outer = sys.gettrace()
        sys.settrace(self.trace)
        return self

    def __exit__(self, *exc) -> None:
        sys.settrace(self.outer)

    def trace(self, frame, event, arg):
        code = frame.f_code
        remarks = self.functions.get((code.co_filename, code.co_firstlineno))
        if not remarks:
            return self.outer(frame, event, arg) if self.outer else None
        file, letters, current = code.co_filename, {}, None

        def verify(remark, returned=None):
            for shape, value in remark.values(frame.f_locals, returned):
                if value is not None:
                    self.reached.add((file, remark.line))
                    actual = np.shape(value.value if isinstance(value, Variable) else value)
                    wrong = mismatch(shape, actual, frame.f_locals, letters)
                    if wrong:
                        raise ShapeError(
                            f"{file}:{remark.line}: `{remark.source}`: the comment says {remark.text}, the shape is {actual}{wrong}"
                        )

        def local(frame, event, arg):
            nonlocal current
            if event == "exception":
                current = None  # the statement was not completed
            elif event in ("line", "return"):
                reached = remarks.get(frame.f_lineno) if event == "line" else None
                if current is not None and current is not reached:
                    done, current = current, None
                    if not done.is_return:
                        verify(done)
                    elif event == "return":
                        verify(done, arg)
                current = reached
            return local

        for remark in {id(r): r for r in remarks.values()}.values():
            if remark.is_parameter:
                verify(remark)
        return local


class Remark:
    """A shape comment and the statement or parameter that it speaks of."""

    def __init__(self, line, source, text, shapes, names=(), is_return=False, is_parameter=False):
        self.line, self.source, self.text, self.shapes = line, source, text, shapes
        self.names, self.is_return, self.is_parameter = names, is_return, is_parameter

    def values(self, variables, returned) -> Iterator[tuple[list, Any]]:
        """Each shape with the value it speaks of."""
        if self.is_return:
            found = list(returned) if len(self.shapes) > 1 else [returned]
        else:
            found = [look_up(name, variables) for name in self.names]
        yield from zip(self.shapes * len(found) if len(self.shapes) == 1 else self.shapes, found)


def look_up(name: str, variables: Any) -> Any:
    """The value of `x` or `self.x.y`; None if it does not exist yet."""
    first, *attributes = name.split(".")
    value = variables.get(first)
    for attribute in attributes:
        value = getattr(value, attribute, None)
    return value


def functions_of(target: Any) -> list[types.FunctionType]:
    """A function itself; all functions that a class or module defines."""
    if isinstance(target, types.ModuleType):
        members = [m for m in vars(target).values() if getattr(m, "__module__", None) == target.__name__]
        return [f for m in members if inspect.isclass(m) or callable(m) for f in functions_of(m)]
    if inspect.isclass(target):
        members = [m.fget if isinstance(m, property) else getattr(m, "__func__", m) for m in vars(target).values()]
        return [f for m in members if inspect.isfunction(m) and m.__module__ == target.__module__ for f in functions_of(m)]
    function = inspect.unwrap(getattr(target, "__func__", target))
    return [function] if inspect.isfunction(function) else functions_of(type(target)) if type(target).__module__ != "builtins" else []


def remarks_of(function: types.FunctionType) -> dict[tuple[str, int], dict[int, Remark]]:
    """The remarks in a function and in those inside it, by file and first line."""
    if function.__name__ == "<lambda>":  # an expression has no lines of its own
        return {}
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return {}
    if lines[0][:1].isspace():  # a method: give its indentation a reason
        lines, first = ["if 1:\n", *lines], first - 1
    source = "".join(lines)
    comments = {t.start[0]: t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            key = function.__code__.co_filename, start + first - 1
            found[key] = {line + first - 1: r for line, r in remarks_in(node, comments, lines, first).items()}
    return found


def remarks_in(function: ast.FunctionDef, comments, lines, first) -> dict[int, Remark]:
    """Remarks by each line of the statement they speak of; a statement without one has an empty remark."""
    found: dict[int, Remark] = {}

    def add(start, end, **what):
        text, shapes = read_comment(comments.get(end, ""))
        remark = Remark(end + first - 1, lines[end - 1].split("#")[0].strip(), text, shapes, **what)
        if shapes:
            found.update(dict.fromkeys(range(start, end + 1), remark))

    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    for a in arguments:
        if a.lineno != function.lineno and sum(a.lineno == other.lineno for other in arguments) == 1:
            add(a.lineno, a.lineno, names=[a.arg], is_parameter=True)
    stack: list[ast.stmt] = list(function.body)
    while stack:
        s = stack.pop()
        if isinstance(s, ast.Return):
            add(s.lineno, s.end_lineno, is_return=True)
        elif isinstance(s, ast.Assign | ast.AnnAssign | ast.AugAssign):
            target = s.targets[0] if isinstance(s, ast.Assign) else s.target
            add(s.lineno, s.end_lineno, names=names_in(target))
        elif isinstance(s, ast.For):
            add(s.lineno, s.iter.end_lineno, names=names_in(s.target))
        if not isinstance(s, ast.FunctionDef | ast.ClassDef):
            for part in ast.iter_child_nodes(s):
                stack += (
                    [part]
                    if isinstance(part, ast.stmt)
                    else [b for b in getattr(part, "body", []) if isinstance(b, ast.stmt)]
                    if isinstance(part, ast.ExceptHandler | ast.match_case)
                    else []
                )
    return found


def names_in(target: ast.expr) -> list[str]:
    """The names and attributes that an assignment sets."""
    if isinstance(target, ast.Tuple | ast.List):
        return [name for member in target.elts for name in names_in(member)]
    return [ast.unparse(target)] if isinstance(target, ast.Name | ast.Attribute) else []


def read_comment(comment: str) -> tuple[str, list]:
    """The shapes that a comment begins with, as it spells them and as lists of dimensions; none if it is prose."""
    rest, shapes = comment.lstrip("# "), []
    begin = rest
    while rest.startswith("("):
        depth = list(itertools.accumulate((c == "(") - (c == ")") for c in rest))
        if 0 not in depth:
            break
        end = depth.index(0) + 1
        inside = rest[1 : end - 1].strip()
        parts = [p.strip() for p in inside.rstrip(",").split(",")] if inside else []
        if len(parts) == 1 and not inside.endswith(",") and parts[0] != "...":
            break
        try:
            shapes.append([p if p == "..." else parse(p) for p in parts])
        except ValueError:
            break
        rest = rest[end:]
        if not re.match(r"\s*,\s*\(", rest):
            break
        rest = rest.lstrip(" ,")
    return begin[: len(begin) - len(rest)].strip() if shapes else "", shapes

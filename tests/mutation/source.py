"""Functions made anew from a changed syntax tree or text, and the small changes of syntax that make mutants.

Nothing is executed as text: a changed function is compiled, and its code object alone is taken.
"""

import ast
import copy
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType

# --- from a function to its tree and back ------------------------------------------------------


@cache
def tree_of_file(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))


@cache
def functions_by_line(file: str) -> dict[int, list]:
    found: dict[int, list] = {}
    for node in ast.walk(tree_of_file(file)):
        if isinstance(node, ast.Lambda | ast.FunctionDef):
            decorators = getattr(node, "decorator_list", [])
            found.setdefault(min([node.lineno, *(d.lineno for d in decorators)]), []).append(node)
    return found


def tree_of(function: FunctionType) -> ast.Lambda | ast.FunctionDef:
    """The syntax tree of a function; of several lambdas in one line, the smallest that holds all its instructions."""
    code = function.__code__
    places = [(p[0], p[2]) for p in code.co_positions() if None not in p and (p[0], p[2]) != (code.co_firstlineno, 0)]
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    def fits(node):
        a = node.args
        if [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)] != list(names):
            return False
        if isinstance(node, ast.FunctionDef):
            return node.name == code.co_name
        begin, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
        return code.co_name == "<lambda>" and all(begin <= place <= end for place in places)

    candidates = [node for node in functions_by_line(code.co_filename).get(code.co_firstlineno, []) if fits(node)]
    if not candidates:
        raise LookupError(f"{code.co_filename}:{code.co_firstlineno}: the source of {code.co_name} was not found")
    return min(candidates, key=lambda node: (node.end_lineno - node.lineno, node.end_col_offset - node.col_offset))


def compiled(function: FunctionType, node: ast.AST) -> CodeType:
    """The code of `node`, a changed tree of `function`, with the same variables of enclosing scopes."""
    original = function.__code__
    inside = copy.deepcopy(node)
    if isinstance(inside, ast.FunctionDef):
        inside.decorator_list = []
    inside.args.defaults = [ast.Constant(None) for _ in inside.args.defaults]
    inside.args.kw_defaults = [d and ast.Constant(None) for d in inside.args.kw_defaults]
    free = [ast.Assign([ast.Name(name, ast.Store())], ast.Constant(None)) for name in original.co_freevars]
    if isinstance(inside, ast.Lambda):
        inside = ast.Expr(inside)
    elif inside.name not in original.co_freevars:  # where it calls itself, it means the global name
        free.append(ast.Global([inside.name]))
    empty = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    enclosing = ast.FunctionDef(name="enclosing", args=empty, body=[*free, inside], decorator_list=[], type_params=[])
    module = ast.fix_missing_locations(ast.Module([enclosing], type_ignores=[]))
    (outer,) = (c for c in compile(module, original.co_filename, "exec").co_consts if isinstance(c, CodeType))
    (code,) = (c for c in outer.co_consts if isinstance(c, CodeType))
    return code


def remade(function: FunctionType, node: ast.AST) -> FunctionType:
    """A new function with the tree `node` and the defaults, globals and closure of `function`."""
    code = compiled(function, node)
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or ()))
    scope = function.__globals__
    if function.__name__ in code.co_names:  # it calls itself: the new one calls the new one
        scope = dict(scope)
    made = FunctionType(code, scope, function.__name__, function.__defaults__, tuple(cells[n] for n in code.co_freevars))
    made.__kwdefaults__ = function.__kwdefaults__
    if scope is not function.__globals__:
        scope[function.__name__] = made
    return made


@contextmanager
def replaced(function: FunctionType, code: CodeType) -> Iterator[None]:
    """Inside, `function` runs `code`, wherever it was imported to."""
    original = function.__code__
    function.__code__ = code
    try:
        yield
    finally:
        function.__code__ = original


def edited(function: FunctionType, old: str, new: str) -> CodeType:
    """The code of `function` with the text `old`, which must stand in it once, replaced by `new`."""
    text = textwrap.dedent(inspect.getsource(function))
    if text.count(old) != 1:
        raise LookupError(f"{function.__qualname__}: {old!r} stands in it {text.count(old)} times, expected once; update the mutant")
    (node,) = ast.parse(text.replace(old, new)).body
    code = compiled(function, node)
    if len(code.co_freevars) != len(function.__code__.co_freevars):
        raise LookupError(f"{function.__qualname__}: the mutant {new!r} uses other variables of the enclosing scope")
    return code


# --- small changes of syntax --------------------------------------------------------------------

OTHER_COMPARISON = {
    ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OTHER_FUNCTION = {
    "sum": "mean", "mean": "sum", "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "prod": "sum",
    "sin": "cos", "cos": "sin", "sinh": "cosh", "cosh": "sinh", "zeros_like": "ones_like", "ones_like": "zeros_like",
    "zeros": "ones", "ones": "zeros", "tril": "triu", "triu": "tril", "argmax": "argmin", "argmin": "argmax",
}  # fmt: skip
DROPPED = {
    "swapaxes", "mT", "transpose", "matrix_transpose", "moveaxis", "flip", "roll", "abs", "sign", "sqrt", "square",
    "reciprocal", "exp", "log", "cumsum", "outer", "tril", "triu", "diagonal", "negative", "conj",
}  # fmt: skip


LONGEST = 120  # characters that describe a change


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def renamed(node: ast.Call, name: str) -> ast.Call:
    node = copy.copy(node)
    node.func = copy.copy(node.func)
    setattr(node.func, "attr" if isinstance(node.func, ast.Attribute) else "id", name)
    return node


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(mutator, what stands in place of `node`) for each mutation of this node alone."""
    match node:
        case ast.BinOp(left, ast.Mult(), right):
            yield "drop a factor", left
            yield "drop a factor", right
        case ast.BinOp(left, ast.Div(), right):
            yield "drop a divisor", left
            yield "times for divided by", ast.BinOp(left, ast.Mult(), right)
        case ast.BinOp(left, ast.Add(), right):
            yield "drop a term", left
            yield "drop a term", right
            yield "sign of a term", ast.BinOp(left, ast.Sub(), right)
        case ast.BinOp(left, ast.Sub(), right):
            yield "drop a term", left
            yield "sign of a term", ast.BinOp(left, ast.Add(), right)
        case ast.BinOp(left, ast.Pow(), right):
            yield "drop a power", left
            yield "another power", ast.BinOp(left, ast.Pow(), ast.BinOp(right, ast.Add(), ast.Constant(1)))
        case ast.BinOp(left, ast.MatMult(), right):
            yield "swap factors of a product", ast.BinOp(right, ast.MatMult(), left)
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield "drop a sign or a not", operand
        case ast.Compare(left, [operator], comparators):
            yield "another comparison", ast.Compare(left, [OTHER_COMPARISON[type(operator)]()], comparators)
        case ast.BoolOp(operator, values):
            yield "and <-> or", ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.IfExp(_, body, orelse):
            yield "one branch always", body
            yield "one branch always", orelse
        case ast.If(_, body, orelse):
            yield "one branch always", ast.If(ast.Constant(True), body, orelse)
            yield "one branch always", ast.If(ast.Constant(False), body, orelse)
        case ast.Constant(bool(value)):
            yield "another flag", ast.Constant(not value)
        case ast.Constant(int(value)):
            yield "another number", ast.Constant(value + 1)
        case ast.Constant(float(value)):
            yield "another number", ast.Constant(value * (1 + 1e-4) if value else 1e-4)
        case ast.AugAssign(target, _, value):
            yield "= for +=", ast.Assign([target], value)
            yield "drop a statement", ast.Pass()
        case ast.Call(_, args, keywords):
            name = called(node)
            if name in OTHER_FUNCTION:
                yield f"{name} -> {OTHER_FUNCTION[name]}", renamed(node, OTHER_FUNCTION[name])
            if name in DROPPED and args:
                yield (
                    "drop a transpose" if name in ("swapaxes", "mT", "transpose", "matrix_transpose", "moveaxis") else "drop a call",
                    args[0],
                )
            for i, keyword in enumerate(keywords):
                if keyword.arg:
                    rest = keywords[:i] + keywords[i + 1 :]
                    yield f"drop {keyword.arg}=", ast.Call(node.func, args, rest)
        case ast.Attribute(value, "T" | "mT"):
            yield "drop a transpose", value


class Swap(ast.NodeTransformer):
    def __init__(self, old, new):
        self.old, self.new = old, new

    def visit(self, node):
        return self.new if node is self.old else self.generic_visit(node)


def mutants_of(function: FunctionType) -> Iterator[tuple[str, str, ast.AST]]:
    """(mutator, what it changed, the changed tree) for every small change in the body of `function`; errors stay as they are."""
    root = tree_of(function)
    body = root.body if isinstance(root, ast.FunctionDef) else [root.body]
    stack: list[tuple[ast.AST, ast.AST]] = [(child, child) for child in reversed(body)]
    while stack:
        node, around = stack.pop()  # around: the largest expression with this node that fits in a line
        if isinstance(node, ast.FunctionDef):  # an inner function: its body, not its arguments
            stack += [(child, child) for child in reversed(node.body)]
            continue
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.arguments) or is_docstring(node) or only_raises(node):
            continue
        if not isinstance(around, ast.expr) or len(ast.unparse(around)) > LONGEST:
            around = node
        for mutator, new in changes(node):
            tree, old, changed, whole = copy.deepcopy((root, node, new, around))  # one memo: the copies know each other
            before = short(whole)
            tree = Swap(old, changed).visit(tree)
            yield mutator, f"line {node.lineno}: {before} -> {short(changed if whole is old else whole)}", tree
        stack += [(child, around) for child in reversed(list(ast.iter_child_nodes(node)))]


def short(node: ast.AST) -> str:
    return " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())[:LONGEST]


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def only_raises(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise) and not node.orelse

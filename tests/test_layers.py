"""The rules of the architecture that a reader of the imports can check: order, circles, size, words."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tinygrad_notes"
# Each layer may import only from those before it. `__init__` and `__main__` stand above all.
LAYERS = "runtime interrupts recording binding core registry tensor ops transforms threads fused functional tree nn optim copies replay parallel saving text images data check drawing".split()
LONGEST = {"core.py": 300, "tensor.py": 400}  # lines; most of tensor.py are an array's methods, one line each
LONGEST_OTHER = 350


def files(*folders):
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in found]


@cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module(path):
    """tinygrad_notes/ops/shaping.py -> "tinygrad_notes.ops.shaping"; a folder's __init__.py -> the folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name):
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


def imported(path):
    """The names of all modules that a file imports, wherever in it: for `from a import b`, a.b where that is a module."""
    names = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: line {node.lineno} imports relatively; name the package"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if is_module(inner) else node.module)
    return names


def own(path):
    return {name for name in imported(path) if name.partition(".")[0] == "tinygrad_notes"}


def layer(name):
    return LAYERS.index(name.split(".")[1])


LIBRARY = [p for p in files("tinygrad_notes") if p.values[0].parent != PACKAGE or not p.values[0].name.startswith("__")]
MODELS_AND_LAYERS = files("tinygrad_notes/functional", "tinygrad_notes/nn", "models")


@pytest.mark.parametrize("path", LIBRARY)
def test_imports_only_from_layers_above(path):
    here = module(path)
    for name in own(path):
        assert name != "tinygrad_notes", f"{here} imports from the package's __init__, which imports it: name the module"
        assert layer(name) <= layer(here), f"{here} imports {name}, which is below it"


def test_every_file_is_in_a_layer():
    found = {path.stem if path.suffix else path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert found - {"__init__", "__main__"} <= set(LAYERS)


def test_no_circles():
    graph = {module(p.values[0]): own(p.values[0]) for p in files("tinygrad_notes", "models")}
    done = set()

    def visit(name, path):
        assert name not in path, "a circle of imports: " + " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, [*path, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])


@pytest.mark.parametrize("path", files("tinygrad_notes"))
def test_line_budget(path):
    longest = LONGEST.get(path.relative_to(PACKAGE).as_posix(), LONGEST_OTHER)
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= longest, f"{lines} lines, at most {longest}: split it by subject"


def definitions(path):
    """The public functions and classes at the top of a file."""
    return {n.name for n in parse(path).body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")}


def test_no_public_function_has_a_submodules_name():
    """`from tinygrad_notes.functional import attention` must mean one thing."""
    for folder in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir() and (path / "__init__.py").exists())]:
        modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
        offered = {
            alias.asname or alias.name
            for node in ast.walk(parse(folder / "__init__.py"))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if not is_module(f"{node.module}.{alias.name}")
        }
        clash = modules & (definitions(folder / "__init__.py") | offered)
        assert not clash, f"{folder.relative_to(ROOT)}: {clash}"


def calls(path):
    """(line, name, call) for each call of a plain name, such as print(...)."""
    return [(n.lineno, n.func.id, n) for n in ast.walk(parse(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]


@pytest.mark.parametrize("path", MODELS_AND_LAYERS)
def test_arrays_and_tensors_are_treated_alike(path):
    """functional, nn and models neither read `.value` (stop_gradient takes both) nor ask whether something is a Tensor."""
    values = [n.lineno for n in ast.walk(parse(path)) if isinstance(n, ast.Attribute) and n.attr == "value"]
    assert not values, f".value in lines {values}"
    for line, name, call in calls(path):
        if name == "isinstance":
            kinds = {n.id if isinstance(n, ast.Name) else getattr(n, "attr", "") for n in ast.walk(call.args[1])}
            assert not kinds & {"Tensor", "Variable"}, f"isinstance of a Tensor in line {line}"


@pytest.mark.parametrize("path", files("tinygrad_notes", "models", "walkthroughs", "benchmarks", "book"))
def test_no_pickle_eval_exec_or_network(path):
    roots = {name.partition(".")[0] for name in imported(path) if name != "urllib.parse"}  # which only takes addresses apart
    assert not roots & {"pickle", "shelve", "marshal", "dill", "joblib", "socket", "urllib", "http", "ftplib", "requests"}
    assert not [(line, name) for line, name, _ in calls(path) if name in ("eval", "exec", "__import__")]
    keywords = [n for n in ast.walk(parse(path)) if isinstance(n, ast.keyword) and n.arg == "allow_pickle"]
    assert all(isinstance(n.value, ast.Constant) and n.value.value is False for n in keywords)


@pytest.mark.parametrize("path", files("models"))
def test_models_only_compute(path):
    """No input or output in a model file: that is a walkthrough's part."""
    roots = {name.partition(".")[0] for name in imported(path)}
    assert not roots & {"argparse", "sys", "os", "pathlib", "logging", "time", "matplotlib", "tqdm"}
    assert not [(line, name) for line, name, _ in calls(path) if name in ("print", "open", "input")]


def test_no_file_is_called_utils():
    assert not [
        p.values[0]
        for p in files("tinygrad_notes", "models", "walkthroughs", "tests", "benchmarks", "book")
        if p.values[0].stem in ("utils", "util", "helpers")
    ]


def test_first_import_of_the_package_is_runtime():
    first = next(node for node in parse(PACKAGE / "__init__.py").body if isinstance(node, ast.Import | ast.ImportFrom))
    assert isinstance(first, ast.ImportFrom)
    assert [alias.name for alias in first.names] == ["runtime"], "NumPy would load before the setting of its BLAS"


@pytest.mark.parametrize("path", files("walkthroughs", "benchmarks", "book"))
def test_scripts_import_the_package_before_numpy(path):
    roots = [name.partition(".")[0] for node in parse(path).body for name in names_in(node)]
    ours = [i for i, root in enumerate(roots) if root in ("tinygrad_notes", "models")]
    theirs = [i for i, root in enumerate(roots) if root in ("numpy", "scipy", "matplotlib")]
    assert not ours or not theirs or min(ours) < min(theirs)


def names_in(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []

"""Scripts as cells of prose and code, and in the order of the course."""

import ast
from pathlib import Path

from book import course
from book.cells import introduce, parts_of
from walkthroughs import __main__ as launcher

import pytest

SCRIPT = '''"""A title.

RUNNING TIME: a second (--quick: less)

What you will see.
"""

# %% Settings
import math  # not prose

# %% The idea
# Some prose,
# in two lines.
#
#     x = y

x = math.sqrt(4)  # the code's own


def f():
    # the code's own, too
    return """
# inside of a string
"""


# Prose between two pieces of code.
y = f()
# no blank line above: the code's own
# fmt: off

# fmt: on
# %% The end
'''


def test_parts():
    found = [(part.title, part.prose, part.line) for part in parts_of(SCRIPT)]
    assert found == [
        ("Settings", "", 8),
        ("The idea", "Some prose,\nin two lines.\n\n    x = y", 11),
        ("", "Prose between two pieces of code.", 27),
        ("The end", "", 33),
    ]


def test_code_keeps_what_is_its_own():
    settings, idea, between, end = (part.code for part in parts_of(SCRIPT))
    assert settings == "import math  # not prose"
    assert "# the code's own" in idea and "# inside of a string" in idea
    assert between == "y = f()\n# no blank line above: the code's own\n# fmt: off\n\n# fmt: on"
    assert end == ""


def test_introduction():
    assert introduce(ast.get_docstring(ast.parse(SCRIPT))) == ("A title", "a second (--quick: less)", "What you will see.")


@pytest.mark.parametrize("walkthrough", course.read_course(), ids=lambda w: w.name)
def test_nothing_of_a_script_is_lost(walkthrough):
    """The parts, put together, are the program below its docstring: the same statements, and every line of every comment."""
    source = launcher.scripts()[walkthrough.name].read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert [ast.dump(n) for part in walkthrough.parts for n in ast.parse(part.code).body] == [ast.dump(n) for n in tree.body[1:]]
    below = source.splitlines()[tree.body[0].end_lineno :]
    commented = {line.lstrip("# ").removeprefix("%% ") for line in below if line.startswith("#")}
    shown = "\n".join(f"{part.title}\n{part.prose}\n{part.code}" for part in walkthrough.parts)
    assert all(words in shown for words in commented)
    assert walkthrough.title and walkthrough.time
    assert any(part.title for part in walkthrough.parts)


def test_the_course_has_an_order():
    names = "diffusion/ddpm later/thing language/gpt engine/autograd language/unheard language/transformer attention/flash".split()
    assert sorted(names, key=launcher.in_course) == (
        "engine/autograd attention/flash language/transformer language/gpt language/unheard diffusion/ddpm later/thing".split()
    )
    assert list(launcher.scripts()) == sorted(launcher.scripts(), key=launcher.in_course)
    assert set(launcher.FAMILIES) == set(course.FAMILIES)


def test_labels():
    assert course.label("language/gpt") == "GPT-2"
    assert course.label("engine/no_model_of_this_name") == "No model of this name"


@pytest.mark.parametrize(
    ("prose", "folded"),
    [
        ("1. Why?\n\nAnswers\n1. So.", "1. Why?\n\n<details><summary>Answers</summary>\n\n1. So.\n\n</details>"),
        ("1. Why?\nAnswers. 1. So.", "1. Why?\n\n<details><summary>Answers</summary>\n\n1. So.\n\n</details>"),
        (
            "1. Why?\nAnswers (with seed 0)\n1. So.",
            "1. Why?\n\n<details><summary>Answers (with seed 0)</summary>\n\n1. So.\n\n</details>",
        ),
        ("Answers nothing.", "Answers nothing."),
        ("1. Why?\nAnswers may differ.", "1. Why?\nAnswers may differ."),
    ],
)
def test_answers_are_folded(prose, folded):
    assert course.fold_answers(prose) == folded


def test_every_script_with_answers_has_them_folded():
    for walkthrough in course.read_course():
        for part in walkthrough.parts:
            if part.title.startswith("Exercises") and "Answers" in part.prose:
                assert "<details>" in course.fold_answers(part.prose), walkthrough.name


def test_pages_are_where_the_scripts_are():
    assert all(Path(launcher.HERE, f"{w.name}.py").is_file() for w in course.read_course())

"""The walkthroughs in the order of the course, with their pages: prose, code, and what a recorded run printed and drew."""

import ast
import html
import re
import shutil
from pathlib import Path

from book.cells import Walkthrough, read_walkthrough
from book.notebook import notebook
from book.record import ROOT
from book.runs import Run
from book.tree import Tree, code, markdown, relative
from walkthroughs.__main__ import scripts

FAMILIES = {
    "engine": "The engine",
    "attention": "Attention",
    "language": "Language",
    "vision": "Vision",
    "multimodal": "Images and text",
    "adaptation": "Adaptation",
    "diffusion": "Diffusion",
}
FOLDED = {"Settings": "Imports and options", "Figures": "How they are drawn"}  # cells whose code is not what one came to read
ANSWERS = re.compile(r"^Answers(?: \([^)\n]*\))?(?:[.:]?$|[.:] )", re.M)


def read_course() -> list[Walkthrough]:
    return [read_walkthrough(name, path) for name, path in scripts().items()]


def label(name: str) -> str:
    """A short name for lists: the model's, where there is one ("GPT-2"), or the script's."""
    model = ROOT / "models" / f"{name}.py"
    if model.exists():
        title = (ast.get_docstring(ast.parse(model.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        if ":" in title:
            return title.partition(":")[0]
    return name.rpartition("/")[2].replace("_", " ").capitalize()


def family_title(name: str) -> str:
    family = name.partition("/")[0]
    return FAMILIES.get(family, family.capitalize())


def page_of(name: str) -> str:
    return f"walkthroughs/{name}"


def write_course(tree: Tree, course: list[Walkthrough], runs: dict[str, Run]):
    for walkthrough in course:
        write_walkthrough(tree, walkthrough, runs.get(walkthrough.name))
    entries = "\n".join(f"{label(w.name)} <{w.name}>" for w in course)
    tree.write(
        "walkthroughs/index",
        f"# The course\n\n{len(course)} scripts, to be read from top to bottom, run, and changed. Each says what it will show, works its idea "
        "by hand on numbers that fit the page, puts the model beside its equations, checks it, trains it in a loop of a few visible "
        "lines, and then breaks it on purpose.\n\n"
        "```sh\npython -m walkthroughs                     # the list\npython -m walkthroughs language/gpt        # run one\n```\n\n"
        f"{cards(course, runs, 'walkthroughs/index')}\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n",
    )


def cards(course: list[Walkthrough], runs: dict[str, Run], page: str) -> str:
    """The course as cards, each with a picture, in one grid."""
    lines = ['<div class="cards">']
    for walkthrough in course:
        name = walkthrough.name
        picture = cover(runs.get(name))
        image = f'<img src="{relative(picture_name(name, picture), page)}" alt="" loading="lazy">' if picture else ""
        lines.append(
            f'<a class="card" href="{relative(page_of(name), page)}.html"><span class="cover">{image}</span>'
            f'<span class="family">{html.escape(family_title(name))}</span><span class="label">{html.escape(label(name))}</span>'
            f'<span class="what">{html.escape(walkthrough.title)}</span>'
            f'<span class="time">{html.escape(walkthrough.time.partition("(")[0].strip())}</span></a>'
        )
    return "\n".join([*lines, "</div>"])


def cover(run: Run | None) -> Path | None:
    """The picture that stands for a walkthrough: the first that it draws."""
    return next((path for number in sorted(run.pictures) for path in run.pictures[number]), None) if run else None


def picture_name(name: str, picture: Path) -> str:
    return f"pictures/{name}/{picture.name}"


def write_walkthrough(tree: Tree, walkthrough: Walkthrough, run: Run | None):
    page = page_of(walkthrough.name)
    body = [f"# {markdown(walkthrough.title)}", facts(tree, walkthrough, page), origin(run)]
    body.append(markdown(tree.linked(walkthrough.introduction, page)))
    for number, part in enumerate(walkthrough.parts):
        if part.title:
            body.append(f"## {markdown(part.title)}")
        prose = markdown(tree.linked(part.prose, page))
        body.append(folded("Show them", prose) if part.title == "Answers" else fold_answers(prose))
        if part.code:
            block = code(part.code, "python")
            body.append(folded(FOLDED[part.title], block) if part.title in FOLDED else block)
        if run and number in run.printed:
            body.append(code(run.printed[number], "text", kind="output"))
        for picture in run.pictures.get(number, []) if run else []:
            name = picture_name(walkthrough.name, picture)
            shutil.copy(picture, tree.extra(name))
            body.append(figure(relative(name, page), f"{picture.stem}, drawn under “{heading(walkthrough, number)}”"))
    tree.write(page, "\n\n".join(text for text in body if text))
    drawing = set(run.pictures) if run else set()
    tree.extra(f"downloads/{walkthrough.name}.ipynb").write_text(notebook(walkthrough, drawing), encoding="utf-8")
    shutil.copy(ROOT / "walkthroughs" / f"{walkthrough.name}.py", tree.extra(f"downloads/{walkthrough.name}.py"))


def heading(walkthrough: Walkthrough, number: int) -> str:
    """The title of the cell that a part belongs to."""
    return next((part.title for part in walkthrough.parts[number::-1] if part.title), walkthrough.title)


def figure(place: str, alt: str) -> str:
    return f'<a class="picture" href="{place}"><img src="{place}" alt="{html.escape(alt)}" loading="lazy"></a>'


def facts(tree: Tree, walkthrough: Walkthrough, page: str) -> str:
    name = walkthrough.name
    script = f"walkthroughs/{name.rpartition('/')[2]}.py"  # all of their tests are in one folder
    downloads = relative(f"downloads/{name}", page)
    related = [
        tree.link(text, file, page)
        for text, file in (
            ("the model", f"models/{name}.py"),
            ("its tests", test_of(f"models/{name}.py")),
            ("the script's test", test_of(script)),
        )
        if file and (ROOT / file).exists()
    ]
    beside = f" Beside it: {', '.join(related)}." if related else ""
    return (
        f"```{{container}} facts\n`python -m walkthroughs {name}`: {walkthrough.time or 'a moment'}. "
        f'Download the <a href="{downloads}.ipynb" download>notebook</a> or the <a href="{downloads}.py" download>script</a>.{beside}\n```'
    )


def test_of(file: str) -> str:
    """models/language/gpt.py -> tests/models/language/test_gpt.py, where there is one."""
    path = Path("tests") / Path(file).parent / f"test_{Path(file).name}"
    return path.as_posix() if (ROOT / path).exists() else ""


def origin(run: Run | None) -> str:
    if run is None:
        return "```{note}\nThis page has no recorded run: what the code prints and draws is left out.\n```"
    changed = "" if run.holds else " The code has changed since."
    if run.quick:
        return (
            "```{warning}\nA quick run made the numbers and figures here: a few steps of training, which show that everything works "
            f"and not how well ({run.made_by}).{changed}\n```"
        )
    return f"```{{container}} origin\nThe numbers and figures are those of a run: {run.made_by}.{changed}\n```"


def fold_answers(prose: str) -> str:
    """The answers to exercises, out of sight until asked for: from a line `Answers` (or `Answers. 1. ...`) to the end."""
    found = ANSWERS.search(prose)
    if not found:
        return prose
    return f"{prose[: found.start()].rstrip()}\n\n{folded(found[0].strip(' .:'), prose[found.end() :].strip())}"


def folded(summary: str, text: str) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>\n\n{text}\n\n</details>"

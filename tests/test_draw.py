"""draw(loss): everything is there, it is what the engine computes, nothing overlaps, and the graph stays as it was."""

import re
import weakref
import xml.etree.ElementTree as ET

import tinygrad_notes as tn
from models.language import gpt
from tests.test_random_programs import SEEDS, random_program, run
from tinygrad_notes import Tensor, check, core, draw, gradients, nn, optim
from tinygrad_notes.drawing import contents, layout
from tinygrad_notes.drawing.contents import MOST, NOT_KEPT, Recorder, contents_of, cut, gradients_of, nodes_above, values_of, words
from tinygrad_notes.drawing.svg import HINT, size_of

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

MANY = settings(max_examples=max(1, settings().max_examples // 5))
SVG = "{http://www.w3.org/2000/svg}"


def boxes_in(drawing):
    """Of each node in the picture: (kind, rectangle (x, y, w, h), its texts in order)."""
    root = ET.fromstring(drawing)
    found = []
    for group in root.iter(SVG + "g"):
        if group.get("class") == "node":
            rect = group.find(SVG + "rect")
            place = tuple(float(rect.get(k)) for k in ("x", "y", "width", "height"))
            found.append((rect.get("class"), place, [text.text for text in group.iter(SVG + "text")]))
    return found


def lines_of(drawing):
    """{title of a box: its other lines}."""
    return {texts[0]: texts[1:] for _, _, texts in boxes_in(drawing)}


def random_loss(seed):
    """(loss, its variables), or None where the program's number depends on none of them."""
    program, inputs = random_program(seed)
    tensors = [Tensor(x) for x in inputs]
    loss = run(program, tensors)
    return (loss, tensors) if isinstance(loss, Tensor) else None


def neuron():
    a, b, c = Tensor(2.0), Tensor(-3.0), Tensor(10.0)
    return np.tanh(0.1 * (a * b + c) + a), {"a": a, "b": b, "c": c}


# --- what stands in it -----------------------------------------------------------------------------


def test_a_neuron_by_hand():
    """tanh(0.1 (a b + c) + a) at a = 2, b = -3, c = 10: every number worked out with the chain rule."""
    loss, names = neuron()
    found = boxes_in(draw(loss, **names))
    slope = 1 - np.tanh(2.4) ** 2
    expected = [
        ("variable", ["a", "float64", "value 2", f"grad  {slope * (1 - 0.3):.4g}"]),
        ("variable", ["b", "float64", "value -3", f"grad  {slope * 0.2:.4g}"]),
        ("variable", ["c", "float64", "value 10", f"grad  {slope * 0.1:.4g}"]),
        ("result", ["np.multiply", "float64", "value -6", f"grad  {slope * 0.1:.4g}"]),
        ("result", ["np.add", "float64", "value 4", f"grad  {slope * 0.1:.4g}"]),
        ("constant", ["constant", "float", "value 0.1"]),
        ("result", ["np.multiply", "float64", "value 0.4", f"grad  {slope:.4g}"]),
        ("result", ["np.add", "float64", "value 2.4", f"grad  {slope:.4g}"]),
        ("loss", ["np.tanh", "float64", f"value {np.tanh(2.4):.4g}", "grad  1"]),
    ]
    assert [(kind, texts) for kind, _, texts in found] == expected


def test_small_arrays_are_written_out_large_ones_by_their_range():
    assert words(np.array([[1.0, -0.25], [1e-9, np.inf]])) == "[[1, -0.25], [1e-09, inf]]"
    assert words(np.linspace(-1, 2, 1000)) == "-1 to 2"
    assert words(np.zeros((20, 20), np.float32)) == "all 0"
    assert words(np.where(np.arange(50) < 3, np.nan, 1.0)) == "3 of 50 are nan"
    assert words(np.zeros((0, 3))) == "[]"
    assert words(np.zeros((99, 0))) == "no elements"
    assert words(np.array(1 / np.longdouble(3))) == "0.3333"
    assert words(np.array(["a" * 50, "b"])) == "no numbers"
    assert len(words(np.array(10**99))) <= contents.LONGEST
    assert len(words(np.geomspace(1e-300, 1e300, 50) * -(1 + 1j))) <= contents.LONGEST
    assert words(np.array([True, False])) == "[True, False]"
    x, w = np.arange(12.0).reshape(4, 3), Tensor(np.ones(3))
    loss = np.sum(np.tanh(x @ w))
    lines = lines_of(draw(loss, w=w, x=x))
    assert lines["w"] == ["(3,) float64", "value [1, 1, 1]", f"grad  {words(gradients(loss, w))}"]
    assert lines["x"] == ["(4, 3) float64", "value 0 to 11"]


def test_names_come_from_the_caller_from_paths_and_from_leaves():
    w, b, x = Tensor(np.ones((2, 2))), Tensor(np.zeros(2), name="bias"), np.ones(2)
    h = x @ w
    loss = np.sum(np.square(h + b))
    assert {"w", "bias", "x", "h"} <= lines_of(draw(loss, w=w, x=x, h=h)).keys()
    assert lines_of(draw(loss, h=h))["h"][:2] == ["np.matmul", "(2,) float64"]
    assert {"layers.0", "deep.b"} <= lines_of(draw(loss, {"deep": {"b": b}}, layers=[w])).keys()
    layer = nn.Linear(3, 2, rng=np.random.default_rng(0))
    assert {"weight", "bias"} <= lines_of(draw(np.sum(layer(np.ones((1, 3), np.float32))), tn.parameters(layer))).keys()


def test_an_operation_says_its_keywords_and_its_index():
    t = Tensor(np.arange(12.0).reshape(3, 4))
    notes = [texts[1] for _, _, texts in boxes_in(draw(np.sum(np.mean(t[1:, ::-1], axis=0)[2])))]
    assert {"[1:, ::-1]", "[2]", "axis=0"} <= set(notes)


def test_a_multiple_output_shows_value_and_gradient_in_its_members():
    t = Tensor(np.arange(4.0))
    first, second = np.split(t, 2)
    lines = lines_of(draw(np.sum(first * second)))
    assert lines["np.split"][-1] == "2 outputs"
    assert lines["output 0"] == ["(2,) float64", "value [0, 1]", "grad  [2, 3]"]
    assert lines["output 1"] == ["(2,) float64", "value [2, 3]", "grad  [0, 1]"]
    assert lines["variable"][-1] == "grad  [2, 3, 0, 1]"


def test_an_array_that_is_used_twice_is_one_box_and_an_argument_left_out_is_none():
    x, t = np.ones(3), Tensor(np.ones(3))
    assert [kind for kind, _, _ in boxes_in(draw(np.sum(x * t * x)))].count("constant") == 1
    layer = nn.Linear(3, 2, rng=np.random.default_rng(0), bias=False)
    loss = np.sum(layer(np.ones((1, 3), np.float32)))
    kinds = [kind for kind, _, _ in boxes_in(draw(loss))]
    assert sorted(kinds) == ["constant", "loss", "result", "variable"]


# --- values that nodes do not keep --------------------------------------------------------------------


def rnn(w, xs):
    h = w[0]
    for x in xs:
        h = np.tanh(h @ w + x)  # tanh keeps its output, and nobody keeps x
    return np.sum(h)


def test_what_was_dropped_is_told_and_the_function_shows_it():
    w, xs = Tensor(np.full((2, 2), 0.5)), np.ones((3, 2))
    drawing = draw(rnn(w, xs), w=w)
    assert drawing.count(NOT_KEPT) == 3 + 3 + 1  # each x, each sum, and the hint
    assert HINT in drawing
    whole = draw(lambda: rnn(w, xs), w=w)
    assert NOT_KEPT not in whole
    assert whole.count("value [1, 1]") == 3
    np.testing.assert_array_equal(gradients(rnn(w, xs), w), contents.gradients_of(*graph(rnn(w, xs)))[w.node])


def graph(loss):
    return loss, nodes_above(loss.node)


def test_a_leaf_that_nobody_holds_is_not_invented():
    loss = np.sum(np.ones(3) * Tensor(np.full(3, 2.0)))
    assert lines_of(draw(loss))["variable"] == ["(3,) float64", NOT_KEPT, "grad  [1, 1, 1]"]


@MANY
@given(SEEDS)
def test_found_values_are_those_that_were_computed(seed):
    """Without names, and with nothing seen, every value that is found is exact; seen, every value is there."""
    with Recorder() as recorder:
        made = random_loss(seed)
    if made is None:
        return
    loss, tensors = made
    nodes = nodes_above(loss.node)
    found = values_of(nodes, {node: node.saved or node.parents for node in nodes}, {loss.node: loss.value})
    leaves = {t.node: t.value for t in tensors}
    for node, value in found.items():
        np.testing.assert_array_equal(value, leaves[node] if node in leaves else recorder.seen[node][1], strict=node not in leaves)
    assert leaves.keys() & set(nodes) <= found.keys()
    boxes, _ = contents_of(loss, {}, recorder.seen)
    assert all(box.value != NOT_KEPT for box in boxes)


@MANY
@given(SEEDS)
def test_gradients_are_those_of_the_engine_bit_for_bit_and_the_graph_stays(seed):
    made, again = random_loss(seed), random_loss(seed)
    if made is None:
        return
    loss, tensors = made
    used = set(nodes_above(loss.node))
    shown = [texts[-1] for kind, _, texts in boxes_in(draw(loss, {"t": tensors})) if kind == "variable"]
    found = gradients_of(loss, nodes_above(loss.node))
    after, untouched = gradients(loss, tensors), gradients(*again)
    expected = []
    for t, g, h in zip(tensors, after, untouched):
        np.testing.assert_array_equal(g, h)
        if t.node in used:
            np.testing.assert_array_equal(found[t.node], g, strict=True)
            expected.append(f"grad  {words(g)}")
    assert sorted(shown) == sorted(expected)


def test_gradients_of_results_are_those_with_respect_to_them():
    w, x = Tensor(np.array([0.5, -1.0])), np.array([[1.0, 2.0], [3.0, 4.0]])
    h = x @ w
    y = np.tanh(h)
    loss = np.sum(y * h) + h[0]  # h is used three times, once by an index
    found = gradients_of(*graph(loss))
    for t in (w, h, y):
        np.testing.assert_array_equal(found[t.node], gradients(loss, t, retain_graph=True))


def test_a_whole_model():
    model = gpt.GPT(gpt.Config.tiny(), np.random.default_rng(0))
    params, ids = tn.parameters(model), np.array([[3, 1, 4, 1, 5]])
    loss = gpt.loss(model, ids[:, :-1], ids[:, 1:])
    drawing = draw(loss, params)
    assert NOT_KEPT not in drawing
    lines, grads = lines_of(drawing), gradients(loss, params)
    for name, g in grads.items():
        assert lines[name][-1] == f"grad  {words(g)}"


def test_checkpoint_and_custom_functions_are_not_run_again_for_their_values():
    runs = []

    def double(x):
        runs.append(1)
        return 2 * x

    w = Tensor(np.ones(2))
    loss = np.sum(np.ones(2) + tn.custom_vjp(double, lambda g, y, x: 2 * g)(w))
    assert lines_of(draw(loss))["double"] == ["(2,) float64", NOT_KEPT, "grad  [1, 1]"]
    assert len(runs) == 1
    loss = np.sum(tn.checkpoint(lambda x: np.tanh(x))(w))
    assert lines_of(draw(loss))["variable"][-1] == f"grad  {words(1 - np.tanh(w.value) ** 2)}"
    np.testing.assert_allclose(gradients(loss, w), 1 - np.tanh(w.value) ** 2)


def test_no_observer_stays_and_watchers_go_on_watching():
    w = Tensor(1.0)
    with pytest.raises(ZeroDivisionError):
        draw(lambda: np.exp(w) * (1 / 0))
    assert core.observer is None
    with check.count() as counts:
        draw(lambda: np.exp(w) * tn.grad(np.sin)(1.0), w=w)
    assert counts.ops["np.exp"] == counts.rules["np.exp"] == 1
    assert counts.ops["np.sin"] == counts.rules["np.sin"] == 1


def test_a_drawing_holds_nothing():
    w = Tensor(np.ones(3))
    h = w * 2.0
    alive = weakref.ref(h)
    drawing = draw(np.sum(h))
    del h
    assert alive() is None
    assert drawing


# --- the picture --------------------------------------------------------------------------------------


def assert_apart(places):
    for i, (x, y, w, h) in enumerate(places):
        for x2, y2, w2, h2 in places[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y, "two boxes overlap"


@MANY
@given(SEEDS)
def test_every_node_is_there_and_nothing_overlaps(seed):
    made = random_loss(seed)
    if made is None:
        return
    drawing = draw(made[0])
    root, found = ET.fromstring(drawing), boxes_in(drawing)
    nodes = nodes_above(made[0].node)
    assert sum(kind != "constant" for kind, _, _ in found) == len(nodes)
    labels = [node.op.label for node in nodes if isinstance(node.op, contents.Op)]
    assert sorted(labels) == sorted(texts[0] for kind, _, texts in found if kind in ("result", "loss"))
    assert_apart([place for _, place, _ in found])
    width, height = float(root.get("width")), float(root.get("height"))
    shift = float(re.search(r"translate\(([\d.]+)", drawing)[1])
    for group in root.iter(SVG + "g"):
        if group.get("class") == "node":
            x, y, w, h = (float(group.find(SVG + "rect").get(k)) for k in ("x", "y", "width", "height"))
            assert x + shift >= 0 and x + shift + w <= width and y + h <= height
            for text in group.iter(SVG + "text"):
                left, base, length = (float(text.get(k)) for k in ("x", "y", "textLength"))
                assert x < left and left + length < x + w and y + 8 < base < y + h - 3, "a text leaves its box"
    edges = [element for element in root.iter(SVG + "path") if element.get("class") == "edge"]
    assert len(edges) == sum(p is not None for node in nodes for p in node.parents) + sum(
        p is None and x is not None for node in nodes for p, x in zip(node.parents, node.saved)
    )


@MANY
@given(SEEDS)
def test_edges_go_down_and_through_no_box(seed):
    made = random_loss(seed)
    if made is None:
        return
    boxes, edges = contents_of(made[0], {}, {})
    sizes = [size_of(box) for box in boxes]
    plan = layout.layout(sizes, edges)
    places = [(*corner, *size) for corner, size in zip(plan.corners, sizes)]
    left, top, w, h = np.array(places).T
    t = np.linspace(0, 1, 9)
    for (i, j), path in zip(edges, plan.paths):
        assert path[0] == pytest.approx((left[i] + w[i] / 2, top[i] + h[i]))
        assert left[j] < path[-1][0] < left[j] + w[j]
        assert path[-1][1] == top[j]
        (x, y), (a, b) = np.array(path)[:-1].T[..., None], np.array(path)[1:].T[..., None]
        assert np.all(y <= b)
        # the cubic that svg.curve draws: its handles stand half-way down, above one another's ends
        x, y = (p[..., None] for p in (x + (a - x) * t * t * (3 - 2 * t), y + (b - y) * (1.5 * t * (1 - t) + t**3)))
        crossed = (left + 0.5 < x) & (x < left + w - 0.5) & (top + 0.5 < y) & (y < top + h - 0.5)
        assert not np.any(crossed), "an edge crosses a box"


def test_inputs_of_a_tree_stand_from_left_to_right():
    a, b, c, d = (Tensor(float(i)) for i in range(4))
    places = {texts[0]: place[0] for _, place, texts in boxes_in(draw((d - a) / (c**b), a=a, b=b, c=c, d=d))}
    assert places["d"] < places["a"] < places["c"] < places["b"]
    assert places["np.subtract"] < places["np.power"]


def test_sweeps_take_crossings_away(monkeypatch):
    graphs = []
    for seed in range(12):
        made = random_loss(seed)
        if made is not None:
            boxes, edges = contents_of(made[0], {}, {})
            row = layout.rows_of(len(boxes), edges)
            _, links = layout.bends(row, edges)
            graphs.append(([[i for i, r in enumerate(row) if r == k] for k in range(max(row) + 1)], links, len(row)))

    def crossed():
        return [count_crossings(layout.ordered([list(items) for items in rows], links, n), links) for rows, links, n in graphs]

    after = crossed()
    monkeypatch.setattr(layout, "SWEEPS", 0)
    before = crossed()
    assert all(now <= then for now, then in zip(after, before))
    assert sum(after) < 0.8 * sum(before)


def count_crossings(rows, links):
    """Pair by pair."""
    place = {i: (r, k) for r, items in enumerate(rows) for k, i in enumerate(items)}
    ends = [(*place[a], place[b][1]) for a, b in links]
    return sum(r == r2 and a < a2 and b > b2 for r, a, b in ends for r2, a2, b2 in ends)


def test_many_inputs_arrive_on_the_top_of_their_box():
    plan = layout.layout([(40.0, 20.0)] * 31, [(i, 30) for i in range(30)])
    ends = [path[-1][0] - plan.corners[30][0] for path in plan.paths]
    assert 0 < min(ends) < max(ends) < 40
    assert len({round(end, 6) for end in ends}) == 30


@settings(max_examples=50)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_rising_is_the_nearest_sequence_that_never_falls(wish, seed):
    rng = np.random.default_rng(seed)
    wish, weight = np.array(wish), rng.uniform(0.5, 2, len(wish))
    best = layout.rising(wish, weight)
    assert np.all(np.diff(best) >= 0)
    for _ in range(50):
        other = np.sort(best + rng.normal(size=len(wish)) * 10 ** rng.uniform(-4, 0))
        assert np.sum(weight * (best - wish) ** 2) <= np.sum(weight * (other - wish) ** 2) + 1e-9


def test_the_longest_chain_and_a_weight_that_all_of_it_uses():
    w = Tensor(0.5)
    x = w
    for _ in range(MOST - 1):
        x = x * w
    places = [place for _, place, _ in boxes_in(draw(x))]
    assert len(places) == MOST
    assert_apart(places)


def test_names_are_escaped_cut_and_cleaned():
    w = Tensor(1.0)
    for name in ("<&\"'>", "a\x00\x1b\ud800\ufffe b", "x" * 100, "blocks.11.attention.very_long_name_of_a.weight", "重み"):
        title = next(texts[0] for _, _, texts in boxes_in(draw(np.exp(w), {name: w})))
        assert title == cut(name)
        assert 0 < len(title) <= contents.LONGEST
    assert cut("<&\"'>") == "<&\"'>"
    assert cut("blocks.11.attention.very_long_name_of_a.weight").endswith("very_long_name_of_a.weight")


def test_both_colour_schemes_style_every_class_and_leave_the_page_alone():
    style = ET.fromstring(draw(Tensor(1.0))).find(SVG + "style").text
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for kind in ("page", "edge", "tip", "dim", "grad", "result", "variable", "constant", "loss"):
        assert f".tn-graph .{kind} {{" in light
        assert f".tn-graph .{kind} {{" in dark
    selectors = re.findall(r"([^{}]+){[^{}]*}", light + dark.strip()[1:-1])
    assert all(selector.strip().startswith(".tn-graph ") for selector in selectors)


def test_a_notebook_and_a_file_get_the_same_text(tmp_path):
    drawing = draw(neuron()[0])
    assert drawing._repr_svg_() == drawing
    assert repr(drawing).startswith("Drawing(")
    drawing.save(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == drawing
    with pytest.raises(ValueError, match=r"save: the file is 'graph\.png', expected a name that ends in \.svg"):
        drawing.save(tmp_path / "graph.png")
    with pytest.raises(
        FileNotFoundError, match=r"^save: .*graph\.svg cannot be written: No such file or directory; make the folder first$"
    ):
        drawing.save(tmp_path / "missing" / "graph.svg")
    with pytest.raises(OSError, match=r"^save: .*a\.svg cannot be written: .*; name another file$"):
        (tmp_path / "a.svg").mkdir()
        drawing.save(tmp_path / "a.svg")


# --- errors -------------------------------------------------------------------------------------------


def test_bad_input_is_one_line_that_says_what_to_do():
    w = Tensor(np.ones(3))
    for loss in (np.ones(()), 1.0, None, lambda: 2.0):
        with pytest.raises(TypeError, match=r"draw: loss is .*expected a Tensor, or a function that returns one"):
            draw(loss)
    with pytest.raises(ValueError, match=r"draw: loss has shape \(3,\), expected one number; use loss\.sum\(\)"):
        draw(w * 2)
    loss = np.sum(w * w)
    gradients(loss, w)
    with pytest.raises(RuntimeError, match=r"draw: the graph was freed by an earlier walk; draw before gradients"):
        draw(loss)
    x = w
    for _ in range(MOST - 1):
        x = np.sin(x)
    with pytest.raises(ValueError, match=rf"draw: the graph has more than {MOST} nodes"):
        draw(np.sum(x))
    loss = np.sum(w * w)
    with pytest.raises(TypeError, match=r"draw: params is Tensor \(3,\) float64, expected a dict or list of Tensors; write w=w"):
        draw(loss, w)
    with pytest.raises(TypeError, match=r"draw: params is Linear .*tn\.parameters\(model\)"):
        draw(loss, nn.Linear(1, 1, rng=np.random.default_rng(0)))
    with pytest.raises(TypeError, match=r"draw: lr is float 0\.1, expected a Tensor or an array to be named"):
        draw(loss, w=w, lr=0.1)


def test_a_stale_graph_is_refused():
    w = Tensor(np.ones(3))
    optimizer, loss = optim.SGD([w], lr=0.1), np.sum(w * w)
    optimizer.step([np.ones(3)])
    with pytest.raises(RuntimeError, match="stale graph"):
        draw(loss)

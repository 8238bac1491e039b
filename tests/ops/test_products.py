"""Products: NumPy's values in every spelling, and gradients by adjoint identities.

A product is linear in each operand, so its gradient needs no differences: for every
direction u, <g, product(.., u, ..)> = <gradient, u>, to rounding.
"""

import math
import string
import warnings

from tinygrad_notes import Tensor, gradients
from tinygrad_notes.ops.contractions import plan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


def check_linear(product, *arrays, rng=None):
    """The value of `product` is NumPy's, and each gradient is the adjoint of the product as a function of that operand."""
    rng = rng or np.random.default_rng(0)
    tensors = [Tensor(x) for x in arrays]
    y, expected = product(*tensors), product(*arrays)
    assert isinstance(y, Tensor) and y.shape == np.shape(expected)
    np.testing.assert_allclose(y.value, expected, rtol=1e-12, atol=1e-12)
    g = rng.normal(size=y.shape)
    for i, gradient in enumerate(gradients(np.sum(y * g), tensors)):
        u = rng.normal(size=arrays[i].shape)
        along = product(*arrays[:i], u, *arrays[i + 1 :])
        assert gradient.shape == u.shape
        np.testing.assert_allclose(np.sum(gradient * u), np.sum(g * along), rtol=1e-10, atol=1e-10)


# --- matmul ------------------------------------------------------------------------------------

RANKS = [(4,), (3, 4), (2, 3, 4), (5, 1, 3, 4)]


@pytest.mark.parametrize("a", RANKS)
@pytest.mark.parametrize("b", [(4,), (4, 2), (2, 4, 2), (1, 2, 4, 2)])
def test_matmul_of_every_pair_of_ranks(a, b):
    rng = np.random.default_rng(1)
    check_linear(lambda x, w: x @ w, rng.normal(size=a), rng.normal(size=b))


@pytest.mark.parametrize(("a", "b"), [((2, 3, 4, 5), (5, 6)), ((6, 5), (2, 3, 5, 4)), ((2, 3, 5), (5,)), ((5,), (2, 5, 3))])
def test_a_shared_factor_gets_its_gradient_from_one_product(a, b, monkeypatch):
    """No batch of products that is summed afterwards."""
    rng = np.random.default_rng(2)
    x, w = Tensor(rng.normal(size=a)), Tensor(rng.normal(size=b))
    shared = w if len(b) < len(a) else x
    loss = np.sum(np.square(x @ w))
    made = []

    def keep(function):
        return lambda *args, **kwargs: made.append(function(*args, **kwargs)) or made[-1]

    monkeypatch.setattr(np, "matmul", keep(np.matmul))
    monkeypatch.setattr(np, "tensordot", keep(np.tensordot))
    gradient = gradients(loss, shared)
    (product,) = made
    assert product.size == gradient.size


def test_rows_times_a_matrix_are_one_product(monkeypatch):
    shapes, matmul = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b: shapes.append((a.shape, b.shape)) or matmul(a, b))
    x, w = np.ones((2, 3, 4, 5)), Tensor(np.ones((5, 6)))
    assert (x @ w).shape == (2, 3, 4, 6)
    assert shapes == [((24, 5), (5, 6))]


def test_matmul_with_numbers_and_wrong_shapes():
    x = Tensor(np.ones((2, 3)))
    for other in (2.0, np.ones(2), np.ones((2, 2)), np.ones((4, 2, 2))):
        with pytest.raises(ValueError):
            x @ other
    assert ([[1.0, 2.0]] @ x).shape == (1, 3)


# --- einsum ------------------------------------------------------------------------------------


@st.composite
def expressions(draw):
    """An einsum of one to four operands: repeated labels, lengths 1 that broadcast, ellipses of different depth."""
    labels = string.ascii_lowercase[: draw(st.integers(1, 4))]
    sizes = {n: draw(st.integers(0, 3) if draw(st.booleans()) else st.integers(1, 3)) for n in labels}
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    terms, shapes = [], []
    for _ in range(draw(st.integers(1, 4))):
        term = draw(st.lists(st.sampled_from(labels), max_size=3))
        lengths = {n: draw(st.sampled_from([1, sizes[n]])) if term.count(n) == 1 else sizes[n] for n in term}
        shape = [lengths[n] for n in term]
        if draw(st.booleans()):
            depth, at = draw(st.integers(0, len(batch))), draw(st.integers(0, len(term)))
            shape[at:at] = [draw(st.sampled_from([1, n])) for n in batch[len(batch) - depth :]]
            term.insert(at, "...")
        terms.append("".join(term))
        shapes.append(tuple(shape))
    subscripts = ",".join(terms)
    if draw(st.booleans()):
        used = sorted(set(subscripts) - set(".,"))
        output = draw(st.permutations(used))[: draw(st.integers(0, len(used)))] if used else []
        if "..." in subscripts:
            output.insert(draw(st.integers(0, len(output))), "...")
        subscripts += "->" + "".join(output)
    return subscripts, shapes, draw(st.sampled_from([False, True, "optimal"]))


@given(expressions(), st.integers(0, 1000))
def test_einsum(expression, seed):
    subscripts, shapes, optimize = expression
    rng = np.random.default_rng(seed)
    check_linear(lambda *xs: np.einsum(subscripts, *xs, optimize=optimize), *(rng.normal(size=s) for s in shapes), rng=rng)


def test_einsum_with_lists_of_labels():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    for spelled in ([a, [0, 1], b, [1, 2]], [a, [7, 3], b, [3, 50]], [a, [1, 0], b, [0, 2], [2, 1]], [a, [..., 1], b, [1, 0], [0, ...]]):
        x, w = Tensor(a), Tensor(b)
        y = np.einsum(x, spelled[1], w, *spelled[3:])
        np.testing.assert_allclose(y.value, np.einsum(*spelled), rtol=1e-13)
    check_linear(lambda x: np.einsum(x, [0, 0]), rng.normal(size=(3, 3)))


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,jk->ik", [(2, 2)]),
        ("ij,jk->ik", [(2, 3), (2, 3)]),
        ("ii", [(2, 3)]),
        ("ij->ik", [(2, 3)]),
        ("ij->ii", [(2, 3)]),
        ("ij", [(2,)]),
        ("...i->i", [(2, 3)]),
        ("i.->i", [(2, 3)]),
        ("ij->i->j", [(2, 3)]),
    ],
)
def test_einsum_refuses_what_numpy_refuses(subscripts, shapes):
    for wrap in (np.array, Tensor):
        with pytest.raises(ValueError):
            np.einsum(subscripts, *(wrap(np.ones(s)) for s in shapes))


def test_einsum_of_many_operands_contracts_pairs():
    """Three matrices in a row cost two matrix products, not one loop over all four labels."""
    steps = plan("ij,jk,kl->il", ((10, 20), (20, 30), (30, 5)), False)
    assert [labels for _, labels in steps] == [("jk", "kl", "jl"), ("ij", "jl", "il")] or [set("".join(labels)) for _, labels in steps] == [
        set("jkl"),
        set("ijl"),
    ]
    assert plan("bij,bjk->bik", ((2, 3, 4), (2, 4, 5)), False) == [((0, 1), ("bij", "bjk", "bik"))]


@pytest.mark.parametrize("path", [[(0, 1, 2)], [(0, 2), (0, 1)], [(2, 0, 1)], [(0,), (0, 1), (0, 1)]])
def test_einsum_follows_a_given_path(path):
    rng = np.random.default_rng(13)
    check_linear(
        lambda *xs: np.einsum("ij,jk,kl->il", *xs, optimize=["einsum_path", *path]), *(rng.normal(size=s) for s in ((2, 3), (3, 2), (2, 4)))
    )


def test_einsum_keywords():
    x = Tensor(np.ones((2, 3), np.float32))
    assert np.einsum("ij->j", x, dtype=np.float64).dtype == np.float64
    assert np.einsum("ij->j", x, order="F", casting="same_kind", out=None).dtype == np.float32
    with pytest.raises(TypeError, match="out="):
        np.einsum("ij->j", x, out=np.empty(3))
    assert np.einsum_path("ij,jk", x, x.T)[0] == ["einsum_path", (0, 1)]


def test_a_diagonal_by_einsum_has_a_gradient_on_the_diagonal():
    x = Tensor(np.arange(8.0).reshape(2, 2, 2))
    g = gradients(np.sum(np.einsum("iii->i", x) * np.array([3.0, 5.0])), x)
    expected = np.zeros((2, 2, 2))
    expected[0, 0, 0], expected[1, 1, 1] = 3, 5
    np.testing.assert_array_equal(g, expected)


# --- dot, inner, outer, tensordot, kron ------------------------------------------------------------


@pytest.mark.parametrize("name", ["dot", "inner", "outer", "kron"])
@pytest.mark.parametrize("a", [(), (2,), (3, 2), (2, 3, 2), (2, 1, 3, 2)])
@pytest.mark.parametrize("b", [(), (2,), (2, 2), (3, 2, 2)])
def test_products_of_every_pair_of_ranks(name, a, b):
    rng = np.random.default_rng(4)
    check_linear(getattr(np, name), rng.normal(size=a), rng.normal(size=b))


@given(st.data())
def test_tensordot(data):
    a, b = (data.draw(st.lists(st.integers(1, 3), max_size=3), label="shape") for _ in range(2))
    of_a = data.draw(st.permutations(range(len(a)))) if a else []
    pairs = [(i, j) for i, j in zip(of_a, range(len(b))) if data.draw(st.booleans())]
    for i, j in pairs:
        b[j] = a[i]
    axes = [[i - len(a) if data.draw(st.booleans()) else i for i, _ in pairs], [j for _, j in pairs]]
    rng = np.random.default_rng(5)
    check_linear(lambda x, y: np.tensordot(x, y, axes=axes), rng.normal(size=a), rng.normal(size=b))


def test_tensordot_says_what_does_not_fit():
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"pair lengths \[3\] with \[2\]"):
        np.tensordot(x, x, axes=1)
    with pytest.raises(ValueError, match="pair lengths"):
        np.tensordot(x, x, axes=([0, 1], [0]))


def test_vdot_flattens():
    rng = np.random.default_rng(6)
    check_linear(np.vdot, rng.normal(size=(2, 3)), rng.normal(size=(3, 2)))


# --- stacks of vectors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "a", "b"), [("vecdot", (2, 1, 3), (4, 3)), ("matvec", (4, 1, 2, 3), (5, 3)), ("vecmat", (5, 2), (4, 1, 2, 3))]
)
def test_products_of_stacks(name, a, b):
    if not hasattr(np, name):
        pytest.skip(f"this NumPy has no {name}")
    rng = np.random.default_rng(7)
    check_linear(getattr(np, name), rng.normal(size=a), rng.normal(size=b))


def test_cross_is_orthogonal_and_a_plane_is_the_third_component():
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(2, 4, 3))
    y = np.cross(Tensor(a), Tensor(b))
    np.testing.assert_allclose([np.sum(a * y.value, -1), np.sum(b * y.value, -1)], 0, atol=1e-14)
    old = np.lib.NumpyVersion(np.__version__) < "2.5.0"  # NumPy had vectors of two elements until then
    for m, n in ((2, 2), (2, 3), (3, 2)) if old else ():
        y = np.cross(Tensor(a[:, :m]), b[:, :n])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy has deprecated vectors of two elements
            np.testing.assert_allclose(y.value, np.cross(a[:, :m], b[:, :n]), rtol=1e-14)
    with pytest.raises(ValueError, match="expected 3"):
        np.cross(Tensor(np.ones(4)), np.ones(4))


def test_numpy_linalg_has_the_same_products():
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 2))
    check_linear(np.linalg.matmul, a, b)
    check_linear(lambda x, y: np.linalg.tensordot(x, y, axes=1), a, b)
    check_linear(lambda x: np.linalg.trace(x, offset=-1), a)
    check_linear(lambda x: np.linalg.diagonal(x, offset=1), a)
    check_linear(np.linalg.matrix_transpose, a)
    check_linear(np.linalg.outer, a[0, 0], b[0])
    check_linear(np.linalg.vecdot, a, a[0])
    check_linear(lambda x, y: np.linalg.cross(x, y, axis=1), a, a + 1)
    for wrong in (lambda: np.linalg.outer(Tensor(a), b), lambda: np.linalg.cross(Tensor(a), a)):
        with pytest.raises(ValueError, match="expected"):
            wrong()


@pytest.mark.parametrize("offset", [-4, -1, 0, 2, 7])
def test_trace(offset):
    x = np.random.default_rng(10).normal(size=(3, 2, 4))
    check_linear(lambda t: np.trace(t, offset, 1, -1), x)
    check_linear(lambda t: t.trace(offset), x)


# --- float32, and second order -----------------------------------------------------------------------


def test_float32_stays_at_every_order():
    rng = np.random.default_rng(11)
    a, b = (Tensor(rng.normal(size=s).astype(np.float32)) for s in ((2, 3, 3), (3, 3)))
    for product in (
        lambda: a @ b,
        lambda: np.einsum("bij,jj->i", a, b),
        lambda: np.einsum("bij,bij->", a, a),
        lambda: np.tensordot(a, b, 1),
        lambda: np.kron(b, b),
        lambda: np.cross(a, b),
        lambda: np.trace(a @ b, axis1=1, axis2=2),
    ):
        y = product()
        first = gradients(np.sum(y * y), [a, b], create_graph=True)
        second = gradients(sum(np.sum(g * g) for g in first), [a, b])
        assert {x.dtype for x in (y, *first, *second)} == {np.dtype(np.float32)}


def test_the_hessian_of_a_quadratic_form():
    """d2/dx2 of x.T A x is A + A.T, however the form is written."""
    a = np.random.default_rng(12).normal(size=(3, 3))
    forms = [
        lambda x: x @ a @ x,
        lambda x: np.einsum("i,ij,j", x, a, x),
        lambda x: np.dot(x, np.dot(a, x)),
        lambda x: np.inner(x, np.tensordot(a, x, 1)),
        lambda x: np.sum(np.outer(x, x) * a),
        lambda x: np.vdot(np.kron(x, x), a),
        lambda x: np.trace(np.linalg.multi_dot([a, x[:, None], x[None]])),
    ]
    for form in forms:
        x = Tensor(np.array([0.3, -1.0, 2.0]))
        (g,) = gradients(form(x), [x], create_graph=True)
        rows = [gradients(g[i], x, retain_graph=True) for i in range(3)]
        np.testing.assert_allclose(rows, a + a.T, rtol=1e-12, atol=1e-12)


def test_no_operand_is_large_in_a_long_einsum():
    """A chain over a long shared axis never makes the outer product of everything."""
    sizes = {"a": 50, "b": 50, "c": 50, "d": 50}
    steps = plan("ab,bc,cd,d->a", tuple(tuple(sizes[n] for n in t) for t in ("ab", "bc", "cd", "d")), False)
    assert max(math.prod(sizes[n] for n in labels[-1]) for _, labels in steps) <= 2500


@pytest.mark.parametrize("weights", [{"fweights": [1]}, {"aweights": [0.5]}])
def test_one_weight_for_all_samples_is_rejected(weights):
    for x in (np.ones((2, 3)), Tensor(np.ones((2, 3)))):
        with pytest.raises(RuntimeError, match="samples"):
            np.cov(x, **weights)

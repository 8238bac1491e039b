"""Differences: how to learn a slope from values alone, and how far it may be from the truth.

RUNNING TIME: 3 seconds (--quick: 2 seconds)

What every gradient is held against. You will see why a smaller step is not a better one; how Richardson's extrapolation (1911) turns ten good
digits into fourteen and tells how many are good, so that nobody has to choose a tolerance; and what differences say where there is no slope.

After it: walkthroughs/engine/gradcheck.py, where seven projects' checks and ours meet wrong gradients.

    python -m walkthroughs engine/differences             the whole story
    python -m walkthroughs engine/differences --quick     fewer slopes
"""

# %% Settings
import time

import tinygrad_notes as tn
from tinygrad_notes import check
from tinygrad_notes import functional as F
from walkthroughs.engine import _curves as curves
from walkthroughs.options import options_of, parser_for

import numpy as np

options = options_of(parser_for("engine/differences", __doc__))
QUICK = options.quick
EPS, EPS32 = check.EPS, check.EPS32  # the distance of 1 to the next number: 2.2e-16, 1.2e-7
rng = np.random.default_rng(options.seed)
began = time.process_time()

# %% The idea by hand
# y = W x and L = (y . y) / 2, so that dL/dW[i, j] = y[i] x[j]. At W = 1 and x = (1, 2, 3) that is the outer product of x with itself.
# Differences know nothing of this: they move one weight by h, up and down, and see what L does.
W, x = np.eye(3), np.array([1.0, 2.0, 3.0])
loss = lambda W: np.sum((W @ x) ** 2) / 2


def moved(i, j, h):
    """W with h added to one element."""
    other = W.copy()
    other[i, j] += h
    return other


central = np.array([[(loss(moved(i, j, 0.5)) - loss(moved(i, j, -0.5))) / (2 * 0.5) for j in range(3)] for i in range(3)])
forward = np.array([[(loss(moved(i, j, 0.5)) - loss(W)) / 0.5 for j in range(3)] for i in range(3)])
print(f"gradient of the engine\n{tn.grad(loss)(W)}\ncentral differences, h = 0.5\n{central}\nforward differences, h = 0.5\n{forward}")
print("central differences are exact for a parabola, whatever h; forward ones are off by h/2 times the curvature\n")
assert np.allclose(central, np.outer(x, x)) and np.allclose(forward - central, 0.5 / 2 * x * x)

# %% How small a step?
# Taylor: (f(x+h) - f(x-h)) / 2h = f' + h^2/6 f''' + ...; and each f is known to one rounding, eps |f| / 2, which the division by h makes
# larger. So the error is about h^2/6 |f'''| + eps |f| / 2h: a U, and its lowest point is where the derivative by h is zero,
#     h* = (3/2 eps |f| / |f'''|)^(1/3), about eps^(1/3) = 6e-6, with an error of about eps^(2/3) = 4e-11.
# Forward differences have h/2 |f''| and so the step eps^(1/2) and half the digits. The complex step, Im f(x + ih) / h, subtracts nothing
# and has no left arm at all, if f is analytic and written so that it takes complex numbers.
f = lambda x: np.exp(np.sin(3 * x))
slope = lambda x: 3 * np.cos(3 * x) * f(x)
third = lambda x: 27 * np.cos(3 * x) * (np.cos(3 * x) ** 2 - 3 * np.sin(3 * x) - 1) * f(x)
points, hs = rng.uniform(1, 2, 200), 10.0 ** np.arange(-15, 0.01, 0.25)
at_1e8 = int(np.argmin(np.abs(hs - 1e-8)))


def errors(difference):
    """The median error over the points, for each step."""
    return np.array([np.median(np.abs(difference(points, h) - slope(points))) for h in hs])


def in_float32(x, h):
    x, h = x.astype(np.float32), np.float32(h)
    return (f(x + h) - f(x - h)) / (2 * h)


with np.errstate(all="ignore"):
    measured = {
        "forward": errors(lambda x, h: (f(x + h) - f(x)) / h),
        "central": errors(lambda x, h: (f(x + h) - f(x - h)) / (2 * h)),
        "complex step": errors(lambda x, h: f(x + 1j * h).imag / h),
        "central, float32": errors(in_float32),
    }
theory = hs**2 / 6 * np.median(np.abs(third(points))) + EPS * np.median(f(points)) / (2 * hs)
best = {name: hs[np.nanargmin(e)] for name, e in measured.items()}
print("difference           step of least error      theory        error there   at h = 1e-8")
for name, expected in {"forward": EPS**0.5, "central": EPS ** (1 / 3), "central, float32": EPS32 ** (1 / 3)}.items():
    e = measured[name]
    print(f"    {name:17} {best[name]:12.0e}  {expected:18.0e} {np.nanmin(e):18.0e} {e[at_1e8]:13.0e}")
    assert 1 / 10 < best[name] / expected < 10
print(f"    complex step      any below 1e-8           none {measured['complex step'][0]:19.0e} {measured['complex step'][at_1e8]:13.0e}")
arms = {"right": (hs >= 1e-4) & (hs <= 1e-2), "left": (hs >= 1e-12) & (hs <= 1e-8)}
arms = {name: np.polyfit(np.log(hs[part]), np.log(measured["central"][part]), 1)[0] for name, part in arms.items()}
print(f"central differences: the right arm rises as h^{arms['right']:.2f} (theory 2), the left one as h^{arms['left']:.2f} (theory -1)\n")
assert abs(arms["right"] - 2) < 0.1 and abs(arms["left"] + 1) < 0.15
assert measured["complex step"][0] < 1e-15 and np.nanmin(measured["central"]) < 1e-9

# %% Richardson's extrapolation
# Central differences err in even powers only: D(h) = f' + c2 h^2 + c4 h^4 + ... Half the step: D(h/2) = f' + c2 h^2/4 + c4 h^4/16 + ...
# Four times the second less the first has no c2 any more: T1 = (4 D(h/2) - D(h)) / 3 = f' + O(h^4). Two such, 16 T1(h/2) - T1(h) over 15,
# have no c4, and so on: T[i][j] = T[i][j-1] + (T[i][j-1] - T[i-1][j-1]) / (4^j - 1). Five levels from h = 1/16 never use a step below
# 1/256, so rounding hardly matters, and the error is that of h^10.


def table(f, h, levels=5):
    """T[i][j]: row i begins with the central difference of step h / 2^i, column j has extrapolated j times."""
    T = []
    for i in range(levels):
        T.append([(f(h / 2**i) - f(-h / 2**i)) / (2 * h / 2**i)])
        for j in range(1, i + 1):
            T[i].append(T[i][j - 1] + (T[i][j - 1] - T[i - 1][j - 1]) / (4**j - 1))
    return T


T = table(lambda h: f(1.1 + h), 1 / 16)
print("Richardson's table for exp(sin 3x) at 1.1: errors, by step (down) and number of extrapolations (right)")
for i, row in enumerate(T):
    print(f"    h = 1/{16 * 2**i:<4} " + "".join(f"{abs(t - slope(1.1)):10.0e}" for t in row))
steps = 2.0 ** np.arange(-1, -13, -1)
columns = {
    j: [float(np.median([abs(table(lambda t, x=x: f(x + t), h * 2**j, j + 1)[j][j] - slope(x)) for x in points[:50]])) for h in steps]
    for j in range(5)
}
orders = [float(np.log2(columns[j][4] / columns[j][5])) for j in columns]
print("order of the error, from h = 1/32 to 1/64 (theory 2, 4, 6, 8, 10): " + ", ".join(f"{order:.1f}" for order in orders))
last = abs(T[4][4] - slope(1.1))
print(f"the last element is good to {last:.0e}, the best single difference to {np.nanmin(measured['central']):.0e}\n")
assert all(abs(order - 2 * j - 2) < 0.5 for j, order in enumerate(orders[:3]))
assert last < 1e-11 and last < np.nanmin(measured["central"])

# %% A tolerance that nobody sets
# How far may a gradient be from the difference? `allclose` with 1e-5 and 1e-3 is a guess. The table knows: what the last extrapolation
# still changed is a bound of what is left (the error falls by 4^j from column to column), and rounding is known from the size of f.
#     bound = 8 (|T44 - T33| + 64 eps (|f| + |x T44|) / h_min)
# check.derivative returns both. Tried here on functions whose slope is known and that are scaled by 1e-8 to 1e8, against fixed tolerances.
known = [
    (np.exp, np.exp),
    (np.sin, np.cos),
    (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    (np.log, lambda x: 1 / x),
    (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    (lambda x: x**5, lambda x: 5 * x**4),
    (lambda x: 1 / x, lambda x: -1 / x**2),
    (f, slope),
]
found = []
for _ in range(100 if QUICK else 1000):
    (g, exact), x0, scale = known[rng.integers(len(known))], rng.uniform(0.5, 2), 10 ** rng.uniform(-8, 8)
    by_table, bound = check.derivative(lambda t, g=g, x0=x0, c=scale: c * float(g(x0 + t)), 1 / 16, scale * abs(float(g(x0))), x0)
    plain = scale * (g(x0 + 1e-6) - g(x0 - 1e-6)) / 2e-6
    found.append((scale * exact(x0), by_table, bound, plain))
exact, by_table, bound, plain = np.array(found).T
print(
    f"{len(found)} slopes between {np.abs(exact).min():.0e} and {np.abs(exact).max():.0e}          right ones refused   factor 2 passes   1 + 1e-4 passes"
)
rows = {
    "h = 1e-6, rtol 1e-3, atol 1e-5 (PyTorch's)": (plain, 1e-5 + 1e-3 * np.abs(plain)),
    "h = 1e-6, atol 1e-8": (plain, 1e-8),
    "Richardson, its own bound": (by_table, bound),
}
shares = {}
for name, (estimate, tolerance) in rows.items():
    shares[name] = [float(np.mean(np.abs(exact - estimate) > tolerance))]
    shares[name] += [float(np.mean(np.abs(c * exact - estimate) <= tolerance)) for c in (2, 1 + 1e-4)]
    print(f"    {name:43} " + "".join(f"{share:18.1%}" for share in shares[name]))
print(
    f"the bound is {np.median(bound / np.abs(exact)):.0e} of the slope (median), the true error {np.median(np.abs(by_table - exact) / np.abs(exact)):.0e}\n"
)
assert shares["Richardson, its own bound"] == [0, 0, 0]
assert shares["h = 1e-6, rtol 1e-3, atol 1e-5 (PyTorch's)"][1] > 0.1 and shares["h = 1e-6, atol 1e-8"][0] > 0.1

# %% Kinks
# At a kink there is no derivative. Central differences say the mean of the two slopes; an engine must say something, and what it says is a
# promise that no difference can check. Ours (docs/design.md): ties share evenly, so that the gradients of a tie sum to g; relu'(0) = 0.
kinks = {
    "relu at 0": (F.relu, [0.0], [0.0]),
    "|x| at 0": (np.abs, [0.0], [0.0]),
    "max of (1, 1)": (np.max, [1.0, 1.0], [1 / 2, 1 / 2]),
    "max of (1, 1, 1)": (np.max, [1.0, 1.0, 1.0], [1 / 3, 1 / 3, 1 / 3]),
    "maximum(x, 0) at 0": (lambda x: np.maximum(x, 0), [0.0], [1 / 2]),
    "clip(x, 0, 1) at 0": (lambda x: np.clip(x, 0, 1), [0.0], [1.0]),
    "norm of (0, 0)": (np.linalg.norm, [0.0, 0.0], [0.0, 0.0]),
}
print("at a kink                differences say             the engine says")
for name, (op, at, promise) in kinks.items():
    at = np.array(at)
    said, _ = check.differences(lambda op=op, at=at: float(np.sum(op(at))), at, 1 / 16, 1.0)
    engine = tn.grad(lambda x, op=op: np.sum(op(x)))(at)
    print(f"    {name:20} {np.array2string(said, precision=3):27} {np.array2string(engine, precision=3)}")
    assert np.array_equal(engine, promise)
print("three equal numbers: differences add up to 3/2, for a maximum that moves by h if all three do\n")

# %% Common mistakes
# "The smaller h, the better: 1e-8." Measured above: a few hundred times worse than 6e-6, and in float32 no number moves at all.
moves = np.mean(points.astype(np.float32) + np.float32(1e-8) != points.astype(np.float32))
print(f"float32 numbers between 1 and 2 that change when 1e-8 is added: {moves:.0%}")
assert moves == 0 and measured["central"][at_1e8] > 50 * np.nanmin(measured["central"])

# "We train in float32, so we check in float32." Then no error below 1e-5 can be seen, however well the step is chosen; check_grads takes its
# differences in float64 and compares the float32 gradient with the float64 one.
# And the complex step, of a function that is not analytic: |x + ih| is a real number, so that its imaginary part is 0, and so is the "slope".
of_abs = np.abs(2.0 + 1e-20j).imag / 1e-20
print(f"the complex step of |x| at 2 says {of_abs:.0f}; the slope is 1")
assert of_abs == 0

# %% Figures
if not options.no_plots:
    curves.differences(options.out / "differences.png", hs, measured, theory, EPS, steps, columns, np.abs(by_table - exact), bound)
    print(f"\npicture: {options.out}/differences.png")

# %% Exercises
# 1. The second derivative by (f(x+h) - 2 f(x) + f(x-h)) / h^2: which step is best, and how good is it there? Draw the U.
# 2. Extrapolate forward differences, which err in all powers of h. With which factors? What is the order after one extrapolation?
# 3. How good can central differences be in float32, at best?
# 4. Why is Richardson's smallest step 1/256 and not 1e-6, though 1e-6 is the best step of a single difference?
#
# Answers
# 1. h^2/12 f'''' against 2 eps |f| / h^2: h* is about eps^(1/4) = 1e-4 and the error there about eps^(1/2) = 1e-8; here 6e-5 and 4e-8.
# 2. 2 D(h/2) - D(h) has no h any more: the order is 2. Then (4 T(h/2) - T(h)) / 3, then (8 T(h/2) - T(h)) / 7: 2^j in the place of 4^j.
# 3. The step is about eps^(1/3) = 5e-3, and the error there about eps^(2/3) = 2e-5: four or five digits.
# 4. Extrapolation has removed what a larger step costs, h^2 to h^8. What is left is rounding, eps |f| / 2h, and that asks for a large step.
print(f"\nall of it took {time.process_time() - began:.0f} s of processor time; results are in {options.out}/")

"""The models as one plain program each, over a dict of weights, for the engines that differentiate such programs.

`np` is the engine's NumPy: numpy itself (with Tensors), autograd.numpy, jax.numpy or mygrad. What
the engines do not share (a convolution, the way to take gradients) is in their own files. Constants
are float32 because MyGrad takes a Python number for a float64.
"""

import math

from benchmarks import workloads

from numpy import float32 as f32

ONE, HALF = f32(1), f32(0.5)


def mean_squared(np, x):
    return np.sum(x * x) / f32(x.size)


def sigmoid(np, x):
    return ONE / (ONE + np.exp(-x))


def silu(np, x):
    return x * sigmoid(np, x)


def gelu(np, x):
    return HALF * x * (ONE + np.tanh(f32(math.sqrt(2 / math.pi)) * (x + f32(0.044715) * (x * x * x))))


def linear(np, p, name, x):
    return x @ np.transpose(p[name + ".weight"]) + p[name + ".bias"]


def standardise(np, x, axis):
    n = f32(math.prod(x.shape[a] for a in axis))
    centred = x - np.sum(x, axis=axis, keepdims=True) / n
    return centred / np.sqrt(np.sum(centred * centred, axis=axis, keepdims=True) / n + f32(workloads.EPS))


def layer_norm(np, p, name, x):
    return standardise(np, x, (-1,)) * p[name + ".weight"] + p[name + ".bias"]


def group_norm(np, p, name, x):
    N, C, H, W = x.shape
    y = np.reshape(standardise(np, np.reshape(x, (N, workloads.GROUPS, -1)), (-1,)), (N, C, H, W))
    return y * np.reshape(p[name + ".weight"], (C, 1, 1)) + np.reshape(p[name + ".bias"], (C, 1, 1))


def mlp(np, p, x, y, *, widths, activation, B):
    act = {"tanh": lambda x: np.tanh(x), "silu": lambda x: silu(np, x)}[activation]
    last = len(widths) - 2
    for i in range(last):
        x = act(linear(np, p, f"{2 * i}", x))
    return mean_squared(np, linear(np, p, f"{2 * last}", x) - y)


def attend(np, q, k, v, mask):
    """mask: added to the scores, 0 where a query may attend and -1e30 where not."""
    s = q @ np.swapaxes(k, -1, -2) * f32(1 / math.sqrt(q.shape[-1])) + mask
    e = np.exp(s - np.max(s, axis=-1, keepdims=True))
    return (e / np.sum(e, axis=-1, keepdims=True)) @ v


def attention(np, p, dy, *, T, **sizes):
    """The sum of y * dy, whose gradients are those of y with dL/dy = dy."""
    return np.sum(attend(np, p["q"], p["k"], p["v"], workloads.causal(T)) * dy)


def block(np, p, h, x, heads, mask, cache=None):
    """One layer of GPT-2. cache: from k and v of these positions to those of all so far."""
    B, T, C = x.shape
    qkv = linear(np, p, h + "attn.c_attn", layer_norm(np, p, h + "ln_1", x))
    qkv = np.transpose(np.reshape(qkv, (B, T, 3, heads, C // heads)), (2, 0, 3, 1, 4))  # (3, B, nh, T, hd)
    q, k, v = qkv[0], qkv[1], qkv[2]
    if cache is not None:
        k, v = cache(k, v)
    y = np.reshape(np.transpose(attend(np, q, k, v, mask), (0, 2, 1, 3)), (B, T, C))
    x = x + linear(np, p, h + "attn.c_proj", y)
    return x + linear(np, p, h + "mlp.c_proj", gelu(np, linear(np, p, h + "mlp.c_fc", layer_norm(np, p, h + "ln_2", x))))


def gpt(np, p, ids, targets, *, layers, heads, T, **sizes):
    x = p["wte.weight"][ids] + p["wpe.weight"][:T]
    mask = workloads.causal(T)
    for i in range(layers):
        x = block(np, p, f"h.{i}.", x, heads, mask)
    logits = layer_norm(np, p, "ln_f", x) @ np.transpose(p["wte.weight"])  # (B, T, V)
    logits = logits - np.max(logits, axis=-1, keepdims=True)
    right = np.sum(logits * workloads.one_hot(targets, logits.shape[-1]), axis=-1)
    return np.sum(np.log(np.sum(np.exp(logits), axis=-1)) - right) / f32(targets.size)


def conv(np, p, x, y, *, convolve, blocks, **sizes):
    """convolve(x, w): 3x3, padded so that height and width stay."""
    for i in range(0, 3 * blocks, 3):
        x = convolve(x, p[f"{i}.weight"]) + np.reshape(p[f"{i}.bias"], (-1, 1, 1))
        x = silu(np, group_norm(np, p, f"{i + 1}", x))
    return mean_squared(np, x - y)


def tape(np, p, *, repeats, n):
    x, a, b = p["x"], p["a"], p["b"]
    for _ in range(repeats):
        x = np.tanh(x * a + b)
    return np.sum(x)


LOSSES = {"mlp": mlp, "gpt": gpt, "conv": conv, "attention": attention, "tape": tape}


def loss(np, workload, p, batch, convolve=None):
    """The loss of any workload that is trained, as a function of the weights p."""
    extra = {"convolve": convolve} if workload.model == "conv" else {}
    return LOSSES[workload.model](np, p, **batch, **workload.sizes, **extra)

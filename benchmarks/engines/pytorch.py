"""PyTorch, eager, with its default settings; attention is its scaled_dot_product_attention."""

import ctypes
import os
import tempfile

from benchmarks import matmul
from benchmarks.workloads import ADAMW, GROUPS, Prepared

import torch
import torch.nn.functional as F
from torch import nn


def about():
    """Versions, and what MKL and oneDNN say themselves about the instructions that they use."""

    def small_products():
        with torch.backends.mkl.verbose(torch.backends.mkl.VERBOSE_ON):
            torch.ones(64, 64) @ torch.ones(64, 64)
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            F.conv2d(torch.ones(8, 16, 32, 32), torch.ones(16, 16, 3, 3))  # too small a one would not use oneDNN

    lines = printed_by(small_products).splitlines()
    mkl = [line.removeprefix("MKL_VERBOSE ") for line in lines if line.startswith("MKL_VERBOSE oneMKL")]
    onednn = [line.rpartition("isa:")[2] for line in lines if "isa:" in line]
    return {
        "PyTorch": torch.__version__,
        "MKL": mkl[0] if mkl else "unknown",
        "oneDNN": onednn[0] if onednn else "unknown",
        "matrix product of 1024 x 1024": matmul.rate(torch.tensor),
    }


def printed_by(f):
    """What f() writes to standard output, also from C."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            f()
            ctypes.CDLL(None).fflush(None)
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        file.seek(0)
        return file.read().decode()


def prepare(workload, params, batch, fused=None):
    """fused: that of torch.optim.AdamW."""
    params = {name: torch.tensor(a) for name, a in params.items()}
    batch = {name: torch.tensor(a) for name, a in batch.items()}
    if workload.model in UNTRAINED:
        return UNTRAINED[workload.model](params, batch, **workload.sizes)
    model, loss = MODELS[workload.model](batch, **workload.sizes)
    return training(model, params, loss, fused)


def arrays(named):
    return {name: t.detach().numpy() for name, t in named}


def training(model, params, loss, fused):
    model.load_state_dict(params)
    opt = torch.optim.AdamW(model.parameters(), **ADAMW, fused=fused)

    def backward():
        opt.zero_grad()
        value = loss()
        value.backward()
        return value

    def step():
        backward()
        opt.step()

    def outputs():
        value = backward().detach().numpy()
        return {"loss": value, **{name: t.grad.numpy().copy() for name, t in model.named_parameters()}}

    return Prepared(step, outputs, lambda: arrays(model.named_parameters()))


def mlp(batch, *, widths, activation, B):
    layers = []
    for n, m in zip(widths, widths[1:]):
        layers += [nn.Linear(n, m), {"tanh": nn.Tanh, "silu": nn.SiLU}[activation]()]
    model = nn.Sequential(*layers[:-1])
    return model, lambda: F.mse_loss(model(batch["x"]), batch["y"])


def conv(batch, *, blocks, channels, side, B):
    layers = []
    for _ in range(blocks):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(GROUPS, channels), nn.SiLU()]
    model = nn.Sequential(*layers)
    return model, lambda: F.mse_loss(model(batch["x"]), batch["y"])


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.c_attn, self.c_proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x, cache=None):
        B, T, C = x.shape
        q, k, v = self.c_attn(x).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache(k, v)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width), MLP(width)

    def forward(self, x, cache=None):
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary, context, layers, heads, width):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, ids, past=0, caches=None):
        x = self.wte(ids) + self.wpe(torch.arange(past, past + ids.shape[1]))
        for i, block in enumerate(self.h):
            x = block(x, caches and caches[i])
        return F.linear(self.ln_f(x), self.wte.weight)


def language(batch, *, vocabulary, layers, heads, width, T, B):
    model = GPT(vocabulary, T, layers, heads, width)
    return model, lambda: F.cross_entropy(model(batch["ids"]).flatten(0, 1), batch["targets"].flatten())


class Cache:
    """Keys and values of one layer, written into memory that was reserved."""

    def __init__(self, shape):
        self.keys, self.values, self.length = torch.empty(shape), torch.empty(shape), 0

    def __call__(self, k, v):
        start, self.length = self.length, self.length + k.shape[2]
        self.keys[:, :, start : self.length], self.values[:, :, start : self.length] = k, v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


def decode(params, batch, *, vocabulary, layers, heads, width, T, B, new, context):
    model = GPT(vocabulary, context, layers, heads, width)
    model.load_state_dict(params)

    @torch.inference_mode()
    def prompt():
        caches = [Cache((B, heads, context, width // heads)) for _ in range(layers)]
        return model(batch["ids"], 0, caches)[:, -1], caches

    @torch.inference_mode()
    def step():
        ids = batch["ids"]
        logits, caches = prompt()
        for _ in range(new):
            token = logits.argmax(-1, keepdim=True)
            ids = torch.cat([ids, token], 1)
            logits = model(token, caches[0].length, caches)[:, -1]
        return ids

    return Prepared(step, lambda: {"logits": prompt()[0].numpy(), "ids": step().numpy()}, dict)


def attention(params, batch, **sizes):
    return untrained(params, lambda p: (F.scaled_dot_product_attention(p["q"], p["k"], p["v"], is_causal=True), batch["dy"]))


def tape(params, batch, *, repeats, n):
    def forward(p):
        x = p["x"]
        for _ in range(repeats):
            x = torch.tanh(x * p["a"] + p["b"])
        return x, torch.ones(n)

    return untrained(params, forward)


def untrained(params, forward):
    """forward(p) -> y, dL/dy"""
    p = {name: t.requires_grad_() for name, t in params.items()}

    def step():
        y, dy = forward(p)
        return y, dy, torch.autograd.grad(y, list(p.values()), dy)

    def outputs():
        y, dy, grads = step()
        return {"loss": (y * dy).sum().detach().numpy(), **{name: g.numpy() for name, g in zip(p, grads)}}

    return Prepared(step, outputs, dict)


MODELS = {"mlp": mlp, "conv": conv, "gpt": language}
UNTRAINED = {"attention": attention, "tape": tape, "decode": decode}

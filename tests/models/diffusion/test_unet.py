"""The U-Net of DDPM at toy size; its published sizes; what must not depend on what."""

import tinygrad_notes as tn
from models.diffusion import ddpm, unet
from tests.models.whole_loss import check_whole_loss
from tinygrad_notes import Tensor, check, optim

import numpy as np
import pytest

RNG = np.random.default_rng
T2 = np.array([3, 500])


def tiny(dtype=np.float64, seed=0, **changes):
    """A tiny U-Net whose zero layers are not zero, so that everything has an effect."""
    model = unet.UNet(unet.Config.tiny(dtype=dtype, **changes), RNG(seed))
    rng = RNG(seed + 1)
    tn.load(model, {name: x if x.any() else rng.normal(0, 0.3, x.shape).astype(dtype) for name, x in tn.state_dict(model).items()})
    return model


def images(config, n=2, seed=5):
    return RNG(seed).normal(size=(n, config.channels, config.size, config.size)).astype(config.dtype)


def test_the_gradient_of_the_whole_loss():
    model = tiny(classes=3, multiples=(1, 2, 1), size=8, attention=(8, 2), channels=2)
    process, x0, y = ddpm.Diffusion(ddpm.cosine_betas(8)), images(model.config), np.array([0, 3])
    check_whole_loss(model, lambda: ddpm.loss(model, process, x0, RNG(2), y=y))


def test_overfits_one_batch():
    model = unet.UNet(unet.Config.tiny(width=16), RNG(0))
    process, x0 = ddpm.Diffusion(ddpm.cosine_betas(20)), images(model.config)
    params = tn.parameters(model)
    optimizer = optim.Adam(params, lr=1e-2)
    losses = []
    for _ in range(60):
        loss = ddpm.loss(model, process, x0, RNG(2))  # the same times and noise every step
        optimizer.step(tn.gradients(loss, params, unused="raise"))
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_it_starts_as_zero():
    model = unet.UNet(unet.Config.tiny(), RNG(0))
    assert not np.any(model(images(model.config), T2).value)
    block = model.down[0].resnets[0]
    x = RNG(0).normal(size=(2, 4, 4, 4)).astype(np.float32)
    assert np.array_equal(block(x, np.ones((2, 16), np.float32)).value, x)


class Weightless:
    """A generator whose arrays have a shape and no memory: for counting the parameters of large models."""

    def uniform(self, low, high, shape):
        self.shape = shape
        return self

    def astype(self, dtype):
        return np.broadcast_to(np.zeros((), dtype), self.shape)


@pytest.mark.parametrize(("config", "millions"), [(unet.Config.cifar10(), 35.7), (unet.Config.lsun256(), 114)])
def test_the_published_sizes(config, millions):
    """Appendix B of the paper: 35.7 million parameters for CIFAR10, 114 million for LSUN and CelebA-HQ."""
    count = tn.count(unet.UNet(config, Weightless()))
    assert round(count / 1e6, 1 if millions < 100 else 0) == millions


def test_the_sinusoids():
    x = unet.sinusoid(np.array([0, 1, 1000]), 8, np.float64)
    rates = 10000.0 ** (-np.arange(4) / 3)
    np.testing.assert_allclose(x[1], [*np.sin(rates), *np.cos(rates)], rtol=1e-14)
    np.testing.assert_allclose(x[2], [*np.sin(1000 * rates), *np.cos(1000 * rates)], rtol=1e-12)
    assert x[0].tolist() == [0] * 4 + [1] * 4
    assert len(np.unique(unet.sinusoid(np.arange(1, 1001), 32), axis=0)) == 1000


def test_every_example_is_by_itself_and_the_time_matters():
    model = tn.frozen(tiny(classes=3))
    x, y = images(model.config), np.array([0, 2])
    both = model(x, T2, y)
    np.testing.assert_allclose(both[1:], model(x[1:], T2[1:], y[1:]), rtol=0, atol=1e-12)
    assert np.max(np.abs(both - model(x, T2[::-1], y))) > 1e-3
    assert np.max(np.abs(both - model(x, T2, y[::-1]))) > 1e-3
    assert np.array_equal(model(x, T2), model(x, T2, np.array([3, 3])))  # no class is the last row


def test_every_pixel_sees_every_other_and_every_skip_is_used():
    model = tiny()
    x = Tensor(images(model.config, 1))
    for i, j in ((0, 0), (3, 1)):
        felt = tn.gradients(np.sum(model(x, T2[:1])[0, 0, i, j]), x)
        assert np.all(felt != 0)


def test_without_skips_the_details_are_lost():
    """The same network trained with its skips set to zero: its loss is at least half as large again (row D02)."""
    process, x0 = ddpm.Diffusion(ddpm.cosine_betas(20)), images(unet.Config.tiny(), 8)

    def trained(up):
        model = unet.UNet(unet.Config.tiny(width=8, attention=()), RNG(0))
        for level in model.up:
            level.__class__ = up
        params = tn.parameters(model)
        optimizer, rng, losses = optim.Adam(params, lr=1e-2), RNG(1), []
        for _ in range(80):
            loss = ddpm.loss(model, process, x0, rng)
            optimizer.step(tn.gradients(loss, params))
            losses.append(loss.item())
        return np.mean(losses[-20:])

    class Blind(unet.Up):
        def __call__(self, x, emb, skips, rng):
            skips[:] = [0 * skip for skip in skips]
            return super().__call__(x, emb, skips, rng)

    assert trained(Blind) > 1.5 * trained(unet.Up)


def test_blocked_and_dense_attention_give_the_same_loss():
    model = tiny(attention=(4, 2))
    process, x0 = ddpm.Diffusion(ddpm.cosine_betas(8)), images(model.config)
    blocked = ddpm.loss(model, process, x0, RNG(2)).item()
    with tn.reference():
        assert ddpm.loss(model, process, x0, RNG(2)).item() == pytest.approx(blocked, rel=1e-12)


def test_float32_throughout_and_the_shape_comments_hold():
    model = tiny(np.float32, classes=2, dropout=0.1)
    x, y = images(model.config), np.array([0, 1])
    with check.dtypes(), check.shapes(unet) as shapes:
        loss = np.mean(model(x, T2, y, rng=RNG(0)) ** 2)
        grads = tn.gradients(loss, tn.parameters(model), unused="raise")
    assert not shapes.unreached
    assert {loss.dtype, *(g.dtype for g in grads.values())} == {np.dtype(np.float32)}
    frozen = tn.frozen(model)(x, T2, y)
    assert type(frozen) is np.ndarray
    assert np.array_equal(frozen, model(x, T2, y).value)


def test_deterministic_given_the_rng_and_dropout_only_with_one():
    a, b = tiny(seed=3, dropout=0.5), tiny(seed=3, dropout=0.5)
    x = images(a.config)
    assert np.array_equal(a(x, T2).value, b(x, T2).value)
    once, again = (a(x, T2, rng=RNG(1)).value for _ in range(2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, a(x, T2).value)


def test_a_published_state_dict_loads():
    model = tiny(multiples=(1, 2))
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out": "proj_attn"}
    theirs = {}
    for name, x in tn.state_dict(model).items():
        for ours, published in (("down.", "down_blocks."), ("up.", "up_blocks."), ("middle.", "mid_block.")):
            name = published + name.removeprefix(ours) if name.startswith(ours) else name
        name = "time_embedding." + name if name.startswith("linear_") else name
        name = name.replace("downsample.", "downsamplers.0.conv.").replace("upsample.", "upsamplers.0.conv.")
        if name.startswith("mid_block.attentions"):  # as in older files
            *path, part, kind = name.split(".")
            name = ".".join([*path, old.get(part, part), kind])
        theirs[name.replace("to_out.", "to_out.0.")] = x
    assert "mid_block.attentions.0.proj_attn.weight" in theirs
    assert "down_blocks.1.attentions.0.to_out.0.weight" in theirs
    assert "down_blocks.0.downsamplers.0.conv.weight" in theirs
    assert "time_embedding.linear_1.bias" in theirs
    other = tiny(seed=9)
    tn.load(other, unet.published(theirs))
    x = images(model.config)
    assert np.array_equal(other(x, T2).value, model(x, T2).value)


def test_bad_input_is_one_line_that_names_the_value_and_the_limit():
    model = tiny(classes=3)
    x, t = images(model.config), T2
    for bad in (x[:, :, :3], x[0], x[:, :, :, :2], x[:0], np.repeat(x, 2, axis=1), x.astype(int)):
        with pytest.raises(ValueError, match=r"UNet: x has shape .*expected \(B, 1, 4, 4\)"):
            model(bad, t)
    assert np.array_equal(model(x.tolist(), t.tolist()).value, model(x, t).value)
    for bad in (3, np.array([3]), T2[:, None]):
        with pytest.raises(ValueError, match=r"UNet: t has shape .*expected \(2,\)"):
            model(x, bad)
    with pytest.raises(ValueError, match=r"UNet: y has shape \(1,\), expected \(2,\)"):
        model(x, t, np.array([1]))
    with pytest.raises(ValueError, match="a Config with classes; it has 0"):
        tiny()(x, t, np.array([1, 1]))
    with pytest.raises((ValueError, IndexError), match=r"4"):
        model(x, t, np.array([1, 4]))
    for changes, message in (
        ({"size": 7}, "size 7 cannot be halved 1 times; choose a multiple of 2"),
        ({"width": 5}, "width is 5, expected an even number"),
        ({"width": 2}, "width is 2, expected an even number from 4 on"),
        ({"groups": 3}, "width is 4, expected .* a multiple of groups, 3"),
        ({"blocks": 0}, "blocks 0, classes 0; expected at least one block"),
        ({"classes": -1}, "classes -1; expected .* no fewer than 0 classes"),
        ({"attention": (3,)}, r"attention at \(3,\), expected some of the sizes of the levels, \[4, 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            unet.Config.tiny(**changes)

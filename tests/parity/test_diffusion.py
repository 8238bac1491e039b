"""Schedulers of the diffusers library, step by step, and its U-Net with random weights."""

import tinygrad_notes as tn
from models.diffusion import ddpm, unet
from tests.golden.make_diffusion import FILE
from tests.models.diffusion.settings import BETAS, SETTINGS, SPACINGS, THEIRS, T, tolerance
from tinygrad_notes import Tensor

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_scheduler_steps(setting):
    times, results = setting.theirs(diffusers, torch)
    if setting.kind != "DDPM":
        assert SPACINGS[setting.spacing](T, setting.n).tolist() == times
    for ours, theirs in zip(setting.ours(), results, strict=True):
        assert np.max(np.abs(ours - theirs)) <= tolerance(theirs, np.finfo(np.float64).eps)


@pytest.mark.parametrize("betas", BETAS)
def test_tables_and_q_sample(betas):
    """Their tables are float32: alpha_bar is a product of T numbers, each rounded."""
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=T, beta_schedule=THEIRS[betas])
    process = ddpm.Diffusion(BETAS[betas](T))
    np.testing.assert_allclose(scheduler.betas.numpy(), process.beta[1:], rtol=1e-6)
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy(), process.alpha_bar[1:], rtol=T * 2.0**-24)
    rng = np.random.default_rng(0)
    x0, eps = rng.normal(size=(2, 5, 1, 4, 4)).astype(np.float32)
    t = np.array([1, 2, 500, 999, 1000])
    theirs = scheduler.add_noise(torch.from_numpy(x0), torch.from_numpy(eps), torch.from_numpy(t - 1))
    np.testing.assert_allclose(process.q_sample(x0, t, eps), theirs.numpy(), rtol=0, atol=1e-4)


def pair(config, blocks, seed=0):
    """Their U-Net with random weights, and ours with the same, in float64."""
    torch.manual_seed(seed)
    theirs = diffusers.UNet2DModel(
        sample_size=config.size,
        in_channels=config.channels,
        out_channels=config.channels,
        block_out_channels=[config.width * m for m in config.multiples],
        layers_per_block=config.blocks,
        down_block_types=blocks,
        up_block_types=[b.replace("Down", "Up") for b in reversed(blocks)],
        num_class_embeds=config.classes + 1 if config.classes else None,
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=0,
        attention_head_dim=None,
        norm_eps=1e-6,
        norm_num_groups=config.groups,
        dropout=0.0,
    ).double()
    ours = unet.UNet(config, np.random.default_rng(1))
    tn.load(ours, unet.published({name: p.detach().numpy() for name, p in theirs.state_dict().items()}))
    return ours, theirs


@pytest.mark.parametrize(
    ("changes", "blocks"),
    [
        ({"channels": 3, "size": 8, "width": 8, "multiples": (1, 2), "blocks": 2, "attention": (4,)}, ["DownBlock2D", "AttnDownBlock2D"]),
        (
            {"size": 12, "width": 4, "multiples": (1, 3, 2), "attention": (12, 3), "classes": 5},
            ["AttnDownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
        ),
    ],
)
def test_unet_values_and_gradients(changes, blocks):
    config = unet.Config.tiny(dtype=np.float64, **changes)
    ours, theirs = pair(config, blocks)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, config.channels, config.size, config.size))
    t, y = np.array([0, 1, 3]), rng.integers(0, 6, 3) if config.classes else None
    twin_x = torch.from_numpy(x).requires_grad_()
    expected = theirs(twin_x, torch.from_numpy(t), **({} if y is None else {"class_labels": torch.from_numpy(y)})).sample
    result = ours(Tensor(x), t, y)
    # Their sinusoids are float32: angles up to 3 are rounded by 2e-7.
    np.testing.assert_allclose(result.value, expected.detach().numpy(), rtol=0, atol=1e-6)
    c = rng.normal(size=x.shape)
    params = dict(theirs.named_parameters())
    grads = unet.published(dict(zip(params, torch.autograd.grad(expected, list(params.values()), torch.from_numpy(c)))))
    mine = tn.gradients(np.sum(result * c), tn.parameters(ours), unused="raise")
    assert set(mine) == set(grads)
    for name, g in mine.items():
        np.testing.assert_allclose(g, grads[name].numpy(), rtol=0, atol=1e-5 * max(1, float(grads[name].abs().max())), err_msg=name)


def test_the_golden_file_is_what_the_library_gives_now(tmp_path, monkeypatch):
    from tests.golden import make_diffusion

    monkeypatch.setattr(make_diffusion, "FILE", tmp_path / "diffusion.json")
    make_diffusion.main()
    now, kept = ((path / "diffusion.json").read_text().splitlines()[1:] for path in (tmp_path, FILE.parent))
    assert now == kept

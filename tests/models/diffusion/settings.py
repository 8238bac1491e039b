"""Single steps of the samplers that mean the same here and in the diffusers library: for tests/parity, and for the golden results.

The inputs are sines, so that every machine makes the same ones without a generator. The library's tables are float32; here it
gets them in float64 (its betas are compared on their own), so that its steps can be compared to the last digits.
"""

from dataclasses import dataclass

from models.diffusion import ddim, ddpm

import numpy as np

T = 1000
BETAS = {"linear": ddpm.linear_betas, "cosine": ddpm.cosine_betas}
SPACINGS = {"trailing": ddim.trailing, "leading": ddim.leading}
THEIRS = {"linear": "linear", "cosine": "squaredcos_cap_v2", "beta": "fixed_large", "beta_tilde": "fixed_small"}


def wave(i):
    return np.sin(0.3 + i + 1.37 * np.arange(6)).reshape(2, 3)


def tolerance(expected, eps):
    """The rounding of a step's few operations; and 1e-10 z that the library's DDPM adds at the end: it takes no variance below 1e-20."""
    return 8 * eps * max(1, np.max(np.abs(expected))) + 1e-10


class Fixed:
    """A generator that returns z."""

    def __init__(self, z):
        self.z = z

    def standard_normal(self, shape, dtype):
        assert shape == self.z.shape
        return self.z.astype(dtype)


@dataclass(frozen=True)
class Setting:
    name: str
    betas: str
    kind: str  # "DDPM": single steps; "DDPM strided" and "DDIM": n steps
    variance: str = "beta_tilde"
    eta: float = 1.0
    clip: float | None = None
    spacing: str = "trailing"
    n: int = 5

    def inputs(self):
        """For each step: (t, s, x, eps, z)."""
        if self.kind == "DDPM":
            pairs = [(t, t - 1) for t in (1000, 999, 500, 2, 1)]
        else:
            times = SPACINGS[self.spacing](T, self.n).tolist()
            pairs = list(zip(times, [*times[1:], 0]))
        return [(t, s, 1.5 * wave(k), wave(10 + k), wave(20 + k)) for k, (t, s) in enumerate(pairs)]

    def ours(self, dtype=np.float64):
        process = ddpm.Diffusion(BETAS[self.betas](T))
        results = []
        for t, s, *arrays in self.inputs():
            x, eps, z = (a.astype(dtype) for a in arrays)
            model = lambda x, t, eps=eps: eps
            if self.kind == "DDPM":
                y = ddpm.p_sample(model, process, x, t, Fixed(z), variance=self.variance, clip=self.clip)
            else:
                y = ddim.p_sample(model, process, x, t, s, eta=self.eta, rng=Fixed(z), clip=self.clip)
            results.append(y)
        return results

    def theirs(self, diffusers, torch):
        """(their times counted from 1, the result of each step as float64 arrays)."""
        options = {"num_train_timesteps": T, "beta_schedule": THEIRS[self.betas], "timestep_spacing": self.spacing}
        options |= {"clip_sample": self.clip is not None, "clip_sample_range": self.clip or 1.0}
        if self.kind == "DDIM":
            scheduler = diffusers.DDIMScheduler(**options)
        else:
            scheduler = diffusers.DDPMScheduler(variance_type=THEIRS[self.variance], **options)
        scheduler.betas = torch.from_numpy(BETAS[self.betas](T))
        scheduler.alphas = 1 - scheduler.betas
        scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, 0)
        if self.kind != "DDPM":
            scheduler.set_timesteps(self.n)
        results = []
        for t, _, *arrays in self.inputs():
            x, eps, z = (torch.from_numpy(a) for a in arrays)
            if self.kind == "DDIM":
                y = scheduler.step(eps, t - 1, x, eta=self.eta, use_clipped_model_output=True, variance_noise=z)
            else:  # draws its noise itself: by this function, looked up in its module
                module = diffusers.schedulers.scheduling_ddpm
                original, module.randn_tensor = module.randn_tensor, lambda *a, z=z, **k: z
                try:
                    y = scheduler.step(eps, t - 1, x)
                finally:
                    module.randn_tensor = original
            results.append(y.prev_sample.numpy())
        return (scheduler.timesteps + 1).tolist(), results


SETTINGS = [
    *(
        Setting(f"DDPM {betas}, {variance}, clip {clip}", betas, "DDPM", variance, clip=clip)
        for betas in BETAS
        for variance in ("beta", "beta_tilde")
        for clip in (None, 0.5)
    ),
    *(
        Setting(f"DDPM on {n} steps, {spacing}, {betas}, clip {clip}", betas, "DDPM strided", spacing=spacing, clip=clip, n=n)
        for betas, spacing, clip, n in [("linear", "leading", None, 5), ("linear", "trailing", 0.5, 4), ("cosine", "trailing", None, 4)]
    ),
    *(
        Setting(f"DDIM {betas}, eta {eta}, {spacing}, clip {clip}", betas, "DDIM", eta=eta, spacing=spacing, clip=clip, n=4)
        for betas in BETAS
        for eta in (0.0, 0.4, 1.0)
        for spacing, clip in [("leading", None), ("trailing", 0.5)]
    ),
]

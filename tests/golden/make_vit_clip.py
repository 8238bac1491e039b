"""Writes vit_clip.json, transformers' results for tests/golden/vit_clip_settings.py: python -m tests.golden.make_vit_clip

Needs PyTorch and transformers. float64, rounded to 12 digits.
"""

import hashlib
import json
import tempfile
from pathlib import Path

from models.multimodal import clip
from models.vision import vit
from tests.golden.vit_clip_settings import IDS, LABELS, SETTINGS, images, summary, waves

import torch
import transformers
from safetensors.numpy import load_file, save_file

DIGITS = 12
HERE = Path(__file__)


def made(kind, settings):
    """(model in float64 with waves as weights, its config.json, its arrays by published name)."""
    config = getattr(transformers, kind).config_class(**settings)
    with tempfile.TemporaryDirectory() as folder:
        model = getattr(transformers, kind)(config).double()
        model.save_pretrained(folder)
        arrays = {name: waves(name, a.shape) for name, a in load_file(f"{folder}/model.safetensors").items()}
        save_file(arrays, f"{folder}/model.safetensors", metadata={"format": "pt"})
        model = type(model).from_pretrained(folder, dtype=torch.float64, attn_implementation="sdpa")
        return model, json.loads(Path(folder, "config.json").read_text()), arrays


def theirs(model, config):
    """(output, loss, {published name: gradient}) of a model that `made` made."""
    module = clip if config["model_type"] == "clip" else vit
    x = torch.from_numpy(images(module.Config.from_published(config)))
    if module is clip:
        result = model(input_ids=torch.from_numpy(IDS), pixel_values=x, return_loss=True)
        output, loss = result.logits_per_image, result.loss
    elif hasattr(model, "classifier"):
        result = model(x, labels=torch.from_numpy(LABELS))
        output, loss = result.logits, result.loss
    else:
        output = model(x).pooler_output
        loss = (output * torch.from_numpy(waves("output", output.shape))).sum()
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters()}
    return output.detach().numpy(), loss.item(), module.to_published(module.published(gradients))


def rounded(x):
    return [rounded(v) for v in x] if isinstance(x, list) else float(f"{x:.{DIGITS}g}")


if __name__ == "__main__":
    scripts = b"".join(HERE.with_name(name).read_bytes() for name in ("make_vit_clip.py", "vit_clip_settings.py"))
    results = {}
    for name, (kind, settings) in SETTINGS.items():
        model, config, arrays = made(kind, settings)
        output, loss, gradients = theirs(model, config)
        results[name] = {
            "config": config,
            "shapes": {name: a.shape for name, a in arrays.items()},
            "output": rounded(output.tolist()),
            "loss": rounded(loss),
            "gradients": {name: rounded(summary(name, g)) for name, g in gradients.items()},
        }
    head = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "inputs and weights": "sines of each element's number, see vit_clip_settings.py; no random numbers, so no seed",
        "sha256 of make_vit_clip.py and vit_clip_settings.py": hashlib.sha256(scripts).hexdigest(),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(result, separators=(',', ':'))}" for name, result in results.items()]
    text = json.dumps(head)[:-1] + ', "results": {\n' + ",\n".join(lines) + "\n}}\n"
    HERE.with_name("vit_clip.json").write_text(text)

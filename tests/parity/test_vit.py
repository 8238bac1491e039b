"""ViTs with weights from transformers, live: outputs, gradients, files both ways, resized positions, the image processor."""

import dataclasses

import tinygrad_notes as tn
from models.vision import vit
from tests.golden.vit_clip_settings import LABELS, SETTINGS, ours
from tinygrad_notes.images import Preprocessing

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs the extra: pip install tinygrad_notes[parity]")
transformers = pytest.importorskip("transformers", reason="parity needs the extra: pip install tinygrad_notes[parity]")
safetensors = pytest.importorskip("safetensors.numpy")
pytestmark = pytest.mark.filterwarnings("ignore")  # other people's

SHAPES = [
    (
        "ViTForImageClassification",
        {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32, "patch_size": 8},
    ),
    (
        "ViTForImageClassification",
        {
            "hidden_size": 24,
            "num_attention_heads": 6,
            "intermediate_size": 36,
            "image_size": [6, 15],
            "patch_size": [2, 5],
            "num_labels": 11,
        },
    ),
    (
        "ViTModel",
        {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 12, "patch_size": 3, "num_channels": 1},
    ),
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def random_model(kind, settings, folder, layers=3):
    """A model with random weights, none of them the same in two places, and the arrays and config.json it writes."""
    config = getattr(transformers, kind).config_class(num_hidden_layers=layers, **settings)
    model = getattr(transformers, kind)._from_config(config, attn_implementation="sdpa").double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, dtype=p.dtype) * 0.2)
    model.save_pretrained(folder)
    return model, safetensors.load_file(folder / "model.safetensors")


def our_model(config, arrays, dtype):
    config = dataclasses.replace(vit.Config.from_published(config), dtype=dtype)
    model = vit.ViT(config, np.random.default_rng(0))
    tn.load(model, {name: a.astype(dtype) for name, a in vit.published(arrays).items()})
    return model


@pytest.mark.parametrize(("kind", "settings"), SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_outputs_and_gradients(kind, settings, dtype, tolerance, tmp_path):
    theirs, arrays = random_model(kind, settings, tmp_path)
    model = our_model(theirs.config.to_dict(), arrays, dtype)
    images = np.random.default_rng(1).normal(size=(3, model.config.channels, *model.config.image))
    x, x32 = torch.tensor(images), images.astype(dtype)
    features = (theirs.vit if model.head else theirs)(x).last_hidden_state
    np.testing.assert_allclose(model.features(x32).value, features.detach().numpy(), rtol=0, atol=10 * tolerance)
    if model.head:
        result = theirs(x, labels=torch.tensor(LABELS))
        output, loss, ours_loss = result.logits, result.loss, vit.loss(model, x32, LABELS)
    else:
        output = theirs(x).pooler_output
        loss, ours_loss = (output**2).sum(), np.sum(model(x32) ** 2)
    np.testing.assert_allclose(model(x32).value, output.detach().numpy(), rtol=0, atol=tolerance * max(1, output.abs().max().item()))
    loss.backward()
    expected = vit.published({name: p.grad.numpy() for name, p in theirs.named_parameters()})
    gradients = tn.gradients(ours_loss, tn.parameters(model), unused="raise")
    assert gradients.keys() == expected.keys()
    largest = max(np.abs(g).max() for g in expected.values())
    for name, g in gradients.items():
        np.testing.assert_allclose(g, expected[name], rtol=0, atol=1e-4 * largest if dtype == np.float32 else 1e-9 * largest, err_msg=name)


@pytest.mark.parametrize("changes", [{}, {"classes": 0, "pooler": 9}])
def test_transformers_loads_what_we_write(changes, tmp_path):
    import json

    model = vit.ViT(vit.Config.tiny(channels=3, **changes), np.random.default_rng(0))
    safetensors.save_file(vit.to_published(tn.state_dict(model)), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_published()))
    kind = getattr(transformers, model.config.to_published()["architectures"][0])
    theirs, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    images = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    output = theirs(torch.tensor(images))
    np.testing.assert_allclose(model(images).value, (output.logits if model.head else output.pooler_output).detach().numpy(), atol=1e-5)


def test_positions_resized_for_a_larger_image(tmp_path):
    theirs, arrays = random_model(*SHAPES[2], tmp_path, layers=1)
    model = our_model(theirs.config.to_dict(), arrays, np.float64)
    images = np.random.default_rng(1).normal(size=(2, 1, 18, 24))
    larger = vit.ViT(dataclasses.replace(model.config, image=(18, 24)), np.random.default_rng(0))
    state = tn.state_dict(model)
    tn.load(larger, state | {"pos": vit.resize_positions(state["pos"], (4, 4), (6, 8))})
    expected = theirs(torch.tensor(images), interpolate_pos_encoding=True).pooler_output
    np.testing.assert_allclose(larger(images).value, expected.detach().numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name.startswith("vit")])
def test_the_golden_file_is_what_transformers_says(name):
    from tests.golden.make_vit_clip import made, theirs

    model, config, arrays = made(*SETTINGS[name])
    output, loss, gradients = theirs(model, config)
    our_output, our_loss, our_gradients = ours(config, arrays, np.float64)
    np.testing.assert_allclose(our_output, output, rtol=0, atol=1e-9)
    assert abs(our_loss - loss) < 1e-9
    for n, g in our_gradients.items():
        np.testing.assert_allclose(g, gradients[n], rtol=0, atol=1e-9, err_msg=n)


@pytest.mark.parametrize("size", [(300, 400), (500, 231), (224, 224), (60, 50)])
def test_the_image_processor(size):
    pytest.importorskip("PIL")
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    theirs = transformers.ViTImageProcessorPil()
    expected = theirs(image, return_tensors="np", input_data_format="channels_last").pixel_values
    ours = Preprocessing.from_published(theirs.to_dict())
    assert ours == Preprocessing.vit()
    np.testing.assert_allclose(ours([image]), expected, rtol=0, atol=2e-6)  # the same levels

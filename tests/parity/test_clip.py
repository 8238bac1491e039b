"""CLIPs with weights from transformers, live: outputs, gradients, files both ways, the image processor."""

import dataclasses
import json

import tinygrad_notes as tn
from models.multimodal import clip
from tests.golden.vit_clip_settings import SETTINGS, ours
from tinygrad_notes import saving
from tinygrad_notes.images import Preprocessing, resize, whole_size

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs the extra: pip install tinygrad_notes[parity]")
transformers = pytest.importorskip("transformers", reason="parity needs the extra: pip install tinygrad_notes[parity]")
safetensors = pytest.importorskip("safetensors.numpy")
pytestmark = pytest.mark.filterwarnings("ignore")  # other people's

TEXT = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": 50, "num_hidden_layers": 3}
VISION = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 2}
SHAPES = [
    (TEXT | {"max_position_embeddings": 12, "eos_token_id": 49}, VISION | {"image_size": 32, "patch_size": 8}, 16),
    (TEXT | {"eos_token_id": 2}, VISION | {"image_size": 21, "patch_size": 7, "num_channels": 1, "hidden_act": "gelu"}, 40),
    (TEXT | {"hidden_act": "gelu", "eos_token_id": 7}, VISION | {"image_size": 8, "patch_size": 8, "layer_norm_eps": 1e-3}, 5),
    (TEXT, VISION | {"image_size": 8, "patch_size": 4}, 5),  # its end token, 49407, is not in the vocabulary
]


@pytest.mark.parametrize(("text", "vision", "space"), SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_outputs_and_gradients(text, vision, space, dtype, tolerance, tmp_path):
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=space)
    theirs = transformers.CLIPModel._from_config(config, attn_implementation="sdpa").double()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(torch.randn(p.shape, dtype=p.dtype) * 0.1)
    theirs.save_pretrained(tmp_path)
    config = dataclasses.replace(clip.Config.from_published(json.loads((tmp_path / "config.json").read_text())), dtype=dtype)
    model = clip.CLIP(config, np.random.default_rng(0))
    arrays = safetensors.load_file(tmp_path / "model.safetensors")
    tn.load(model, {name: a.astype(dtype) for name, a in clip.published(arrays).items()})

    rng = np.random.default_rng(1)
    images = rng.normal(size=(4, config.channels, config.image, config.image))
    ids = rng.integers(8, 49, (4, 9))
    ids[np.arange(4), [3, 8, 5, 8]] = 49 if text.get("eos_token_id") != 7 else 7
    result = theirs(input_ids=torch.tensor(ids), pixel_values=torch.tensor(images), return_loss=True)
    x = images.astype(dtype)
    scale = theirs.logit_scale.exp().item()  # logits have the rounding error of cosines times the scale
    np.testing.assert_allclose(model(x, ids).value, result.logits_per_image.detach().numpy(), rtol=0, atol=tolerance * scale)
    np.testing.assert_allclose(model.encode_images(x).value, result.image_embeds.detach().numpy(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(model.encode_texts(ids).value, result.text_embeds.detach().numpy(), rtol=0, atol=tolerance)
    loss = clip.loss(model, x, ids)
    assert abs(loss.item() - result.loss.item()) < tolerance
    result.loss.backward()
    expected = clip.published({name: p.grad.numpy() for name, p in theirs.named_parameters()})
    gradients = tn.gradients(loss, tn.parameters(model), unused="raise")
    assert gradients.keys() == expected.keys()
    largest = max(np.abs(g).max() for g in expected.values())
    for name, g in gradients.items():
        np.testing.assert_allclose(g, expected[name], rtol=0, atol=1e-4 * largest if dtype == np.float32 else 1e-9 * largest, err_msg=name)


@pytest.mark.parametrize("t", [4.7, 5.0])
def test_a_scale_past_100_is_used_as_it_is(t, tmp_path):
    text, vision = TEXT | {"max_position_embeddings": 12, "eos_token_id": 49}, VISION | {"image_size": 8, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=5, logit_scale_init_value=t)
    theirs = transformers.CLIPModel(config)
    theirs.save_pretrained(tmp_path)
    model = saving.from_pretrained(tmp_path, clip.CLIP)
    images, ids = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32), np.array([[9, 49], [8, 49]])
    expected = theirs(input_ids=torch.tensor(ids), pixel_values=torch.tensor(images)).logits_per_image
    assert theirs.logit_scale.exp().item() > 101
    np.testing.assert_allclose(model(images, ids).value, expected.detach().numpy(), atol=1e-3)  # 150 times the rounding of a cosine


@pytest.mark.parametrize("end", [None, 10])
def test_transformers_loads_what_we_write(end, tmp_path):
    model = clip.CLIP(clip.Config.tiny(end=end), np.random.default_rng(0))
    safetensors.save_file(clip.to_published(tn.state_dict(model)), tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_published()))
    theirs, report = transformers.CLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    images = np.random.default_rng(1).normal(size=(2, 1, 8, 8)).astype(np.float32)
    ids = np.array([[9, 3, 10, 0], [9, 4, 5, 10]])
    expected = theirs(input_ids=torch.tensor(ids), pixel_values=torch.tensor(images)).logits_per_image
    np.testing.assert_allclose(model(images, ids).value, expected.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name.startswith("clip")])
def test_the_golden_file_is_what_transformers_says(name):
    from tests.golden.make_vit_clip import made, theirs

    model, config, arrays = made(*SETTINGS[name])
    output, loss, gradients = theirs(model, config)
    our_output, our_loss, our_gradients = ours(config, arrays, np.float64)
    np.testing.assert_allclose(our_output, output, rtol=0, atol=1e-9)
    assert abs(our_loss - loss) < 1e-9
    for n, g in our_gradients.items():
        np.testing.assert_allclose(g, gradients[n], rtol=0, atol=1e-9, err_msg=n)


@pytest.mark.parametrize("size", [(300, 400), (500, 231), (224, 224), (50, 60), (225, 227)])
def test_the_image_processor(size):
    pytest.importorskip("PIL")
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    theirs = transformers.CLIPImageProcessorPil()
    expected = theirs(image, return_tensors="np", input_data_format="channels_last").pixel_values
    ours = Preprocessing.from_published(theirs.to_dict())
    assert ours == Preprocessing.clip()
    np.testing.assert_allclose(ours([image]), expected, rtol=0, atol=2e-6)  # the same levels


@pytest.mark.parametrize(("filter", "number"), [("bilinear", 2), ("bicubic", 3)])
def test_resize_is_pillows(filter, number):
    pytest.importorskip("PIL", minversion="13", reason="older ones filter in another order")
    from PIL import Image

    rng = np.random.default_rng(0)
    for _ in range(300):
        H, W, h, w = rng.integers(1, 120, 4).tolist()
        image = rng.integers(0, 256, (H, W, 3)).astype(np.uint8)
        for height, width in ((h, w), whole_size(H, W, h)):
            expected = np.asarray(Image.fromarray(image).resize((width, height), number))
            assert np.array_equal(resize(image, (height, width), filter), expected), (H, W, height, width)

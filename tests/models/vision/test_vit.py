"""ViT at toy size: gradients, patches, order, attention maps, sizes, published names, errors."""

import json
import math
from pathlib import Path

import tinygrad_notes as tn
from models.vision import vit
from tests.golden.vit_clip_settings import SETTINGS, ours, summary, waves
from tests.models.refill import flattened, refilled
from tinygrad_notes import check, optim, saving

import numpy as np
import pytest

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "vit_clip.json").read_text())["results"]
IMAGES = np.random.default_rng(0).normal(size=(4, 1, 8, 8))
LABELS = np.array([4, 0, 2, 2])


def tiny(dtype=np.float64, seed=0, **changes):
    """A ViT whose head is not zero, so that its output depends on all of it."""
    model = vit.ViT(vit.Config.tiny(dtype=dtype, **changes), np.random.default_rng(seed))
    if model.head is not None:
        model.head.weight = tn.Tensor(np.random.default_rng(seed).normal(size=model.head.weight.shape).astype(dtype))
    return model


@pytest.mark.parametrize("changes", [{}, {"pooler": 6, "layers": 1, "qkv_bias": False, "image": (4, 6), "patch": (2, 3), "channels": 2}])
def test_the_gradient_of_the_whole_loss(changes):
    model = tiny(**changes)
    images = np.random.default_rng(1).normal(size=(2, model.config.channels, *model.config.image))
    flat = flattened(model, np.random.default_rng(2))
    check.check_grads(lambda flat: vit.loss(refilled(model, flat), images, LABELS[:2]), flat, order=1)


def test_overfits_one_batch():
    model = vit.ViT(vit.Config.tiny(), np.random.default_rng(0))
    params = tn.parameters(model)
    optimizer = optim.Adam(params, lr=3e-3)
    images = IMAGES.astype(np.float32)
    first = vit.loss(model, images, LABELS).item()
    assert first == pytest.approx(math.log(5), abs=1e-6)  # the head starts at 0: every class is equally likely
    for _ in range(150):
        loss = vit.loss(model, images, LABELS)
        optimizer.step(tn.gradients(loss, params, unused="raise"))
    assert loss.item() < 0.05 * first


def test_a_convolution_by_the_patch_is_the_linear_map_of_each_patch():
    """Equation 1 word for word: cut, flatten, multiply by E, put [CLS] in front, add positions."""
    model = tn.frozen(tiny(image=(4, 6), patch=(2, 3), channels=3))
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 6))
    E = model.patch.weight.reshape(12, -1)  # (C, Cin P P)
    rows = []
    for r in range(2):
        for c in range(2):
            patch = images[:, :, 2 * r : 2 * r + 2, 3 * c : 3 * c + 3].reshape(2, -1)
            rows.append(patch @ E.T + model.patch.bias)
    expected = np.stack([np.broadcast_to(model.cls, (2, 12)), *rows], axis=1) + model.pos
    np.testing.assert_allclose(model.embed(images), expected, rtol=0, atol=1e-12)


def test_without_positions_a_vit_sees_a_bag_of_patches():
    model = tn.frozen(tiny())
    shuffled = IMAGES.reshape(4, 1, 2, 4, 2, 4)[:, :, ::-1, :, ::-1].reshape(IMAGES.shape)  # the four patches change places
    assert np.max(np.abs(model(shuffled) - model(IMAGES))) > 1e-3
    model.pos = np.zeros_like(model.pos)
    np.testing.assert_allclose(model(shuffled), model(IMAGES), rtol=0, atol=1e-12)


def test_every_token_feels_every_patch_and_images_do_not_feel_each_other():
    model = tiny()
    images = tn.Tensor(IMAGES)
    g = tn.gradients(np.sum(model.features(images)[1, 0] ** 2), images)
    assert np.all(g[1] != 0)
    assert np.all(g[[0, 2, 3]] == 0)


def test_blocked_and_dense_attention_give_the_same_loss():
    model = tiny()
    with tn.reference():
        dense = vit.loss(model, IMAGES, LABELS).item()
    assert vit.loss(model, IMAGES, LABELS).item() == pytest.approx(dense, rel=1e-13)


def test_frozen_inference_is_the_tensor_run_without_tensors():
    model, images = tiny(np.float32), IMAGES.astype(np.float32)
    logits = tn.frozen(model)(images)
    assert type(logits) is np.ndarray
    assert np.array_equal(logits, model(images).value)
    p = vit.classify(model, images)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-6)
    assert np.array_equal(p.argmax(1), logits.argmax(1))


@pytest.mark.parametrize("changes", [{}, {"pooler": 6}])
def test_float32_throughout_and_the_shape_comments_hold(changes):
    images = IMAGES.astype(np.float32)
    with check.dtypes(), check.shapes(vit) as shapes:
        model = tiny(np.float32, **changes)
        loss = vit.loss(model, images, LABELS)
        grads = tn.gradients(loss, tn.parameters(model))
        vit.rollout(vit.attention_maps(model, images))
        vit.resize_positions(tn.frozen(model).pos, (2, 2), (3, 4))
    assert not shapes.unreached
    assert loss.dtype == np.float32
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}


def test_deterministic_given_the_rng_and_dropout_only_with_one():
    a, b = tiny(seed=3, dropout=0.5), tiny(seed=3, dropout=0.5)
    assert vit.loss(a, IMAGES, LABELS).item() == vit.loss(b, IMAGES, LABELS).item()
    once, again = (vit.loss(a, IMAGES, LABELS, np.random.default_rng(1)).item() for _ in range(2))
    assert once == again != vit.loss(a, IMAGES, LABELS).item()


def test_attention_maps_are_the_weights_with_which_values_are_mixed():
    model = tn.frozen(tiny())
    maps = vit.attention_maps(model, IMAGES)
    assert maps.shape == (2, 4, 2, 5, 5)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-12)
    block, z = model.blocks[0], model.embed(IMAGES)
    x = block.ln_1(z)
    values = block.attn.v_proj(x).reshape(4, 5, 2, 6)
    mixed = np.einsum("bhts,bshd->bthd", maps[0], values).reshape(4, 5, 12)
    np.testing.assert_allclose(block.attn.out_proj(mixed), block.attn(x), atol=1e-12)
    flow = vit.rollout(maps)
    np.testing.assert_allclose(flow.sum(-1), 1, atol=1e-12)
    layers = [0.5 * (maps[i].mean(1) + np.eye(5)) for i in range(2)]
    np.testing.assert_allclose(flow, layers[1] @ layers[0], atol=1e-12)


# --- sizes --------------------------------------------------------------------------------------


def test_an_image_of_224_in_patches_of_16_is_197_tokens_of_768():
    model = tn.frozen(vit.ViT(vit.Config(layers=1, classes=0), np.random.default_rng(0)))
    assert model.features(np.zeros((1, 3, 224, 224), np.float32)).shape == (1, 197, 768)


def test_the_published_sizes_have_the_published_numbers_of_parameters():
    """Table 1 of the paper: 86, 307 and 632 million, without the head."""

    def parameters(c):
        C, F, N = c.width, c.hidden, c.grid[0] * c.grid[1]
        block = 4 * C * (C + 1) + F * (C + 1) + C * (F + 1) + 4 * C
        return C * (3 * c.patch[0] * c.patch[1] + 1) + C + (1 + N) * C + c.layers * block + 2 * C

    tiny_config = vit.Config.tiny(channels=3, classes=0)
    assert parameters(tiny_config) == tn.count(vit.ViT(tiny_config, np.random.default_rng(0)))
    found = [parameters(c) / 1e6 for c in (vit.Config.base_16(), vit.Config.large_16(), vit.Config.huge_14())]
    assert np.all(np.abs(np.array(found) - [86, 307, 632]) < [0.5, 4, 2])


def test_positions_for_a_larger_image():
    pos = np.random.default_rng(0).normal(size=(1 + 6, 4))
    assert np.allclose(vit.resize_positions(pos, (2, 3), (2, 3)), pos)
    larger = vit.resize_positions(pos, (2, 3), (4, 6))
    assert larger.shape == (25, 4)
    assert np.array_equal(larger[0], pos[0])
    flat = np.vstack([pos[:1], np.full((6, 4), 2.5)])
    np.testing.assert_allclose(vit.resize_positions(flat, (2, 3), (5, 7))[1:], 2.5)
    columns = np.repeat(np.arange(9.0)[None], 9, axis=0).reshape(81, 1)  # each position is its column's number
    row = vit.resize_positions(np.vstack([[[0.0]], columns]), (9, 9), (9, 18))[1:].reshape(9, 18)[4]
    np.testing.assert_allclose((row[2:] - row[:-2])[3:-3], 1)  # two new columns for each old one
    with pytest.raises(ValueError, match=r"pos has 7 rows, expected 10: .CLS. and a grid \(3, 3\)"):
        vit.resize_positions(pos, (3, 3), (4, 4))


# --- published weights and errors ------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("vit")])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_equal_to_transformers(name, dtype, tolerance):
    golden = GOLDEN[name]
    output, loss, gradients = ours(golden["config"], {n: waves(n, s) for n, s in golden["shapes"].items()}, dtype)
    np.testing.assert_allclose(output, golden["output"], rtol=0, atol=tolerance)
    assert abs(loss - golden["loss"]) < tolerance
    assert gradients.keys() == golden["gradients"].keys()
    for n, (product, length) in golden["gradients"].items():
        assert np.all(np.abs(np.array(summary(n, gradients[n])) - [product, length]) < 10 * tolerance * (length + 0.01)), n


def test_the_golden_file_belongs_to_these_settings():
    assert list(GOLDEN) == list(SETTINGS)


@pytest.mark.parametrize("changes", [{}, {"classes": 0, "pooler": 6}, {"classes": 0}])
def test_published_names_there_and_back(changes):
    model = tiny(**changes)
    state = tn.state_dict(model)
    theirs = vit.to_published(state)
    back = vit.published(theirs)
    assert list(back) == list(state)
    assert all(np.array_equal(back[name], state[name]) for name in state)
    assert theirs["classifier.weight" if model.head else "embeddings.cls_token"].shape == ((5, 12) if model.head else (1, 1, 12))


def test_names_of_newer_files():
    """transformers 5 calls the layers otherwise in memory."""
    names = {
        "vit.layers.3.attention.q_proj.weight": "blocks.3.attn.q_proj.weight",
        "layers.11.attention.o_proj.bias": "blocks.11.attn.out_proj.bias",
        "vit.layers.0.mlp.fc2.weight": "blocks.0.mlp.fc2.weight",
    }
    assert list(vit.published(dict.fromkeys(names, np.zeros(1)))) == list(names.values())


@pytest.mark.parametrize("config", [vit.Config(), vit.Config.tiny(classes=0, pooler=6, dropout=0.1), vit.Config.tiny(qkv_bias=False)])
def test_configurations_there_and_back(config):
    assert vit.Config.from_published(json.loads(json.dumps(config.to_published()))) == config


@pytest.mark.parametrize("changes", [{}, {"classes": 0, "pooler": 6, "image": (4, 6), "patch": (2, 3)}])
def test_folders_there_and_back(changes, tmp_path):
    model = tiny(np.float32, **changes)
    saving.save_pretrained(model, tmp_path)
    again = saving.from_pretrained(tmp_path, vit.ViT)
    assert again.config == model.config
    images = np.random.default_rng(0).normal(size=(2, 1, *model.config.image)).astype(np.float32)
    assert np.array_equal(again(images).value, model(images).value)


def test_published_configurations_that_are_refused():
    good = vit.Config().to_published()
    with pytest.raises(ValueError, match=r"config.json says .'model_type': 'deit'.*expected model_type 'vit'"):
        vit.Config.from_published(good | {"model_type": "deit"})
    with pytest.raises(ValueError, match="ViTForMaskedImageModeling"):
        vit.Config.from_published(good | {"architectures": ["ViTForMaskedImageModeling"]})
    with pytest.raises(ValueError, match="hidden_act 'relu', expected 'gelu'"):
        vit.Config.from_published(good | {"hidden_act": "relu"})
    refused = [
        ("image_size", [4]),
        ("patch_size", 0),
        ("num_labels", None),
        ("hidden_size", "12"),
        ("layer_norm_eps", -1),
        ("num_attention_heads", 2.5),
    ]
    for key, value in refused:
        with pytest.raises(ValueError, match=rf"Config.from_published: {key} is .*, expected a (whole )?number from ") as caught:
            vit.Config.from_published(good | {key: value})
        assert repr(value) in str(caught.value)
    with pytest.raises(ValueError, match="qkv_bias 'x', expected true or false"):
        vit.Config.from_published(good | {"qkv_bias": "x"})
    with pytest.raises(ValueError, match=r"vit.layernorm.bias and layernorm.bias are both ln.bias here"):
        vit.published(dict.fromkeys(["vit.layernorm.bias", "layernorm.bias"], np.zeros(2)))
    with pytest.raises(ValueError, match="pooler 3 and classes 5 are not published together"):
        vit.Config.tiny(pooler=3).to_published()


def test_bad_input_is_one_line_that_names_the_value_and_the_limit():
    model = tiny()
    for images in (
        np.zeros((2, 1, 8, 9)),
        np.zeros((2, 3, 8, 8)),
        np.zeros((1, 8, 8)),
        np.zeros((2, 1, 8, 8), np.uint8),
        np.zeros((0, 1, 8, 8)),
    ):
        with pytest.raises(ValueError, match=r"ViT: images are \w+ \(.*\), expected floats \(B, 1, 8, 8\)"):
            model(images)
    assert np.array_equal(model(IMAGES.tolist()).value, model(IMAGES).value)
    with pytest.raises(IndexError, match=r"cross_entropy: .*5"):
        vit.loss(model, IMAGES, LABELS + 1)
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 3"):
        vit.Config.tiny(width=10, heads=3)
    with pytest.raises(ValueError, match=r"image \(8, 8\) does not divide into patches of \(3, 3\)"):
        vit.Config.tiny(patch=3)

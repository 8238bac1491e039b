"""Folders of random configurations that transformers writes: the same outputs here, and written here they load there into the same class."""

import random

from models.language import bert, gpt, gpt1
from models.multimodal import clip
from models.vision import vit
from tinygrad_notes import saving

import numpy as np
import pytest

REASON = "parity with transformers needs the extra: pip install tinygrad_notes[parity]"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
pytestmark = pytest.mark.filterwarnings("ignore")  # other people's

CLASSES = [  # theirs, ours, the library's function that picks the class by config.json
    ("GPT2LMHeadModel", gpt.GPT, "AutoModelForCausalLM"),
    ("OpenAIGPTLMHeadModel", gpt1.GPT, "AutoModelForCausalLM"),
    ("OpenAIGPTForSequenceClassification", gpt1.Classifier, "AutoModelForSequenceClassification"),
    ("BertModel", bert.BERT, "AutoModel"),
    ("BertForPreTraining", bert.PreTraining, "AutoModelForPreTraining"),
    ("BertForSequenceClassification", bert.Classifier, "AutoModelForSequenceClassification"),
    ("ViTModel", vit.ViT, "AutoModel"),
    ("ViTForImageClassification", vit.ViT, "AutoModelForImageClassification"),
    ("CLIPModel", clip.CLIP, "AutoModel"),
]


def settings(kind, rng):
    """A random configuration that both can follow."""
    heads, size, eps = rng.randint(1, 4), rng.randint(1, 4), rng.choice([1e-12, 1e-5, 1e-2])
    width, layers, inner, words = heads * rng.randint(2, 10), rng.randint(1, 4), rng.randint(1, 50), rng.randint(8, 50)
    layout = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner}
    layout |= {"layer_norm_eps": eps}
    image = {"patch_size": size, "image_size": size * rng.randint(1, 4), "num_channels": rng.randint(1, 4)}
    labels = {"id2label": {i: f"class {i}" for i in range(rng.randint(1, 5))}} if "Classification" in kind else {}
    if kind.startswith(("GPT2", "OpenAI")):
        sizes = {"vocab_size": words, "n_positions": rng.randint(2, 20), "n_embd": width, "n_layer": layers, "n_head": heads}
        more = {"n_inner": rng.choice([None, inner]), "reorder_and_upcast_attn": rng.random() < 0.5} if kind.startswith("GPT2") else {}
        return sizes | more | labels | {"layer_norm_epsilon": eps, "resid_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    if kind.startswith("Bert"):
        return layout | labels | {"vocab_size": words, "max_position_embeddings": rng.randint(2, 20), "type_vocab_size": rng.randint(1, 3)}
    if kind.startswith("ViT"):
        return layout | labels | image | {"qkv_bias": rng.random() < 0.5}
    end = rng.choice([2, words - 1])
    text = {
        "vocab_size": words,
        "max_position_embeddings": rng.randint(2, 12),
        "eos_token_id": end,
        "hidden_act": rng.choice(["gelu", "quick_gelu"]),
    }
    return {"text_config": layout | text, "vision_config": layout | image, "projection_dim": rng.randint(1, 20)}


def made(kind, config, seed):
    """Their model, every number of which has been moved: biases and norms start as constants."""
    torch.manual_seed(seed)
    model = getattr(transformers, kind)._from_config(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def outputs(theirs, ours, seed):
    """Pairs of what both compute."""
    rng, c, kind = np.random.default_rng(seed), ours.config, type(ours)
    t = torch.tensor
    if kind in (vit.ViT, clip.CLIP):
        sides = c.image if kind is vit.ViT else (c.image, c.image)
        images = rng.normal(size=(3, c.channels, *sides)).astype(c.dtype)
        if kind is vit.ViT:
            found = theirs(t(images))
            return [(found.logits if c.classes else found.pooler_output if c.pooler else found.last_hidden_state[:, 0], ours(images))]
        ids = rng.integers(c.vocabulary, size=(3, c.context))
        ids[:, -1] = c.vocabulary - 1 if c.end is None else c.end
        found = theirs(input_ids=t(ids), pixel_values=t(images))
        scale = theirs.logit_scale.exp().item()  # logits have the rounding errors of cosines times the scale
        return [(found.logits_per_image / scale, ours(images, ids) / scale), (found.image_embeds, ours.encode_images(images))]
    ids = rng.integers(c.vocabulary, size=(3, c.context))
    if kind in (gpt.GPT, gpt1.GPT):
        return [(theirs(t(ids)).logits, ours(ids))]
    if kind is gpt1.Classifier:
        last = rng.integers(c.context, size=3)
        return [(theirs(t(ids[i : i + 1, : last[i] + 1])).logits[0], ours.classify(ids, last)[0][i]) for i in range(3)]
    segments, mask = rng.integers(c.segments, size=ids.shape), np.arange(c.context) < rng.integers(1, c.context + 1, size=(3, 1))
    found = theirs(input_ids=t(ids), token_type_ids=t(segments), attention_mask=t(mask.astype(int)))
    results = ours(ids, segments, mask)
    if kind is bert.Classifier:
        return [(found.logits, results)]
    return [(found[0][t(mask)], results[0][mask]), (found[1], results[1])]


def different(a, b):
    """The keys whose values differ, also those within objects."""
    both = {key for key in a if isinstance(a[key], dict) and isinstance(b.get(key), dict)}
    return {key for key in a | b if key not in both and a.get(key, ...) != b.get(key, ...)}.union(
        *(different(a[key], b[key]) for key in both)
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("kind", "ours", "auto"), CLASSES)
def test_random_configurations(tmp_path, kind, ours, auto, seed):
    rng = random.Random(f"{kind} {seed}")
    given = settings(kind, rng)
    tokens = {f"{name}_token_id": rng.randrange(8) for name in ("bos", "eos", "pad", "sep")} | {"task": {"name": kind}}
    tokens.pop("pad_token_id" if kind == "OpenAIGPTForSequenceClassification" else "eos_token_id" if kind == "CLIPModel" else None, None)
    for part in (given, given.get("text_config", {})):  # what means nothing here is kept, also within a part
        part |= tokens
    config = getattr(transformers, kind).config_class(**given)
    dtype = ("float32", "float64", "float16", "bfloat16")[seed]
    theirs = made(kind, config, seed).to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size=rng.choice(["5GB", "4KB"]))
    theirs = theirs.to(torch.float64 if dtype == "float64" else torch.float32)
    model = saving.from_pretrained(tmp_path / "theirs", ours)
    tolerance = 1e-9 if dtype == "float64" else 1e-5
    for expected, found in outputs(theirs, model, seed):
        expected = expected.detach().numpy()
        assert found.value.dtype == expected.dtype
        np.testing.assert_allclose(found.value, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))
    saving.save_pretrained(model, tmp_path / "ours")
    again, report = getattr(transformers, auto).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    assert type(again).__name__ == kind and again.config.architectures == [kind]
    differs = different(theirs.config.to_dict(), again.config.to_dict())
    written_here = {"attn_pdrop", "attention_probs_dropout_prob", "position_embedding_type", "projection_dim"}  # as they are in our models
    assert differs <= {"_name_or_path", "dtype", "label2id", *written_here}, differs
    assert again.config.id2label == theirs.config.id2label
    assert again.config.label2id == {label: i for i, label in theirs.config.id2label.items()}
    for (name, p), (_, q) in zip(theirs.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(p.detach(), q.detach().to(p.dtype)), name


@pytest.mark.parametrize("kind", ["BertForPreTraining", "BertForSequenceClassification", "BertForNextSentencePrediction", "BertModel"])
def test_the_encoder_of_every_bert(tmp_path, kind):
    theirs = made(kind, transformers.BertConfig(**settings(kind, random.Random(kind))), 0)
    theirs.save_pretrained(tmp_path)
    model = saving.from_pretrained(tmp_path, bert.BERT)
    for expected, found in outputs(getattr(theirs, "bert", theirs), model, 0):
        np.testing.assert_allclose(found.value, expected.detach().numpy(), rtol=0, atol=1e-5)


def test_a_vit_made_without_its_pooler(tmp_path):
    config = transformers.ViTConfig(**settings("ViTModel", random.Random(0)))
    theirs = transformers.ViTModel(config, add_pooling_layer=False).eval()
    theirs.save_pretrained(tmp_path)
    model = saving.from_pretrained(tmp_path, vit.ViT)
    assert model.config.pooler == 0
    [(expected, found)] = outputs(theirs, model, 0)
    np.testing.assert_allclose(found.value, expected.detach().numpy(), rtol=0, atol=1e-5)


OTHERWISE = [
    ("GPT2LMHeadModel", gpt.GPT, {"activation_function": "relu"}),
    ("GPT2LMHeadModel", gpt.GPT, {"scale_attn_weights": False}),
    ("GPT2LMHeadModel", gpt.GPT, {"scale_attn_by_inverse_layer_idx": True}),
    ("GPT2LMHeadModel", gpt.GPT, {"add_cross_attention": True}),
    ("GPT2LMHeadModel", gpt.GPT, {"tie_word_embeddings": False}),
    ("OpenAIGPTLMHeadModel", gpt1.GPT, {"afn": "silu"}),
    ("BertModel", bert.BERT, {"hidden_act": "gelu_new"}),
    ("BertModel", bert.BERT, {"is_decoder": True}),
    ("BertModel", bert.BERT, {"position_embedding_type": "relative_key"}),
    ("ViTModel", vit.ViT, {"hidden_act": "quick_gelu"}),
    ("ViTModel", vit.ViT, {"pooler_act": "relu"}),
]


@pytest.mark.parametrize(("kind", "ours", "changes"), OTHERWISE)
def test_what_the_model_does_not_do_is_refused_by_name(tmp_path, kind, ours, changes):
    config = getattr(transformers, kind).config_class(**settings(kind, random.Random(0)) | changes)
    made(kind, config, 0).save_pretrained(tmp_path)
    [(key, value)] = changes.items()
    with pytest.raises(saving.CheckpointError, match=rf"{key} (is )?{value!r}, expected ") as caught:
        saving.from_pretrained(tmp_path, ours)
    assert "\n" not in str(caught.value)


def test_configurations_of_ours_mean_the_same_there():
    for config in (gpt.Config.tiny(dropout=0.1, embedding_dropout=0.2), gpt1.Config.tiny(dropout=0.1, embedding_dropout=0.2)):
        written = config.to_published()
        theirs = transformers.AutoConfig.for_model(**written)
        assert (theirs.embd_pdrop, theirs.resid_pdrop) == (0.2, 0.1)
        assert type(config).from_published(theirs.to_dict()) == config

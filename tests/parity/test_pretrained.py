"""Folders that transformers writes load here, with equal outputs and gradients, and those written here load there."""

import json
import random

import tinygrad_notes as tn
from models.language import gpt
from tests.golden.pretrained_settings import TEXTS
from tinygrad_notes import saving
from tinygrad_notes.text import ByteBPE

import numpy as np
import pytest

reason = "parity with transformers needs the extra: pip install tinygrad_notes[parity]"
torch = pytest.importorskip("torch", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SHAPES = {
    "one layer, one head": {"vocab_size": 5, "n_positions": 3, "n_embd": 4, "n_layer": 1, "n_head": 1},
    "deep": {"vocab_size": 31, "n_positions": 12, "n_embd": 24, "n_layer": 6, "n_head": 4},
    "a width of its own inside, odd sizes": {"vocab_size": 13, "n_positions": 7, "n_embd": 15, "n_layer": 2, "n_head": 5, "n_inner": 17},
    "another epsilon, wide": {"vocab_size": 301, "n_positions": 40, "n_embd": 96, "n_layer": 2, "n_head": 3, "layer_norm_epsilon": 1e-2},
    "gelu by its other name": {
        "vocab_size": 9,
        "n_positions": 9,
        "n_embd": 8,
        "n_layer": 2,
        "n_head": 2,
        "activation_function": "gelu_pytorch_tanh",
    },
}


def published(shape, seed=0):
    """A GPT-2 of transformers whose weights, biases too, are far from their start."""
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def ids_for(config, seed=0):
    return np.random.default_rng(seed).integers(config.vocabulary, size=(3, config.context))


@pytest.mark.parametrize(("dtype", "tolerance", "slope"), [("float64", 1e-9, 1e-9), ("float32", 1e-5, 1e-4)])
@pytest.mark.parametrize("shape", SHAPES)
def test_gpt2(tmp_path, shape, dtype, tolerance, slope):
    theirs = published(SHAPES[shape]).to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path)
    ours = saving.from_pretrained(tmp_path, gpt.GPT)
    ids = ids_for(ours.config)
    logits = theirs(torch.tensor(ids)).logits
    assert ours(ids).dtype == dtype
    np.testing.assert_allclose(ours(ids).value, logits.detach().numpy(), rtol=0, atol=tolerance)
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(ids[:, 1:]).flatten()).backward()
    grads = gpt.to_published(tn.gradients(gpt.loss(ours, ids[:, :-1], ids[:, 1:]), tn.parameters(ours), unused="raise"))
    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    assert grads.keys() == expected.keys()
    for name, g in grads.items():
        np.testing.assert_allclose(g, expected[name], rtol=0, atol=slope, err_msg=name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shard", ["5GB", "6KB"])
def test_half_precision_and_shards(tmp_path, dtype, shard):
    theirs = published(SHAPES["deep"]).to(getattr(torch, dtype))
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors").exists() == (shard == "5GB")
    ours = gpt.to_published(tn.state_dict(saving.from_pretrained(tmp_path, gpt.GPT)))
    for name, p in theirs.named_parameters():
        assert np.array_equal(ours[name], p.detach().float().numpy())


def test_the_model_without_its_head(tmp_path):
    theirs = published(SHAPES["deep"])
    theirs.transformer.save_pretrained(tmp_path)
    ours = saving.from_pretrained(tmp_path, gpt.GPT)
    ids = ids_for(ours.config)
    np.testing.assert_allclose(ours(ids).value, theirs(torch.tensor(ids)).logits.detach().numpy(), rtol=0, atol=1e-5)


def test_models_that_compute_something_else_are_refused(tmp_path):
    sizes = SHAPES["one layer, one head"]
    for changes in ({"activation_function": "relu"}, {"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}):
        published(sizes | changes).save_pretrained(tmp_path)
        with pytest.raises(saving.CheckpointError, match=next(iter(changes))):
            saving.from_pretrained(tmp_path, gpt.GPT)
    config = transformers.GPT2Config(**sizes, num_labels=2, pad_token_id=0)
    transformers.GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(saving.CheckpointError, match=r"unexpected: score\.weight"):
        saving.from_pretrained(tmp_path, gpt.GPT)
    transformers.BertModel(
        transformers.BertConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, vocab_size=5)
    ).save_pretrained(tmp_path)
    with pytest.raises(saving.CheckpointError, match="model_type is 'bert', expected 'gpt2'"):
        saving.from_pretrained(tmp_path, gpt.GPT)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_saved_here_loads_there(tmp_path, shape, dtype):
    published(SHAPES[shape]).to(getattr(torch, dtype)).save_pretrained(tmp_path / "theirs")
    ours = saving.from_pretrained(tmp_path / "theirs", gpt.GPT)
    saving.save_pretrained(ours, tmp_path / "ours")
    first, again = (transformers.GPT2LMHeadModel.from_pretrained(tmp_path / name).eval() for name in ("theirs", "ours"))
    assert again.dtype == getattr(torch, dtype)
    ids = torch.tensor(ids_for(ours.config))
    # equal bit for bit but where the activation is written under its first name, which transformers computes in another order
    torch.testing.assert_close(
        first(ids).logits, again(ids).logits, rtol=0, atol=16 * torch.finfo(again.dtype).eps if "other name" in shape else 0
    )
    for (name, p), (_, q) in zip(first.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(p, q), name
    auto = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(auto) is transformers.GPT2LMHeadModel


# --- tokenisers -----------------------------------------------------------------------------------


def random_text(rng):
    alphabet = [*"aaabbcde  \n'1é", "猫", "🐈", "the ", "<|endoftext|>", "zz"]
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 60)))


@pytest.mark.parametrize("seed", range(5))
def test_gpt2_tokenizers_on_random_vocabularies(tmp_path, seed):
    rng = random.Random(seed)
    ours = ByteBPE.train([random_text(rng) for _ in range(30)], 257 + rng.randint(0, 80), special=["<|endoftext|>"], minimum_count=1)
    ours.to_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    theirs = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    if seed % 2:
        theirs.add_tokens(["zz", "<|pad|>"])
    theirs.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "vocab.json").exists()  # today's transformers writes tokenizer.json alone
    loaded = ByteBPE.from_pretrained(tmp_path / "saved")
    assert loaded.vocabulary_size == len(theirs)
    both = [loaded] if seed % 2 else [loaded, ByteBPE.from_pretrained(tmp_path)]
    for text in [*TEXTS, *(random_text(rng) for _ in range(50))]:
        for tokenizer in both:
            ids = tokenizer.encode_special(text)
            assert ids.tolist() == theirs(text).input_ids
            assert tokenizer.decode(ids) == theirs.decode(ids.tolist(), clean_up_tokenization_spaces=False)


def test_a_tokenizer_that_begins_texts_otherwise_is_refused(tmp_path):
    ours = ByteBPE.train(TEXTS, 300, special=["<|endoftext|>"])
    ours.to_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    transformers.GPT2Tokenizer.from_pretrained(tmp_path, add_prefix_space=True).save_pretrained(tmp_path / "spaced")
    assert json.loads((tmp_path / "spaced" / "tokenizer.json").read_text())["pre_tokenizer"]["add_prefix_space"]
    with pytest.raises(ValueError, match="it puts a space before the text"):
        ByteBPE.from_pretrained(tmp_path / "spaced")

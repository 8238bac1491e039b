"""Writes tests/golden/pretrained/, small published folders and what transformers computes with them: python -m tests.golden.make_pretrained

Needs transformers and PyTorch (`make parity` installs them). Weights are random; results are in float64, rounded to 12 digits.
"""

import hashlib
import json
import shutil
from pathlib import Path

from tests.golden.pretrained_settings import FOLDERS, IDS, TEXTS, folder_of, weights_of

import numpy as np
import tokenizers
import torch
import transformers

SEED, DIGITS = 0, 12
HERE = Path(__file__).with_name("pretrained")


def write_gpt2(folder: Path, changes: dict, dtype: str, shard: str) -> None:
    config = transformers.GPT2Config(**{"vocab_size": 17, "n_positions": 9, "n_embd": 12, "n_layer": 2, "n_head": 3} | changes)
    config.bos_token_id = config.eos_token_id = 0
    torch.manual_seed(SEED)
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for p in model.parameters():  # the initial weights are small and the biases 0: nothing would show
            p.add_(0.2 * torch.randn_like(p))
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)


def results_of(folder: Path) -> dict:
    """The logits, and for each weight its gradient's product with the numbers `weights_of`, of the loss on IDS."""
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float64).eval()
    ids = torch.tensor(IDS)
    logits = model(ids).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())  # the library's own is in float32
    loss.backward()
    gradients = {name: float(np.sum(p.grad.numpy() * weights_of(name, p.shape))) for name, p in model.named_parameters()}
    round_off = lambda x: float(f"{x:.{DIGITS}g}")
    return {
        "logits": [round_off(x) for x in logits.detach().numpy().ravel()],
        "loss": round_off(loss.item()),
        "gradients": {name: round_off(x) for name, x in gradients.items()},
    }


def write_tokenizer(folder: Path) -> list[list[int]]:
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(TEXTS, vocab_size=330, min_frequency=1, special_tokens=["<|endoftext|>"], show_progress=False)
    folder.mkdir()
    made.save_model(str(folder))
    tokenizer = transformers.GPT2Tokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return [tokenizer(text).input_ids for text in TEXTS]


if __name__ == "__main__":
    transformers.logging.disable_progress_bar()
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    head = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "tokenizers": tokenizers.__version__,
        "seed": SEED,
        "script": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
    }
    results = {}
    for name, (changes, dtype, shard) in FOLDERS.items():
        write_gpt2(folder_of(name), changes, dtype, shard)
        results[name] = results_of(folder_of(name))
        (folder_of(name) / "generation_config.json").unlink()
    ids = write_tokenizer(folder_of("tokenizer"))
    text = json.dumps({"made with": head, "tokenizer": ids, **results}, indent=None, separators=(",", ":")).replace('},"', '},\n"')
    (HERE / "results.json").write_text(text + "\n")

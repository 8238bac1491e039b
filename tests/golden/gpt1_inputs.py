"""What make_gpt1.py gives to transformers' models, and the tests to ours."""

import numpy as np

CONFIG = {
    "model_type": "openai-gpt",
    "vocab_size": 31,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": 12,
    "layer_norm_epsilon": 1e-3,
    "num_labels": 4,
}
IDS = np.array([[3, 1, 4, 1, 5, 9, 26, 5, 30], [2, 7, 18, 2, 8, 1, 0, 0, 0]])
LAST = np.array([8, 5])  # 0 is padding
LABELS = np.array([3, 0])

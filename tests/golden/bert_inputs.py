"""What make_bert.py gives to transformers' models, and the tests to ours."""

import numpy as np

CONFIG = {
    "model_type": "bert",
    "vocab_size": 31,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 12,
    "num_labels": 4,
}
IDS = np.array([[2, 5, 4, 7, 3, 9, 4, 11, 12, 3, 30], [2, 6, 6, 4, 8, 3, 10, 29, 3, 0, 0]])
SEGMENTS = np.array([[0] * 5 + [1] * 6, [0] * 6 + [1] * 3 + [0] * 2])
MASK = IDS != 0
TARGETS = np.where(np.isin(IDS, [4, 8]), np.array([[7], [11]]), -100)
IS_RANDOM = np.array([1, 0])
LABELS = np.array([3, 0])

"""Choices that several parts of the schema, or code outside it, name."""

from typing import Literal

EnvName = str
"""Of a family (configs/extensions.py) with what it takes behind a colon, or module:attribute."""
GateTiming = Literal["causal", "paper"]
GateMode = Literal["learned", "open", "closed"]
GateEstimator = Literal["straight-through", "score-function", "arm"]
TemperatureSchedule = Literal["linear", "exponential", "constant"]
MessageDtype = Literal["float16", "float32"]
BeaconDtype = Literal["int8", "float16", "float32"]
PublishMode = Literal["dense", "delta", "sparse"]
PublishDtype = Literal["float32", "float16"]
Transport = Literal["ipc", "tcp"]
Placer = Literal["hosts", "ray"]
TrackerName = Literal["none", "wandb", "trackio"]
Precision = Literal["float32", "tf32", "bfloat16"]
SparseLayer = Literal[
    "scorer", "messages", "mixer",
    "encoder", "gru", "query", "key", "value", "message", "q_hidden", "q_out",
    "beacon", "edge", "scorer_hidden", "scorer_out",
    "hyper_w_1", "hyper_w_final", "hyper_b_1", "v", "net",
]  # fmt: skip
"""Groups of layers, then those of policy and mixers by their names (learner/sparse/layers.py)."""

"""Sizes of a policy's layers and the number formats of what it says."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from configs import extensions
from configs.ranges import between, check_ranges, within
from configs.schema.choices import BeaconDtype, MessageDtype


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    name: Annotated[str, tyro.conf.arg(name="network", prefix_name=False)] = "gru"
    """Encoder and memory in front of the communication scheme: a name, or
    package.module:attribute."""

    options: str = ""
    """What the network itself takes: name=value,name=value."""

    hidden: Annotated[int, between(1, 4096)] = 64
    """Units H of the encoder, the GRU and the Q head."""

    heads: Annotated[int, between(1, 4096)] = 1
    """Output layers: agent i acts by layer i modulo their number. With as many as agents each has
    its own behind what all share, as where HAPPO's agents differ."""

    policies: Annotated[int, between(1, 4096)] = 1
    """Networks that share nothing: agent i acts by number i modulo their number. With as many as
    agents each has its own, as in HAPPO. They have no language in common, so it takes comm none."""

    message: Annotated[int, between(1, 4096)] = 64
    """Numbers M in one message."""

    attention: Annotated[int, between(1, 4096)] = 16
    """Query and key size of the attention over messages."""

    beacon: Annotated[int, between(1, 4096)] = 16
    """Numbers Z in one beacon, the node embedding that the scorer reads."""

    edge_embedding: Annotated[int, between(1, 4096)] = 8
    """Size of the edge-type embedding."""

    scorer: Annotated[int, between(1, 4096)] = 32
    """Hidden units of the pairwise scorer."""

    message_dtype: MessageDtype = "float16"
    """Number format of messages on the wire, also applied in the learner's unroll."""

    beacon_dtype: BeaconDtype = "int8"
    """Number format of beacons on the wire, also applied in the learner's unroll."""

    beacon_delta: Annotated[float, within(0.0, 2.0)] = 0.0
    """Change of a beacon (whose entries lie in [-1, 1]), at its largest, that is not worth saying:
    neighbours go on with what they heard last. 0 says every change; at most 2."""

    beacon_period: Annotated[int, between(1, 10_000)] = 1
    """Steps of an episode after which a beacon may be said again; until then neighbours go on with
    what they heard. Saves bytes with gate.timing causal; with paper every step repeats it."""

    def __post_init__(self) -> None:
        check_ranges(self, "network")
        extensions.address(extensions.NETWORK, self.name)

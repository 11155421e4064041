"""An encoder for images; `agents.networks.conv` is the same function in numpy.

Dimension key: T = time, B = batch, N = agents, D = observation features, X =
encoded features, H = hidden.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from agents.networks.conv import Options, images_of
from agents.policy import PolicySpec
from learner.networks.base import NetworkTwin
from learner.networks.gru import GRU_NAMES, run_memory


class ConvTwin(NetworkTwin):
    """A trainable one."""

    is_row_by_row = True

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__(spec, num_agents)
        options: Options = spec.network_opts()
        self._images = images_of(spec)
        self._divide_by = options.divide_by
        self._convolutions = [
            nn.Conv2d(image.channels, after.channels, options.kernel, options.stride)
            for image, after in pairwise(self._images)
        ]
        self._encoder = nn.Linear(self._images[-1].size, spec.hidden)
        self.layers = {f"conv{i}": layer for i, layer in enumerate(self._convolutions)}
        self.layers["encoder"] = self._encoder
        self._gru = nn.GRU(spec.hidden, spec.hidden) if options.memory == "gru" else None
        if self._gru is not None:
            self.layers["gru"] = self._gru
            self.names = GRU_NAMES

    def recur(self, observations_TBND: Tensor, hidden_BNH: Tensor) -> Tensor:
        time, batch, agents, _ = observations_TBND.shape
        image = self._images[0]
        if image.channels_first:
            planes = observations_TBND.reshape(-1, image.channels, image.height, image.width)
        else:
            pixels = observations_TBND.reshape(-1, image.height, image.width, image.channels)
            planes = pixels.permute(0, 3, 1, 2)
        planes = planes / self._divide_by
        for convolution in self._convolutions:
            planes = functional.relu(convolution(planes), inplace=True)
        x = functional.relu(self._encoder(planes.flatten(1)), inplace=True)
        x_TBNX = x.view(time, batch, agents, -1)
        return x_TBNX if self._gru is None else run_memory(self._gru, x_TBNX, hidden_BNH)

    def uses(self) -> dict[str, int]:
        """A kernel is used at every place of its image."""
        return {f"conv{i}": image.height * image.width for i, image in enumerate(self._images[1:])}

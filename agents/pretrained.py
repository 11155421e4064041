"""The file of a pre-training: tensors of a scheme with which policies begin.

    python -m learner.pretrain -> save_pretrained -> FILE -> load_pretrained -> begin_with

It holds what `Scheme.pretrained_layout` names, so it fits every population. No torch: a launcher
reads it.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from agents.found import scheme_of
from agents.layers import Layout
from agents.policy import PolicyFile, PolicySpec, checksum, views, write_atomically
from configs.arrays import FloatArray
from configs.bounded import require_regular, shorten
from configs.errors import UserError

FORMAT = "murmuration-pretrained/1"
_MOST_BYTES = 1 << 30


class PretrainedError(UserError, ValueError):
    """A file of a pre-training cannot be read, or does not fit the run."""


def save_pretrained(
    path: Path, spec: PolicySpec, tensors: Mapping[str, FloatArray], made: Mapping[str, object]
) -> None:
    """Write the file whole or not at all.

    Args:
        spec: of policies that can begin with it.
        tensors: at least those of the scheme's `pretrained_layout`.
        made: JSON values that say how, for readers.
    """
    layout = pretrained_layout(spec)
    kept = {name: np.ascontiguousarray(tensors[name], dtype=np.float32) for name, _ in layout}
    metadata = {
        "format": FORMAT,
        "comm": spec.scheme,
        "comm_options": spec.scheme_options,
        "crc32": str(_checksum(kept, layout)),
        "made": json.dumps(dict(made)),
    }
    write_atomically(path, save(kept, metadata))


def made_with(path: Path) -> dict[str, Any]:
    """The options of learner.pretrain that the file was made with, by the names of their fields.

    Raises:
        PretrainedError: it cannot be read, or does not say.
    """
    metadata, _ = _read(path)
    try:
        made = json.loads(metadata.get("made", ""))
    except ValueError:
        made = None
    if not isinstance(made, dict):
        raise PretrainedError(f"pre-trained file {path} does not say how it was made")
    return cast("dict[str, Any]", made)


def load_pretrained(path: Path, spec: PolicySpec) -> dict[str, FloatArray]:
    """The tensors by their names in the policy's layout.

    Raises:
        PretrainedError: it cannot be read, is damaged or of another format; or the scheme or its
            options are not those that it was made with, or observations have another size.
    """
    layout = pretrained_layout(spec)
    metadata, tensors = _read(path)
    where = f"pre-trained file {path}"
    if metadata.get("format") != FORMAT:
        found = metadata.get("format")
        raise PretrainedError(f"{where} has format {found!r:.100}, expected {FORMAT!r}")
    if metadata.get("comm") != spec.scheme:
        raise PretrainedError(
            f"{where} was made for --comm {metadata.get('comm', '?'):.100}, this run has "
            f"{spec.scheme}"
        )
    if not _has_options_of(spec, made_with := metadata.get("comm_options", "")):
        raise PretrainedError(
            f"{where} was made with --comm.options {made_with or '(none)':.200}, this run has "
            f"{spec.scheme_options or '(none)'}"
        )
    for name, shape in layout:
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != shape or tensor.dtype != np.float32:
            found = "missing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
            raise PretrainedError(
                f"{where}: {name} is {found}, this run asks for float32 {shape}: observations have "
                "another size where it was made"
            )
    kept = {name: tensors[name] for name, _ in layout}
    if str(_checksum(kept, layout)) != metadata.get("crc32"):
        raise PretrainedError(f"{where} is damaged: checksum does not match")
    if not all(np.isfinite(tensor).all() for tensor in kept.values()):
        raise PretrainedError(f"{where} holds values that are not finite")
    return kept


def require_within(policy: PolicyFile, tensors: Mapping[str, FloatArray], where: str) -> None:
    """A policy that goes on with the file that it began with.

    Args:
        where: names the policy, for the error.

    Raises:
        PretrainedError: the policy has other tensors.
    """
    of_policy = views(policy.spec, policy.flat)
    if any(not np.array_equal(of_policy[name], tensor) for name, tensor in tensors.items()):
        raise PretrainedError(
            f"{where} has other tensors than the pre-trained file: leave out --pretrained, and all "
            "of the policy is trained"
        )


def begin_with(spec: PolicySpec, flat: FloatArray, tensors: Mapping[str, FloatArray]) -> None:
    """Write them into the vector of a policy."""
    of_policy = views(spec, flat)
    for name, tensor in tensors.items():
        of_policy[name][...] = tensor


def pretrained_layout(spec: PolicySpec) -> Layout:
    """Tensors of the policy's scheme that can be pre-trained.

    Raises:
        PretrainedError: the scheme has none.
    """
    layout = scheme_of(spec.scheme).pretrained_layout(spec)
    if not layout:
        raise PretrainedError(
            f"--comm {spec.scheme} has nothing that is pre-trained: take nvif, or leave out "
            "--pretrained"
        )
    return layout


def _has_options_of(spec: PolicySpec, scheme_options: str) -> bool:
    """Whether these options are those of the policy, which may say them otherwise."""
    try:
        return replace(spec, scheme_options=scheme_options).scheme_opts() == spec.scheme_opts()
    except ValueError:
        return False


def _checksum(tensors: Mapping[str, FloatArray], layout: Layout) -> int:
    return checksum(np.concatenate([tensors[name].ravel() for name, _ in layout]))


def _read(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    opener: Any = safe_open  # safetensors ships no types
    try:
        require_regular(path, _MOST_BYTES)
        with opener(path, framework="numpy") as file:
            names: list[str] = list(file.keys())
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: a dtype that numpy lacks
        what = shorten(getattr(error, "strerror", None) or str(error))
        raise PretrainedError(f"pre-trained file {path} cannot be read: {what}") from error

"""What one host is given: a folder with its keys, the address book, and (deployed) the policy.

    keys + hosts -> write_bundles -> OUT/<host>/ -> copied by the user -> read_bundle -> Bundle

    bundle.json          format, deployment, host, options, SHA-256 of every other file
    book.json            addresses and public keys of everybody
    keys.json            this host's secret keys (mode 0600)
    policy.safetensors   deployed policies only
    config.json          deployed policies only: how the agents behave

All bundles that are written together carry the same deployment number; bundles of two deployments
do not know each other's keys.
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_type_hints

import zmq

from agents.policy import PolicyFile, PolicyFileError, load_agents_policy
from configs import extensions
from configs.bounded import parse_json, shorten
from configs.ranges import between, check_ranges, within
from configs.schema import MAX_OFFSETS, MAX_SEED, GateMode
from runtime.deployment.body_endpoint import DEFAULT_BODY, body_endpoint
from runtime.deployment.hosts import Host, Hosts
from runtime.net.errors import SetupError
from runtime.net.security import KEY_CHARACTERS, KeyPair, Keyring

FORMAT = 1
MANIFEST, BOOK, KEYS, POLICY, CONFIG = (
    "bundle.json",
    "book.json",
    "keys.json",
    "policy.safetensors",
    "config.json",
)
_LARGEST_BYTES = 1 << 30
"""Of one file: far more than a policy for 4096 agents."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeployOptions:
    """How deployed agents behave, apart from their policy."""

    comm: str
    gate_mode: GateMode
    gate_budget: Annotated[int, between(0, MAX_OFFSETS)] = 0
    """Edges that an agent may open in a step; 0 sets no limit."""
    rate_hz: Annotated[float, within(0.0, 1000.0)] = 0.0
    """Ticks a second; 0.0 ticks on each observation."""
    max_message_age_steps: Annotated[int, between(1, 100)] = 1
    """Oldest message that is still used, in steps."""
    body: str = DEFAULT_BODY
    """Endpoint on which each agent waits for its body: ipc, or tcp over loopback; {bundle} is the
    bundle's folder, {agent} the agent's number, {port} 8000 plus that number."""
    seed: Annotated[int, between(0, MAX_SEED)] = 0
    nice: Annotated[int, between(0, 19)] = 0

    def __post_init__(self) -> None:
        check_ranges(self)
        extensions.address(extensions.SCHEME, self.comm)

    @classmethod
    def from_json(cls, raw: Mapping[str, object]) -> "DeployOptions":
        """The inverse of `asdict`.

        Raises:
            TypeError: names the field that is unknown, missing or of the wrong kind.
            ValueError: a number outside its range.
        """
        values = dict(raw)
        for name, wanted in get_type_hints(cls).items():
            if wanted is float and type(values.get(name)) is int:
                values[name] = float(cast("int", values[name]))  # JSON may say 10 for 10.0
            choices = get_args(wanted)
            value = values.get(name)
            fits = value in choices if choices else type(value) is wanted
            if name in values and not fits:
                what = " or ".join(choices) if choices else wanted.__name__
                raise TypeError(f"{name} must be {what}, got {value!r:.80}")
        return cls(**cast("dict[str, Any]", values))


@dataclass(frozen=True, slots=True)
class Book:
    """Who is where, and by which key they are known."""

    deployment: str
    hosts: Hosts
    public: Mapping[str, str]
    """Public key by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """One host's folder, read and verified."""

    folder: Path
    host: Host
    book: Book
    keys: Mapping[str, KeyPair]
    """Secrets of this host only."""
    policy: PolicyFile | None
    options: DeployOptions | None

    @property
    def is_deployment(self) -> bool:
        return self.policy is not None

    def body_endpoint(self, agent: int) -> str:
        """Where that agent of a deployment waits for its body."""
        assert self.options is not None
        return body_endpoint(self.options.body, agent, self.folder)

    def keyring(self, name: str) -> Keyring:
        """What the process of that name is handed."""
        return Keyring(name, self.keys[name], self.book.public)


def make_keys(hosts: Hosts) -> dict[str, KeyPair]:
    """Fresh keys for everybody."""
    return {name: KeyPair.generate() for name in hosts.identities()}


def write_bundles(
    out: Path,
    hosts: Hosts,
    keys: Mapping[str, KeyPair],
    *,
    policy: bytes | None = None,
    options: DeployOptions | None = None,
    deployment: str = "",
) -> list[Path]:
    """Write one folder per host; a folder that is there already is replaced as a whole.

    Raises:
        SetupError: a folder cannot be written, or holds something that is no bundle.
    """
    deployment = deployment or secrets.token_hex(8)
    for host in hosts.hosts:  # before anything is written: all bundles, or none
        _require_replaceable(out / host.name)
    written: list[Path] = []
    for host in hosts.hosts:
        files = bundle_files(hosts, host.name, keys, deployment, policy=policy, options=options)
        folder = out / host.name
        try:
            place_bundle(folder, files)
        except OSError as error:
            raise SetupError(f"{folder} cannot be written: {error.strerror}") from error
        written.append(folder)
    return written


def bundle_files(
    hosts: Hosts,
    name: str,
    keys: Mapping[str, KeyPair],
    deployment: str,
    *,
    policy: bytes | None = None,
    options: DeployOptions | None = None,
) -> dict[str, bytes]:
    """What is in one host's folder, by name of the file."""
    book = {
        "deployment": deployment,
        **hosts.to_json(),
        "public": {name: keys[name].public for name in hosts.identities()},
    }
    secret = {identity: asdict(keys[identity]) for identity in hosts.identities_on(name)}
    files = {BOOK: _json(book), KEYS: _json(secret)}
    if policy is not None and options is not None:
        files |= {POLICY: policy, CONFIG: _json(asdict(options))}
    manifest = {
        "format": FORMAT,
        "deployment": deployment,
        "host": name,
        "sha256": {name: _digest(content) for name, content in files.items()},
    }
    return {**files, MANIFEST: _json(manifest)}


def place_bundle(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write one host's folder, in place of one that is there.

    Raises:
        OSError: it cannot be written.
    """
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True, mode=0o700)
    for name, content in files.items():
        mode = 0o600 if name == KEYS else 0o644
        descriptor = os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:
            file.write(content)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def read_all(out: Path, hosts: Hosts | None = None, *, complete: bool = True) -> list[Bundle]:
    """All bundles of one deployment, from the machine that made them.

    Args:
        hosts: what they must have been made for; None takes any.
        complete: none may be missing; else some may lie with their hosts alone.

    Raises:
        SetupError: there are none, some are missing or damaged, they belong to different
            deployments, or to other hosts or shares.
    """
    folders = sorted(path.parent for path in out.glob(f"*/{MANIFEST}"))
    if not folders:
        raise SetupError(f"{out}: no bundles here: make them with python -m runtime.keys")
    bundles = [read_bundle(folder) for folder in folders]
    book = bundles[0].book
    if {bundle.book.deployment for bundle in bundles} != {book.deployment}:
        raise SetupError(f"{out}: bundles of different deployments: make them again")
    missing = set(book.hosts.names) - {bundle.host.name for bundle in bundles}
    if missing and complete:
        raise SetupError(f"{out}: the bundle of host {sorted(missing)[0]} is missing")
    if hosts is not None and hosts != book.hosts:
        raise SetupError(
            f"{out}: made for other hosts, addresses or shares of agents than asked for: choose "
            "another folder, or make new ones with python -m runtime.keys --rotate all"
        )
    return bundles


def read_bundle(folder: Path) -> Bundle:
    """Read one host's folder and check everything in it that can be checked here.

    Raises:
        SetupError: one line: what is missing, changed, too open, or does not fit together.
    """
    manifest = _parse(folder / MANIFEST, _read(folder / MANIFEST))
    if manifest.get("format") != FORMAT:
        raise SetupError(
            f"{folder}: bundle format {manifest.get('format')!r}, this version reads {FORMAT}: "
            "make the bundle with the version that runs it"
        )
    contents: dict[str, bytes] = {}
    digests = manifest.get("sha256")
    if not isinstance(digests, dict) or not digests.keys() <= {BOOK, KEYS, POLICY, CONFIG}:
        raise SetupError(f"{folder / MANIFEST}: damaged: copy it again")
    for name, digest in cast("dict[str, Any]", digests).items():
        contents[name] = _read(folder / name, is_secret=name == KEYS)
        if _digest(contents[name]) != digest:
            raise SetupError(f"{folder / name}: changed since the bundle was made: copy it again")
    if not {BOOK, KEYS} <= contents.keys() or (POLICY in contents) != (CONFIG in contents):
        raise SetupError(f"{folder}: not a complete bundle: copy it again")
    raw = _parse(folder / BOOK, contents[BOOK])
    try:
        book = Book(_text(raw["deployment"]), Hosts.from_json(raw), _texts(raw["public"]))
        host = book.hosts[manifest["host"]]
        pairs = _parse(folder / KEYS, contents[KEYS])
        keys = {
            name: KeyPair(_text(pair["public"]), _text(pair["secret"]))
            for name, pair in pairs.items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SetupError(f"{folder}: damaged bundle ({type(error).__name__}: {error})") from error
    options = None
    if CONFIG in contents:
        try:
            options = DeployOptions.from_json(_parse(folder / CONFIG, contents[CONFIG]))
        except (TypeError, ValueError) as error:
            raise SetupError(f"{folder / CONFIG}: {error}: deploy it again") from error
    if book.deployment != manifest.get("deployment"):
        raise SetupError(f"{folder}: parts of two deployments are mixed here: copy it again")
    _require_keys(folder, book, host, keys)
    policy = None
    if POLICY in contents:
        try:
            policy = load_agents_policy(folder / POLICY)
        except PolicyFileError as error:
            raise SetupError(str(error)) from error
    return Bundle(folder, host, book, keys, policy, options)


def _require_keys(folder: Path, book: Book, host: Host, keys: Mapping[str, KeyPair]) -> None:
    wanted = set(book.hosts.identities_on(host.name))
    if set(keys) != wanted:
        raise SetupError(f"{folder / KEYS}: holds other keys than host {host.name} needs")
    for name, pair in keys.items():
        if len(pair.secret) != KEY_CHARACTERS or book.public.get(name) != pair.public:
            raise SetupError(
                f"{folder}: the key of {name} is not the one in the address book: the bundle is "
                "stale, copy the newest"
            )
        try:
            public = zmq.curve_public(pair.secret.encode()).decode()
        except (ValueError, zmq.ZMQError):
            public = ""
        if public != pair.public:
            raise SetupError(f"{folder / KEYS}: the two halves of the key of {name} do not match")


def _require_secret(path: Path, keys: os.stat_result) -> None:
    """Nobody else can read these keys, or could have put others in their place."""
    mode, us = stat.S_IMODE(keys.st_mode), os.geteuid()
    if mode & 0o077:
        raise SetupError(
            f"{path}: others can read these secret keys (mode {mode:04o}): run `chmod 600 {path}`"
        )
    if keys.st_uid != us:
        raise SetupError(
            f"{path}: these secret keys belong to user {keys.st_uid} and we are user {us}: run as "
            f"that user, or `chown {us} {path}`"
        )
    folder = path.parent.stat()
    if folder.st_mode & 0o022:
        raise SetupError(
            f"{path.parent}: others can put files into this folder of secret keys (mode "
            f"{stat.S_IMODE(folder.st_mode):04o}): run `chmod go-w {path.parent}`"
        )
    if folder.st_uid not in (us, 0):
        raise SetupError(
            f"{path.parent}: this folder of secret keys belongs to user {folder.st_uid} and we are "
            f"user {us}: run as that user, or `chown {us} {path.parent}`"
        )


def _require_replaceable(folder: Path) -> None:
    try:
        is_bundle = (folder / MANIFEST).exists()
        is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:  # a name that is too long, for one
        raise SetupError(f"{folder} cannot be written: {error.strerror}") from error
    if not is_bundle and not is_free:
        raise SetupError(f"{folder} holds something that is no bundle: choose another --out")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _read(path: Path, *, is_secret: bool = False) -> bytes:
    try:
        # Looked at when it is open: what a name stands for may change in between. NONBLOCK, or a
        # pipe in its place would have us wait for somebody who writes.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_BYTES:
                raise SetupError(
                    f"{path}: not a regular file of at most {_LARGEST_BYTES >> 20} MiB: not a "
                    "bundle?"
                )
            if is_secret:
                _require_secret(path, status)
            return file.read()
    except OSError as error:
        raise SetupError(f"{path}: cannot be read ({error.strerror}): not a bundle?") from error


def _text(value: object) -> str:
    if not isinstance(value, str):  # not shown: it may be a secret
        raise TypeError("text expected")
    return value


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("names and public keys expected")
    return {_text(k): _text(v) for k, v in cast("dict[object, object]", value).items()}


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        value = parse_json(content)
    except ValueError as error:
        raise SetupError(f"{path}: damaged ({shorten(str(error))}): copy it again") from error
    if not isinstance(value, dict):
        raise SetupError(f"{path}: damaged: copy it again")
    return value  # pyright: ignore[reportUnknownVariableType]  # JSON: keys are text

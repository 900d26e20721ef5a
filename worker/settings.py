"""The worker's settings: flags, environment variables and their documentation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.endpoints import check_endpoint, check_key_file
from shared.logs import FORMATS, LEVELS
from shared.messages import MAX_SLOTS
from shared.model_path import expanded, split_name
from shared.settings import SettingsError, option
from worker.engine.options import WITHOUT_MODEL, EngineOptions

BUILT_IN_MODEL = Path(__file__).parent / "demo_model"
DEMO_MODEL_NAME = "demo"
GIB = 1024**3
MOST_NAME_CHARACTERS = 256
MOST_MODEL_NAMES = 64
"""What gateways take; they hear nothing of who says more."""
MOST_HOST_NAME_CHARACTERS = 100
"""Its engines' names have a model's behind it."""


@dataclass(frozen=True)
class Settings:
    gateway: tuple[str, ...] = option(
        ("tcp://127.0.0.1:5555",), help="where a gateway listens for workers", unit="endpoint"
    )
    model_path: tuple[str, ...] = option(
        (),
        help="a folder or a hub id that mlx-vlm loads, or NAME=one of these; several: each loaded "
        "when it is asked for; none: the demo",
        spaces=True,
    )
    models_dir: str = option(
        "", help="a folder whose subfolders are models, each loaded when it is asked for"
    )
    models: str = option(
        "", help="a TOML file that names models, each loaded when it is asked for", unit="file"
    )
    memory_budget_gib: float | None = option(
        None,
        help="most memory for all models of this worker together; none: three quarters of what "
        "there is for several, and for one what other engines of this machine leave",
        unit="GiB",
        minimum=0,
    )
    idle_unload: float = option(
        0.0,
        help="how long such a model may be without a job before it leaves; 0: for ever",
        unit="seconds",
        minimum=0,
    )
    trust_remote_code: bool = option(
        False, help="run the Python that a model brings; read it before (docs/security.md)"
    )
    served_model_name: tuple[str, ...] = option(
        (), help="the ids /v1/models lists; none: taken from the path"
    )
    max_concurrency: int = option(
        1, help="whole answers generated at once", minimum=0, maximum=MAX_SLOTS
    )
    max_streams: int = option(
        8, help="streams generated at once, beside those", minimum=0, maximum=MAX_SLOTS
    )
    max_context: int | None = option(
        None, help="most tokens of prompt plus answer; none: the model's own", minimum=16
    )
    image_position: str = option(
        "as-sent",
        help="where images stand in a user message, relative to its text",
        choices=("as-sent", "before", "after"),
    )
    speculate: str = option(
        "off",
        help="compute what an answer is likely to say next together, where that pays; it changes "
        "nothing but the time; auto, lookup: as it, or its prompt, has gone on before; a folder: "
        "as the smaller model in it says, which shares this one's tokenizer",
        unit="off, auto, lookup or a folder",
    )
    stall_timeout: float = option(
        30.0,
        help="how long the engine may neither step nor compute, jobs active, before it is killed",
        unit="seconds",
        minimum=0.5,
    )
    drain_timeout: float = option(
        4.0,
        help="how long running jobs may go on after SIGTERM before they are handed over",
        unit="seconds; honcho kills after 5",
        minimum=0,
    )
    recycle_after_requests: int = option(
        0, help="restart the engine after this many requests; 0: never", minimum=0
    )
    recycle_memory_gib: float = option(
        0.0, help="restart the engine above this much memory; 0: never", unit="GiB", minimum=0
    )
    prefix_cache_gib: float = option(
        1.0, help="most memory for cached prompt prefixes", unit="GiB", minimum=0
    )
    vision_cache_gib: float = option(
        0.25, help="most memory for cached image features", unit="GiB", minimum=0
    )
    proof_cache: str = option(
        "",
        help="where it is remembered that a model's answers are right; none: in the user's caches",
    )
    name: str = option("", help="this worker's name in logs and statistics; none: made up")
    engine: str = option(
        "mlx", help="what generates; scripted plays scripts for tests", choices=("mlx", "scripted")
    )
    worker_key: str = option("", help="this worker's CURVE secret key file (scripts/keys)")
    gateway_key: str = option("", help="the gateway's CURVE public key file")
    log_level: str = option("info", help="how much is logged", choices=LEVELS)
    log_format: str = option("auto", help="auto: text on a terminal, else JSON", choices=FORMATS)

    def __post_init__(self) -> None:
        if not self.gateway:
            raise SettingsError("--gateway: name at least one endpoint")
        if self.max_concurrency + self.max_streams == 0:
            raise SettingsError("--max-concurrency and --max-streams: at least one must be above 0")
        drafter = self.drafter_folder
        if drafter is not None and not (drafter / "config.json").is_file():
            raise SettingsError(
                f"--speculate: expected {', '.join(WITHOUT_MODEL)} or a model's folder, and "
                f"{self.speculate!r} is none of them"
            )
        if bool(self.worker_key) != bool(self.gateway_key):
            raise SettingsError("--worker-key and --gateway-key go together")
        if self.is_host and self.served_model_name:
            raise SettingsError(
                "--served-model-name goes with one model; of several, name each with "
                "--model-path NAME=PATH, or in the file of --models"
            )
        for name, path in self.named_paths:
            if not name or not path:
                raise SettingsError("--model-path: expected NAME=PATH, and one of them is empty")
        self._check_names()
        for endpoint in self.gateway:
            check_endpoint("--gateway", endpoint)
        if self.worker_key:
            check_key_file("--worker-key", self.worker_key, secret=True)
            check_key_file("--gateway-key", self.gateway_key, secret=False)

    def _check_names(self) -> None:
        most = MOST_HOST_NAME_CHARACTERS if self.is_host else MOST_NAME_CHARACTERS
        if len(self.name) > most or not self.name.isprintable():
            raise SettingsError(f"--name: expected at most {most} characters that can be printed")
        names = () if self.is_host else self.model_names
        if len(names) > MOST_MODEL_NAMES:
            raise SettingsError(f"--served-model-name: at most {MOST_MODEL_NAMES} are served")
        for name in names:
            if not 0 < len(name) <= MOST_NAME_CHARACTERS or not name.isprintable():
                raise SettingsError(f"--served-model-name: {name!r} is no name for a model")

    def engine_options(self) -> EngineOptions:
        return EngineOptions(
            model_path=self.model,
            trust_remote_code=self.trust_remote_code,
            max_context=self.max_context,
            image_position=self.image_position,
            speculate=self.speculate,
            prefix_cache_bytes=int(self.prefix_cache_gib * GIB),
            vision_cache_bytes=int(self.vision_cache_gib * GIB),
            proof_cache=self.proof_cache,
        )

    @property
    def drafter_folder(self) -> Path | None:
        """Of the model that drafts; None: there is none."""
        return None if self.speculate in WITHOUT_MODEL else expanded(self.speculate)

    @property
    def is_host(self) -> bool:
        """Whether it is given several models, each to be loaded when it is asked for."""
        return bool(self.models or self.models_dir or len(self.named_paths) > 1)

    @property
    def named_paths(self) -> list[tuple[str, str]]:
        """What `--model-path` names: each with its name, which may be taken from the path."""
        return [_named(value) for value in self.model_path if value]

    @property
    def model(self) -> str:
        """The folder or hub id to load, where it is one."""
        return next((path for _, path in self.named_paths), str(BUILT_IN_MODEL))

    @property
    def model_names(self) -> tuple[str, ...]:
        """Of the one model."""
        if self.served_model_name:
            return self.served_model_name
        return (next((name for name, _ in self.named_paths), DEMO_MODEL_NAME),)


def _named(value: str) -> tuple[str, str]:
    name, path = split_name(value)
    if path != value:
        return name, path
    folder = expanded(path)
    return (folder.resolve().name if folder.exists() else path, path)

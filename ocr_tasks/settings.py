"""The settings of the service.

Each is an environment variable `OCR_…`. They are read once, here. Extensions have settings of their
own, which are read in the same way.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import math
import os
import re
import tempfile
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from ocr_tasks.errors import SettingsError
from ocr_tasks.setting_types import HOST, CommaList, HostName, Network, Origin, matches

MIB = 1024 * 1024
DAY = 24 * 3600


#: Services whose APIs the web server can offer.
DIALECTS = ("azure", "nextcloud", "demo")

#: Options of a Redis URL whose value is a file or a folder of files.
_TLS_FILES = {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}


def _is_secret(value: str) -> str:
    try:
        length = len(base64.b64decode(value.removeprefix("whsec_"), validate=True))
    except ValueError:
        length = 0
    if not value.startswith("whsec_") or not 24 <= length <= 64:
        raise ValueError("each secret must be whsec_ followed by 24 to 64 bytes in Base64")
    return value


Dialect = Annotated[str, matches("|".join(DIALECTS), f"is not one of {', '.join(DIALECTS)}")]
WebhookSecret = Annotated[str, AfterValidator(_is_secret)]


class Base(BaseSettings):
    """Settings of a part of the service.

    Each field is read from `OCR_` plus its name in upper case.
    """

    model_config = SettingsConfigDict(env_prefix="OCR_", frozen=True, extra="ignore")


class Settings(Base):
    """The settings of the service, except those of its extensions."""

    data_dir: Path = Field(
        Path("data"),
        description="Folder for all persistent data: documents, results and the embedded Redis. "
        "Web server and workers must use the same folder.",
    )
    storage_url: str = Field(
        "",
        description="Bucket for documents and results, e.g. `s3://bucket` or "
        "`s3://bucket/prefix`. OCR_DATA_DIR is then temporary storage of each host and need not "
        "be shared. Empty: the data folder.",
    )
    s3_endpoint: str = Field(
        "",
        description="URL of the S3 server, e.g. `https://s3.example`. Empty: AWS_ENDPOINT_URL, "
        "otherwise Amazon S3.",
    )
    s3_region: str = Field(
        "", description="Region of the bucket. Empty: AWS_REGION, otherwise us-east-1."
    )
    s3_access_key_id: str = Field(
        "",
        description="Access key id for the bucket. Empty: AWS_ACCESS_KEY_ID, otherwise the role "
        "of this machine.",
    )
    s3_secret_access_key: str = Field(
        "",
        description="Secret access key for the bucket. Empty: AWS_SECRET_ACCESS_KEY.",
        repr=False,
    )
    s3_allow_http: bool = Field(
        False,
        description="Allow connections to the S3 server without TLS. Use only on a private "
        "network.",
    )
    redis_url: str = Field(
        "",
        description="URL of Redis: redis://, rediss:// or unix:///path. With rediss:// its "
        "certificate is verified against the system's certificate authorities, or those in the "
        "file of ?ssl_ca_certs=/path. Empty: `ocr-tasks up` starts an embedded Redis in the data "
        "folder.",
    )
    redis_password: str = Field(
        "", description="Password of Redis, if OCR_REDIS_URL contains none.", repr=False
    )
    secrets_dir: Path | None = Field(
        None,
        description="Folder with one file per setting, named like the variable in lower case, "
        "e.g. `ocr_redis_password`: the secrets of containers (/run/secrets) and of systemd. "
        "Variables override files.",
    )
    host: str = Field(
        "127.0.0.1", description="IP address or host name on which the web server listens."
    )
    port: int = Field(8000, ge=1, le=65535, description="Port on which the web server listens.")
    published_host: str = Field(
        "",
        description="Host IP address on which a container's port is published. Replaces OCRHOST "
        "where the service decides who can reach the server.",
    )
    web_processes: int = Field(2, ge=1, le=64, description="Number of web server processes.")
    web_threads: int = Field(
        64,
        ge=4,
        le=1000,
        description="Number of threads per web server process. A client that streams events or "
        "waits for a job occupies one.",
    )
    access: Literal["auto", "tokens", "open"] = Field(
        "auto",
        description="Access control of the API. auto: open while only this machine can reach the "
        "server (OCRHOST is a loopback address and OCR_TRUSTED_PROXIES is 0), otherwise tokens. "
        "tokens: every client needs a token (`ocr-tasks tokens create`). open: none does.",
    )
    hosts: CommaList[HostName] = Field(
        (),
        description="Comma-separated host names under which clients reach this server, in "
        "addition to those of loopback. Requests for other names are rejected. Empty: none on a "
        "loopback address, otherwise any.",
    )
    allowed_networks: CommaList[Network] = Field(
        (),
        description="Comma-separated networks from which clients may connect, e.g. "
        "`10.0.0.0/8,fd00::/8`. Empty: all.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="Number of proxies in front of the server, each of which appends to "
        "X-Forwarded-For and X-Forwarded-Proto. 0: these headers are ignored.",
    )
    cors_origins: CommaList[Origin] = Field(
        (),
        description="Comma-separated origins of web sites whose pages may use the API with a "
        "token of their own, e.g. `https://scans.example`. Empty: none.",
    )
    limit_requests_minute: int = Field(
        0,
        ge=0,
        description="Maximum requests per minute per token, or per IP address if access is open. "
        "0: unlimited.",
    )
    limit_submits_minute: int = Field(
        0,
        ge=0,
        description="Maximum submitted documents per minute per token or IP address, including "
        "rejected ones. 0: unlimited.",
    )
    limit_pages_day: int = Field(
        0, ge=0, description="Maximum pages in 24 hours per token or IP address. 0: unlimited."
    )
    limit_waiting_jobs: int = Field(
        0, ge=0, description="Maximum waiting jobs per token. 0: unlimited."
    )
    limit_open_uploads: int = Field(
        1000,
        ge=0,
        description="Maximum resumable uploads per token that have not become a job; if access is "
        "open, of all clients together. 0: unlimited.",
    )
    limit_failures_minute: int = Field(
        30,
        ge=0,
        description="Maximum wrong tokens per minute per IP address (IPv6: per /64) before it "
        "receives 429. 0: unlimited.",
    )
    worker_processes: int = Field(
        0, ge=0, le=256, description="Number of processes per worker. 0: one per core."
    )
    worker_nice: int = Field(
        5,
        ge=0,
        le=19,
        description="Niceness of the processes that run OCR, so that the web server responds "
        "quickly while all cores are busy (see nice(2)). 0: the same as the web server.",
    )

    max_upload_bytes: int = Field(
        2048 * MIB, ge=1024, description="Maximum size in bytes of the files in one request."
    )
    resumable_bytes: int = Field(
        50_000_000,
        ge=0,
        description="File size in bytes from which the web page uses resumable uploads. 0: never.",
    )
    max_files: int = Field(
        500, ge=1, le=10000, description="Maximum number of files in one request."
    )
    max_pages: int = Field(5000, ge=1, description="Maximum number of pages of a document.")
    max_page_inches: float = Field(
        120, gt=0, le=200, description="Maximum length in inches of the longest side of a page."
    )
    max_image_megapixels: float = Field(
        250,
        gt=0,
        description="Maximum size in megapixels of an image. The image of a page for OCR gets a "
        "lower resolution if it would be larger.",
    )
    job_seconds: int = Field(
        4 * 3600, ge=1, description="Seconds after which a running job is ended."
    )
    page_seconds: float = Field(
        180,
        gt=0,
        le=3600,
        description="Seconds each for scanning a page, for drawing it and for Tesseract on it. "
        "Ghostscript may take as long, plus two seconds per page.",
    )
    helpers_max: int = Field(
        32,
        ge=0,
        le=1000,
        description="Maximum number of worker processes that help the owner of a document. 0: "
        "each document is processed by one process, in threads.",
    )
    turn_seconds: int = Field(
        30,
        ge=0,
        description="Seconds that a document runs before it yields to a waiting one when every "
        "process owns a document.",
    )
    lease_seconds: int = Field(
        20,
        ge=2,
        description="Seconds without a heartbeat after which other workers take over the "
        "documents and pages of a worker.",
    )
    losses_max: int = Field(
        3,
        ge=1,
        le=100,
        description="Number of workers that may crash with a job before it fails, because the "
        "job may be the cause.",
    )
    spread_pages: int = Field(
        2,
        ge=2,
        description="Number of pages from which a document is distributed over several processes.",
    )
    grey: bool = Field(
        False,
        description="Pass color pages to Tesseract in grayscale: about 20 % less time at the same "
        "error rate, but the text can differ from OCRmyPDF's. The PDF keeps its colors.",
    )
    plugins: CommaList[str] = Field(
        (),
        description="Comma-separated OCRmyPDF plugins to load in addition to `ocr_tasks.plugin`, "
        "as module names or file paths. Workers must have the same ones.",
    )
    check_seconds: int = Field(
        120, ge=1, description="Seconds that the check of an upload may take."
    )
    check_memory_bytes: int = Field(
        4096 * MIB, ge=256 * MIB, description="Maximum memory in bytes for the check of an upload."
    )
    worker_memory_bytes: int = Field(
        8192 * MIB,
        ge=512 * MIB,
        description="Maximum memory in bytes of a process that runs OCR, and of each program that "
        "it starts. A color page at 1200 DPI needs 2.4 GiB.",
    )
    worker_file_bytes: int = Field(
        16384 * MIB, ge=1 * MIB, description="Maximum size in bytes of a file that a worker writes."
    )
    confine: bool = Field(
        True,
        description="Restrict processes that handle documents with Landlock, if the kernel "
        "supports it: they may only read system files, jobs and uploaded OCR-D workspaces, only "
        "write jobs and these workspaces, and only connect to Redis. Plugins that need more "
        "access do not work.",
    )
    queue_max: int = Field(
        1000,
        ge=1,
        description="Maximum number of waiting jobs; further submissions are rejected with 503.",
    )
    reserve_bytes: int = Field(
        256 * MIB,
        ge=0,
        description="Bytes that stay free on the storage; submissions that would leave less are "
        "rejected.",
    )
    default_languages: str = Field(
        "eng", description="Languages of a job that selects none, joined with `+`."
    )
    keep_inputs_seconds: int = Field(
        30 * DAY,
        ge=0,
        description="Seconds for which the uploaded document is kept after the end of the job, so "
        "that the job can be retried. 0: as long as the job.",
    )
    keep_results_seconds: int = Field(
        30 * DAY,
        ge=0,
        description="Seconds for which results are kept after the end of the job. 0: as long as "
        "the job.",
    )
    keep_jobs_seconds: int = Field(
        90 * DAY,
        ge=0,
        description="Seconds for which a job is kept after its end. 0: until it is deleted.",
    )
    keep_uploads_seconds: int = Field(
        DAY,
        ge=60,
        description="Seconds for which a resumable upload that has not become a job is kept after "
        "its last chunk.",
    )
    idempotency_seconds: int = Field(
        DAY,
        ge=60,
        description="Seconds for which an Idempotency-Key is stored.",
    )
    reuse_results: bool = Field(
        False,
        description="Return the existing job if the same client has already submitted the "
        "document with the same options.",
    )
    preview_pixels: int = Field(
        900,
        ge=0,
        le=4000,
        description="Width in pixels of the preview image of a page. 0: no previews.",
    )
    progress_interval: float = Field(
        0.25, ge=0.05, le=10, description="Minimum seconds between two progress reports of a job."
    )
    wait_max: int = Field(
        60,
        ge=0,
        le=600,
        description="Maximum seconds that a request may wait for a change (?wait=).",
    )
    body_seconds: int = Field(
        60,
        ge=1,
        description="Seconds that a client may pause within a request; after this time it must "
        "also have sent 1000 bytes per second.",
    )
    stream_seconds: int = Field(
        300,
        ge=5,
        description="Seconds after which an event stream is closed; clients reconnect and resume.",
    )
    tombstone_seconds: int = Field(
        30 * DAY,
        ge=60,
        description="Seconds for which requests for a deleted job return 410 instead of 404.",
    )
    stop_seconds: int = Field(
        8, ge=1, le=600, description="Seconds that a worker has to finish when it is stopped."
    )
    alive_file: Path | None = Field(
        None,
        description="File that a worker touches every few seconds while it accepts tasks. An "
        "outdated file means that the worker is stuck.",
    )
    send_webhooks: bool = Field(
        True,
        description="Send webhooks from workers. Set to false if `ocr-tasks courier` sends them, "
        "so that workers need no access to other networks.",
    )
    callback_networks: CommaList[Network] = Field(
        (),
        description="Comma-separated private networks to which webhooks may be sent, and from "
        "which documents and METS files may be downloaded, e.g. `192.168.7.0/24`.",
    )
    fetch_seconds: float = Field(
        120,
        ge=1,
        le=3600,
        description="Seconds that the download of a document from a client's URL may take.",
    )
    webhook_secrets: CommaList[WebhookSecret] = Field(
        (),
        description="Comma-separated secrets for signing webhooks, each `whsec_` followed by "
        "Base64, newest first. Empty: one is generated and stored in the data folder; `ocr-tasks "
        "webhooks` prints it.",
        repr=False,
    )
    dialects: CommaList[Dialect] = Field(
        (),
        description="Comma-separated APIs of other services that the web server offers in "
        "addition: azure (Azure Document Intelligence, for Paperless-ngx and Azure's SDKs), "
        "nextcloud (the OCR back end of Nextcloud), demo (OCR with progress). Empty: none.",
    )
    flower_host: str = Field(
        "127.0.0.1", description="IP address or host name on which `ocr-tasks flower` listens."
    )
    flower_port: int = Field(
        5555, ge=1, le=65535, description="Port on which `ocr-tasks flower` listens."
    )
    flower_user: str = Field(
        "ocr", pattern=r"^[!-9;-~]+$", description="User name for Flower, with OCR_FLOWER_PASSWORD."
    )
    flower_password: str = Field(
        "",
        pattern=r"^[ -~]*$",
        description="Password for Flower. Empty: none, which is allowed on a loopback address "
        "only.",
        repr=False,
    )
    flower_writable: bool = Field(
        False,
        description="Allow changes in Flower: cancel jobs, stop workers, send tasks. Requires a "
        "password.",
    )
    flower_names: bool = Field(
        True,
        description="Show the names of documents in Flower. Web servers and workers need the same "
        "value, which applies to new jobs.",
    )
    flower_url_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9/_-]*$",
        description="Path under which a proxy serves Flower, e.g. `flower`. Empty: the root.",
    )
    failpoints: str = Field(
        "",
        description="Comma-separated points at which a process kills itself, with probabilities, "
        "e.g. `after_claim=0.1,before_commit=0.05`. For tests only.",
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto",
        description="Format of log lines: text, json (one object per line), or auto: text on a "
        "terminal, otherwise JSON.",
    )
    log_level: str = Field(
        "INFO", description="Minimum level of log messages: DEBUG, INFO, WARNING or ERROR."
    )

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("storage_url")
    @classmethod
    def _storage(cls, value: str) -> str:
        if value and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,62}(/[\w!.*'()-]+)*/?", value):
            raise ValueError("use the form s3://bucket or s3://bucket/prefix")
        return value.rstrip("/")

    @field_validator("s3_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value and not re.fullmatch(rf"https?://{HOST}(:[0-9]+)?/?", value):
            raise ValueError("use the form https://s3.example or http://store:8333")
        return value.rstrip("/")

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("choose DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @field_validator("redis_url")
    @classmethod
    def _scheme(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "unix:///")):
            raise ValueError("the URL must start with redis://, rediss:// or unix:///")
        tls = _tls_options(value)
        if tls and not value.startswith("rediss://"):
            raise ValueError("TLS options require rediss://")
        if tls.get("ssl_cert_reqs", "required") not in {"required", "optional", "none"}:
            raise ValueError("ssl_cert_reqs must be required, optional or none")
        for name in _TLS_FILES & tls.keys():
            if not os.access(tls[name], os.R_OK):
                raise ValueError(f"{name}: {tls[name]} cannot be read")
        return value

    @model_validator(mode="after")
    def _key_is_whole(self) -> Self:
        if bool(self.s3_access_key_id) != bool(self.s3_secret_access_key):
            raise ValueError(
                "set both OCR_S3_ACCESS_KEY_ID and OCR_S3_SECRET_ACCESS_KEY, or neither"
            )
        if self.s3_endpoint.startswith("http://") and not self.s3_allow_http:
            raise ValueError(
                "OCR_S3_ENDPOINT is without TLS; set OCR_S3_ALLOW_HTTP=1 to allow this"
            )
        return self

    @model_validator(mode="after")
    def _password_fits(self) -> Self:
        if self.redis_password and not self.redis_url.startswith(("redis://", "rediss://")):
            raise ValueError(
                "OCR_REDIS_PASSWORD requires an OCR_REDIS_URL with redis:// or rediss://"
            )
        return self

    @property
    def bucket(self) -> tuple[str, str]:
        """Returns bucket and prefix of `storage_url`; both are empty if it is not set."""
        name, _, prefix = self.storage_url.removeprefix("s3://").partition("/")
        return name, prefix

    @property
    def redis(self) -> str:
        """Returns the URL of Redis, with the password; without `redis_url`, of the embedded one."""
        if not self.redis_url:
            return f"unix://{self.redis_socket}"
        if not self.redis_password:
            return self.redis_url
        parts = urlsplit(self.redis_url)
        user, _, host = parts.netloc.rpartition("@")
        name, password = user.partition(":")[0], quote(self.redis_password, safe="")
        return urlunsplit(parts._replace(netloc=f"{name}:{password}@{host}"))

    @property
    def redis_files(self) -> list[Path]:
        """Returns the files that the URL of Redis names for TLS."""
        tls = _tls_options(self.redis)
        return [Path(tls[name]) for name in _TLS_FILES & tls.keys()]

    @property
    def redis_port(self) -> int | None:
        """Returns the TCP port of Redis; None if it listens on a Unix socket."""
        if self.redis.startswith("unix://"):
            return None
        return urlsplit(self.redis).port or 6379

    @property
    def redis_socket(self) -> Path:
        """Returns the socket path of the embedded Redis.

        It is in the data folder, or in a private temporary folder if the path would be too long:
        Unix limits the path of a socket to 107 bytes (man 7 unix). TMPDIR can be too long as well.
        """
        socket = self.data_dir / "redis" / "redis.sock"
        digest = hashlib.sha256(os.fsencode(socket)).hexdigest()[:16]
        name = f"ocr-tasks-{os.getuid()}-{digest}"
        temporary = Path(tempfile.gettempdir()) / name / "redis.sock"
        places = (socket, temporary)
        short = (place for place in places if len(os.fsencode(place)) < 100)
        return next(short, Path("/tmp") / name / "redis.sock")  # noqa: S108  # a private folder

    @property
    def celery_redis(self) -> str:
        """Returns the URL of Redis in the form of Celery's broker and result backend."""
        url = self.redis
        if not url.startswith("unix://"):
            return url
        path, _, query = url.removeprefix("unix://").partition("?")
        database = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair).get("db")
        return f"socket://{path}?virtual_host={database or 0}"

    @property
    def on_loopback(self) -> bool:
        """Returns whether only this machine can reach the web server."""
        return is_loopback(self.published_host or self.host)

    @property
    def needs_tokens(self) -> bool:
        """Returns whether clients need a token."""
        if self.access == "auto":
            return not self.on_loopback or self.trusted_proxies > 0
        return self.access == "tokens"

    @property
    def processes(self) -> int:
        """Returns the number of processes of a worker on this machine."""
        return self.worker_processes or cores()


def _tls_options(url: str) -> dict[str, str]:
    """Returns the TLS options of a Redis URL, by their names in redis-py."""
    query = parse_qsl(urlsplit(url).query)
    return {name: value for name, value in query if name.startswith("ssl_")}


@lru_cache(maxsize=256)  # called on each request, mostly with the same few hosts
def is_loopback(host: str) -> bool:
    """Returns whether a host name or IP address is loopback (RFC 6761, section 6.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


#: The variables for access control; a server that is started for one user needs none of them.
WHO_MAY = frozenset(
    f"OCR_{name.upper()}"
    for name in Settings.model_fields
    if name.startswith("limit_")
    or name in ("access", "hosts", "allowed_networks", "trusted_proxies", "cors_origins")
)


@lru_cache(maxsize=1)
def cores() -> int:
    """Returns the number of cores that this process may use, capped by its control group."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), _core_seconds(Path("/")))))


def _core_seconds(root: Path) -> float:
    """Returns the CPU seconds per second of this process's control group; see cgroups(7)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        group = next(line for line in lines if line.startswith("0::")).removeprefix("0::/")
        quota, period = (root / "sys/fs/cgroup" / group / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, StopIteration):  # no limit, or no control groups v2
        return math.inf


Group = TypeVar("Group", bound=Base)


def get() -> Settings:
    """Returns the settings of this process; raises `SettingsError` for invalid ones."""
    return of(Settings)


def of(group: type[Group]) -> Group:
    """Returns the settings of a part of the service; raises `SettingsError` for invalid ones."""
    return cast("Group", _load(group))


def clear() -> None:
    """Lets the settings be read again when they are needed."""
    _load.cache_clear()


@cache
def _load(group: type[Base]) -> Base:
    secrets = os.environ.get("OCR_SECRETS_DIR") or None
    if secrets and not Path(secrets).is_dir():
        raise SettingsError(f"OCR_SECRETS_DIR: {secrets} is not a folder")
    try:
        return group(_secrets_dir=secrets)
    except ValidationError as error:
        raise SettingsError("\n".join(map(_message, error.errors()))) from None
    except OSError as error:
        raise SettingsError(f"OCR_SECRETS_DIR: {error.filename}: {error.strerror}") from None


def _message(row: ErrorDetails) -> str:
    name = f"OCR_{str(row['loc'][0]).upper()}: " if row["loc"] else ""
    return f"{name}{row['msg'].removeprefix('Value error, ')}"

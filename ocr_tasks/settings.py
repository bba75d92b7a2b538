"""Every setting there is: an `OCR_…` environment variable each, read once, here."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import math
import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from ocr_tasks.errors import SettingsError

MIB = 1024 * 1024
DAY = 24 * 3600

_HOST = r"([a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"

#: Services whose interfaces the web server can speak.
DIALECTS = ("azure", "nextcloud", "demo")

#: The options of an address of Redis that name a file or a folder of files.
_TLS_FILES = {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}

#: The OCR-D processor that comes with this package.
OWN_PROCESSOR = "ocrd-ocr-tasks-recognize"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Settings(BaseSettings):
    """The service's settings. Each field is read from `OCR_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="OCR_", frozen=True, extra="ignore")

    data_dir: Path = Field(
        Path("data"),
        description="Folder for everything that lasts: documents, results, the embedded Redis. "
        "Web and workers need the same one.",
    )
    storage_url: str = Field(
        "",
        description="Bucket in which documents and results are kept, as s3://bucket or "
        "s3://bucket/prefix. OCR_DATA_DIR is then scratch of each host, which others need not "
        "see. Empty: they are kept in the data folder.",
    )
    s3_endpoint: str = Field(
        "",
        description="Address of the S3 server, such as https://s3.example. Empty: "
        "AWS_ENDPOINT_URL, else Amazon's.",
    )
    s3_region: str = Field(
        "", description="Region of the bucket. Empty: AWS_REGION, else us-east-1."
    )
    s3_access_key_id: str = Field(
        "",
        description="Name of the key for the bucket. Empty: AWS_ACCESS_KEY_ID, else the role of "
        "this machine.",
    )
    s3_secret_access_key: str = Field(
        "", description="Secret of that key. Empty: AWS_SECRET_ACCESS_KEY.", repr=False
    )
    s3_allow_http: bool = Field(
        False,
        description="Whether the S3 server may be asked without TLS: only within a network that "
        "nobody else is in.",
    )
    redis_url: str = Field(
        "",
        description="Redis to use, as redis://, rediss:// or unix:///path. With rediss:// its "
        "certificate is verified, by the authorities of the system or those in the file of "
        "?ssl_ca_certs=/path. Empty: `ocr-tasks up` starts one of its own in the data folder.",
    )
    redis_password: str = Field(
        "", description="Password of Redis, where its address does not hold one.", repr=False
    )
    secrets_dir: Path | None = Field(
        None,
        description="Folder of files that are settings, each named like its variable in small "
        "letters, such as ocr_redis_password: the secrets of containers (/run/secrets) and of "
        "systemd. Variables count before files.",
    )
    host: str = Field("127.0.0.1", description="Address on which the web server listens.")
    port: int = Field(8000, ge=1, le=65535, description="Port on which the web server listens.")
    published_host: str = Field(
        "",
        description="Address of the host at which a container's port is published. It then counts "
        "in place of OCR_HOST where it matters who can reach the server.",
    )
    web_processes: int = Field(2, ge=1, le=64, description="Processes of the web server.")
    web_threads: int = Field(
        64,
        ge=4,
        le=1000,
        description="Threads of each web process. A client that streams events or waits for a job "
        "holds one.",
    )
    access: Literal["auto", "tokens", "open"] = Field(
        "auto",
        description="Who may use the API. auto: everybody while only this machine can reach it "
        "(OCR_HOST is a loopback address and OCR_TRUSTED_PROXIES is 0), else holders of a token "
        "(`ocr-tasks tokens create`). tokens: always holders of a token. open: always everybody.",
    )
    hosts: str = Field(
        "",
        description="Names, joined by commas, by which clients call this server, beside those of "
        "loopback. Requests for other names are refused. Empty: none on a loopback address, any "
        "elsewhere.",
    )
    allowed_networks: str = Field(
        "",
        description="Networks, such as 10.0.0.0/8,fd00::/8, from which clients may come. Empty: "
        "all.",
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="Proxies in front of the server, each of which appends to X-Forwarded-For and "
        "X-Forwarded-Proto. 0: such headers are not believed.",
    )
    cors_origins: str = Field(
        "",
        description="Web sites, such as https://scans.example, joined by commas, whose pages may "
        "use the API with a token of theirs. Empty: none.",
    )
    limit_requests_minute: int = Field(
        0,
        ge=0,
        description="Requests a minute of a token, or of an address where access is open. 0: any.",
    )
    limit_submits_minute: int = Field(
        0,
        ge=0,
        description="Documents a minute, likewise, those that are refused included. 0: any.",
    )
    limit_pages_day: int = Field(0, ge=0, description="Pages in 24 hours, likewise. 0: any number.")
    limit_waiting_jobs: int = Field(
        0, ge=0, description="Jobs of a token that may wait at the same time. 0: any number."
    )
    limit_open_uploads: int = Field(
        1000,
        ge=0,
        description="Resumable uploads of a token that may be there without being a job yet; where "
        "access is open, of all clients together. 0: any number.",
    )
    limit_failures_minute: int = Field(
        30,
        ge=0,
        description="Wrong tokens a minute of an address, IPv6 by /64, before it gets 429. 0: any.",
    )
    worker_processes: int = Field(
        0, ge=0, le=256, description="Processes of a worker. 0: one for each core."
    )

    max_upload_bytes: int = Field(
        2048 * MIB, ge=1024, description="Bytes that one request may upload."
    )
    resumable_bytes: int = Field(
        50_000_000,
        ge=0,
        description="Bytes from which on the web page sends files in pieces, so that an upload "
        "goes on after the line broke. 0: never.",
    )
    max_files: int = Field(500, ge=1, le=10000, description="Files that one request may hold.")
    max_pages: int = Field(5000, ge=1, description="Pages that a document may have.")
    max_page_inches: float = Field(
        120, gt=0, le=200, description="Longest side that a page may have, in inches."
    )
    max_image_megapixels: float = Field(
        250, gt=0, description="Million pixels that a single image may have."
    )
    job_seconds: int = Field(
        4 * 3600, ge=1, description="Seconds after which a running job is ended."
    )
    page_seconds: float = Field(
        180, gt=0, le=3600, description="Seconds after which Tesseract gives up on a page."
    )
    helpers_max: int = Field(
        32,
        ge=0,
        le=1000,
        description="Worker processes that may help the one that owns a document. 0: each document "
        "is read by one process, in threads.",
    )
    turn_seconds: int = Field(
        30,
        ge=0,
        description="Seconds for which a document is read before it steps aside for one that "
        "waits, where every process has a document of its own.",
    )
    lease_seconds: int = Field(
        20,
        ge=2,
        description="Seconds without a sign of life from a worker after which others go on with "
        "its documents, and with the page that it reads for another.",
    )
    losses_max: int = Field(
        3,
        ge=1,
        le=100,
        description="Workers that may die with a job before it fails: it may be what kills them.",
    )
    spread_pages: int = Field(
        2, ge=2, description="Pages from which on a document is spread over several processes."
    )
    grey: bool = Field(
        False,
        description="Whether Tesseract reads coloured pages in grey: a quarter less work, and "
        "as few mistakes, but not letter for letter OCRmyPDF's. The PDF keeps its colours.",
    )
    plugins: str = Field(
        "",
        description="OCRmyPDF plugins to load beside ours, as names of modules or paths of files, "
        "joined by commas. Workers need the same ones.",
    )
    check_seconds: int = Field(
        120, ge=1, description="Seconds that looking into an upload may take."
    )
    check_memory_bytes: int = Field(
        4096 * MIB, ge=256 * MIB, description="Memory that looking into an upload may take."
    )
    worker_memory_bytes: int = Field(
        8192 * MIB,
        ge=512 * MIB,
        description="Memory that a process which reads documents may take, and each program that "
        "it starts. A page of 1200 dpi in colour takes 2.4 GiB.",
    )
    worker_file_bytes: int = Field(
        16384 * MIB, ge=1 * MIB, description="Bytes that a file may have which a worker writes."
    )
    confine: bool = Field(
        True,
        description="Whether processes that look into documents may only read system files and "
        "jobs, only write jobs, and only connect to Redis, where Linux can hold them to it "
        "(Landlock). Plugins that need more do not work with it.",
    )
    queue_max: int = Field(
        1000, ge=1, description="Jobs that may wait; a submit beyond is refused with 503."
    )
    reserve_bytes: int = Field(
        256 * MIB,
        ge=0,
        description="Bytes that stay free on the storage; a submit that would go below is refused.",
    )
    default_languages: str = Field(
        "eng", description="Languages of a job that names none, joined by +."
    )
    keep_inputs_seconds: int = Field(
        30 * DAY,
        ge=0,
        description="Seconds after a job's end for which the uploaded document is kept, so that "
        "the job can be run again. 0: as long as the job.",
    )
    keep_results_seconds: int = Field(
        30 * DAY,
        ge=0,
        description="Seconds after a job's end for which its results are kept. 0: as long as it.",
    )
    keep_jobs_seconds: int = Field(
        90 * DAY,
        ge=0,
        description="Seconds after its end for which a job is kept at all. 0: until it is deleted.",
    )
    keep_uploads_seconds: int = Field(
        DAY,
        ge=60,
        description="Seconds after its last piece for which a resumable upload is kept that has "
        "not become a job.",
    )
    idempotency_seconds: int = Field(
        DAY,
        ge=60,
        description="Seconds for which an Idempotency-Key is remembered.",
    )
    reuse_results: bool = Field(
        False,
        description="Whether a document that was read before with the same options, by the same "
        "client, is answered with that job.",
    )
    preview_pixels: int = Field(
        900, ge=0, le=4000, description="Width of the preview image of a page. 0: no previews."
    )
    progress_interval: float = Field(
        0.25, ge=0.05, le=10, description="Seconds between two progress reports of a job at least."
    )
    wait_max: int = Field(
        60, ge=0, le=600, description="Seconds that a request may wait for a change (?wait=)."
    )
    body_seconds: int = Field(
        60,
        ge=1,
        description="Seconds for which a client may send nothing in the middle of a request, and "
        "after which it must have sent 1000 bytes a second.",
    )
    stream_seconds: int = Field(
        300, ge=5, description="Seconds after which an event stream is ended; clients resume it."
    )
    tombstone_seconds: int = Field(
        30 * DAY, ge=60, description="Seconds for which a deleted job answers 410 instead of 404."
    )
    stop_seconds: int = Field(
        8, ge=1, le=600, description="Seconds that a worker has to end its jobs when it is stopped."
    )
    alive_file: Path | None = Field(
        None,
        description="File that a worker touches every few seconds while it takes tasks: an older "
        "one tells of a worker that is stuck.",
    )
    send_webhooks: bool = Field(
        True,
        description="Whether a worker sends webhooks. False where `ocr-tasks courier` does, so "
        "that workers need no way out of their network.",
    )
    callback_networks: str = Field(
        "",
        description="Networks that webhooks may be sent to although they are not public, joined by "
        "commas, such as 192.168.7.0/24. Also documents and METS files whose address a client "
        "gives may be fetched from there.",
    )
    fetch_seconds: float = Field(
        120,
        ge=1,
        le=3600,
        description="Seconds for fetching a document from the address that a client gives.",
    )
    webhook_secrets: str = Field(
        "",
        description="Secrets that sign webhooks, as whsec_ and base64, the newest first, joined by "
        "commas. Empty: one is made and kept in the data folder; `ocr-tasks webhooks` shows it.",
        repr=False,
    )
    swarm_lease_seconds: int = Field(
        60,
        ge=5,
        le=3600,
        description="Seconds for which a device of the swarm has a page, unless it asks for more "
        "time.",
    )
    swarm_docr_seconds: int = Field(
        900,
        ge=5,
        le=86400,
        description="Seconds for which a client of docr/smd has a page, as it cannot ask for more "
        "time.",
    )
    swarm_leases_max: int = Field(
        64, ge=1, le=10000, description="Pages that a device may have at the same time."
    )
    swarm_failures_max: int = Field(
        3,
        ge=1,
        le=100,
        description="Times that a page may fail or be kept too long until it is given to no device "
        "any more.",
    )
    swarm_pages_out: int = Field(
        32,
        ge=0,
        le=1000,
        description="Pages of a job that are out at devices at the same time. 0: none, whatever a "
        "job asks for.",
    )
    swarm_take_seconds: float = Field(
        30,
        ge=0,
        le=86400,
        description="Seconds for which a page of a job waits for a device to take it, before it is "
        "read here.",
    )
    swarm_page_seconds: float = Field(
        300,
        ge=1,
        le=86400,
        description="Seconds after which a page of a job that is out at devices is read here.",
    )
    swarm_transcript_bytes: int = Field(
        4 * MIB, ge=1024, description="Bytes that the transcript of a page may have."
    )
    swarm_check_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the pages that are read a second time, to see which devices can be "
        "believed.",
    )
    swarm_peers: str = Field(
        "",
        description="Addresses of other servers, such as https://scans.example, joined by commas, "
        "to which devices are sent when no page waits here.",
    )
    dialects: str = Field(
        "",
        description="Interfaces of other services that the web server speaks as well, joined by "
        "commas: azure (Azure Document Intelligence, for Paperless-ngx and Azure's SDKs), "
        "nextcloud (the OCR back end of Nextcloud), demo (OCR with progress). Empty: none.",
    )
    processors: str = Field(
        OWN_PROCESSOR,
        description="OCR-D processors that workers offer, comma-separated, e.g. "
        "ocrd-dummy,ocrd-ocr-tasks-recognize. A worker for documents offers "
        "ocrd-ocr-tasks-recognize in addition, unless OCR_STORAGE_URL or OCR_OCRD_FOLDERS is set. "
        "All other lists need a worker that takes no documents: `ocr-tasks up` starts one, and "
        "`ocr-tasks worker` becomes one. Empty: none.",
    )
    ocrd_path: str = Field(
        "",
        description="Folders, joined by colons, in which processors are looked for before those of "
        "PATH: the bin folders of the virtual environments that they are installed in.",
    )
    ocrd_folders: str = Field(
        "",
        description="Folders, joined by colons, of workspaces that are named by the path of their "
        "METS file, beside those that were uploaded. Web and workers need the same ones.",
    )
    ocrd_tries: int = Field(3, ge=1, le=10, description="Times that a processor is tried.")
    ocrd_existing_output: Literal["skip", "overwrite", "abort"] = Field(
        "skip",
        description="What happens to pages of an output file group that are there already: they "
        "are kept, made anew, or the job fails.",
    )
    ocrd_warm_processors: int = Field(
        4,
        ge=0,
        le=100,
        description="Processors that stay loaded, in each process of a worker. 0: every run "
        "starts its own.",
    )
    ocrd_max_bytes: int = Field(
        4096 * MIB, ge=1024, description="Bytes of the files of a workspace that is uploaded."
    )
    ocrd_max_files: int = Field(
        100_000, ge=1, description="Files of a workspace that is uploaded or fetched."
    )
    ocrd_max_mets_bytes: int = Field(
        128 * MIB, ge=1024, description="Bytes that a METS file may have."
    )
    ocrd_fetch_seconds: float = Field(
        300, ge=1, le=3600, description="Seconds for fetching a workspace from the address of METS."
    )
    ocrd_max_jobs: int = Field(
        100_000,
        ge=1,
        description="Jobs of processors that may be open at the same time. A workflow is "
        "one for each step; page by page, one for each step of each page.",
    )
    flower_host: str = Field(
        "127.0.0.1", description="Address on which `ocr-tasks flower` listens."
    )
    flower_port: int = Field(
        5555, ge=1, le=65535, description="Port on which `ocr-tasks flower` listens."
    )
    flower_user: str = Field(
        "ocr", pattern=r"^[!-9;-~]+$", description="Name that Flower asks for, with the password."
    )
    flower_password: str = Field(
        "",
        pattern=r"^[ -~]*$",
        description="Password that Flower asks for. Empty: none, which it takes on a loopback "
        "address only.",
        repr=False,
    )
    flower_writable: bool = Field(
        False,
        description="Whether Flower may change something: cancel jobs, stop workers, send tasks. "
        "Needs a password.",
    )
    flower_url_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9/_-]*$",
        description="Path under which a proxy shows Flower, such as flower. Empty: at its root.",
    )
    failpoints: str = Field(
        "",
        description="For tests: points at which a process kills itself, with their probabilities, "
        "as in after_claim=0.1,before_commit=0.05.",
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="text, json, or auto: text at a terminal, else JSON, a line an object."
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("storage_url")
    @classmethod
    def _storage(cls, value: str) -> str:
        if value and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,62}(/[\w!.*'()-]+)*/?", value):
            raise ValueError("write it as s3://bucket or s3://bucket/prefix")
        return value.rstrip("/")

    @field_validator("s3_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value and not re.fullmatch(rf"https?://{_HOST}(:[0-9]+)?/?", value):
            raise ValueError("write it as https://s3.example or http://store:8333")
        return value.rstrip("/")

    @field_validator("log_level")
    @classmethod
    def _level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("choose DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, value: str) -> str:
        for name in _names(value):
            if not re.fullmatch(_HOST, name, re.IGNORECASE):
                raise ValueError(f"{name!r} is no name of a host; give it without a port")
        return value

    @field_validator("allowed_networks", "callback_networks")
    @classmethod
    def _networks(cls, value: str) -> str:
        for name in _names(value):
            ipaddress.ip_network(name)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        for name in _names(value):
            if not re.fullmatch(rf"https?://{_HOST}(:[0-9]+)?", name):
                raise ValueError(f"{name!r} is no origin such as https://scans.example")
        return value

    @field_validator("processors")
    @classmethod
    def _processors(cls, value: str) -> str:
        for name in _names(value):
            if not re.fullmatch(r"ocrd-[a-z0-9][a-z0-9-]{0,99}|nextflow", name):
                raise ValueError(f"{name!r} is no processor such as ocrd-dummy")
            if name == "ocrd-command":
                raise ValueError("ocrd-command runs any command of a client, so it is not offered")
        return value

    @field_validator("dialects")
    @classmethod
    def _dialects(cls, value: str) -> str:
        for name in _names(value):
            if name not in DIALECTS:
                raise ValueError(f"{name!r} is none of {', '.join(DIALECTS)}")
        return value

    @field_validator("swarm_peers")
    @classmethod
    def _peers(cls, value: str) -> str:
        for name in _names(value):
            if not re.fullmatch(rf"https?://{_HOST}(:[0-9]+)?(/[!-~]*)?", name):
                raise ValueError(f"{name!r} is no address such as https://scans.example")
        return value

    @field_validator("redis_url")
    @classmethod
    def _scheme(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "unix:///")):
            raise ValueError("start it with redis://, rediss:// or unix:///")
        tls = _tls_options(value)
        if tls and not value.startswith("rediss://"):
            raise ValueError("options of TLS need rediss://")
        if tls.get("ssl_cert_reqs", "required") not in {"required", "optional", "none"}:
            raise ValueError("ssl_cert_reqs is required, optional or none")
        for name in _TLS_FILES & tls.keys():
            if not os.access(tls[name], os.R_OK):
                raise ValueError(f"{name}: {tls[name]} cannot be read")
        return value

    @model_validator(mode="after")
    def _key_is_whole(self) -> Self:
        if bool(self.s3_access_key_id) != bool(self.s3_secret_access_key):
            raise ValueError("OCR_S3_ACCESS_KEY_ID and OCR_S3_SECRET_ACCESS_KEY go together")
        if self.s3_endpoint.startswith("http://") and not self.s3_allow_http:
            raise ValueError("OCR_S3_ENDPOINT is without TLS, which OCR_S3_ALLOW_HTTP=1 allows")
        return self

    @model_validator(mode="after")
    def _password_fits(self) -> Self:
        if self.redis_password and not self.redis_url.startswith(("redis://", "rediss://")):
            raise ValueError(
                "OCR_REDIS_PASSWORD goes with an OCR_REDIS_URL of redis:// or rediss://"
            )
        return self

    @field_validator("webhook_secrets")
    @classmethod
    def _secrets(cls, value: str) -> str:
        for text in _names(value):
            try:
                length = len(base64.b64decode(text.removeprefix("whsec_"), validate=True))
            except ValueError:
                length = 0
            if not text.startswith("whsec_") or not 24 <= length <= 64:
                raise ValueError("each is whsec_ and 24 to 64 bytes in base64")
        return value

    @property
    def bucket(self) -> tuple[str, str]:
        """The bucket of `storage_url` and the prefix in it; empty where there is none."""
        name, _, prefix = self.storage_url.removeprefix("s3://").partition("/")
        return name, prefix

    @property
    def callback_allowed(self) -> list[Network]:
        """The networks of `callback_networks`."""
        return [ipaddress.ip_network(name) for name in _names(self.callback_networks)]

    @property
    def webhook_secret_list(self) -> list[str]:
        """The secrets as a list."""
        return _names(self.webhook_secrets)

    @property
    def redis(self) -> str:
        """The address of Redis for clients; that of the embedded one where none is set."""
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
        """The files that TLS to Redis needs, as its address names them."""
        tls = _tls_options(self.redis)
        return [Path(tls[name]) for name in _TLS_FILES & tls.keys()]

    @property
    def redis_port(self) -> int | None:
        """The TCP port of Redis, None where it listens on a Unix socket."""
        if self.redis.startswith("unix://"):
            return None
        return urlsplit(self.redis).port or 6379

    @property
    def redis_socket(self) -> Path:
        """Where the embedded Redis listens: the data folder, or a private one if that is too deep.

        Unix limits the path of a socket to 107 bytes (man 7 unix).
        """
        socket = self.data_dir / "redis" / "redis.sock"
        if len(os.fsencode(socket)) < 100:
            return socket
        digest = hashlib.sha256(os.fsencode(socket)).hexdigest()[:16]
        name = f"ocr-tasks-{os.getuid()}-{digest}"
        return Path(tempfile.gettempdir()) / name / "redis.sock"

    @property
    def celery_redis(self) -> str:
        """The same address in the form that Celery's broker and result backend take."""
        url = self.redis
        if not url.startswith("unix://"):
            return url
        path, _, query = url.removeprefix("unix://").partition("?")
        database = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair).get("db")
        return f"socket://{path}?virtual_host={database or 0}"

    @property
    def plugin_names(self) -> list[str]:
        """The plugins as a list."""
        return _names(self.plugins)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the web server."""
        return is_loopback(self.published_host or self.host)

    @property
    def needs_tokens(self) -> bool:
        """Whether clients need a token."""
        if self.access == "auto":
            return not self.on_loopback or self.trusted_proxies > 0
        return self.access == "tokens"

    @property
    def host_names(self) -> frozenset[str]:
        """The names by which clients call this server, in small letters; see `hosts`."""
        return frozenset(name.strip("[]").lower() for name in _names(self.hosts))

    @property
    def networks(self) -> list[Network]:
        """The networks from which clients may come; empty for all."""
        return [ipaddress.ip_network(name) for name in _names(self.allowed_networks)]

    @property
    def origins(self) -> frozenset[str]:
        """The web sites whose pages may use the API."""
        return frozenset(_names(self.cors_origins))

    @property
    def peers(self) -> list[str]:
        """The servers of `swarm_peers`."""
        return [name.rstrip("/") for name in _names(self.swarm_peers)]

    @property
    def dialect_names(self) -> list[str]:
        """The interfaces of `dialects`."""
        return _names(self.dialects)

    @property
    def processor_names(self) -> list[str]:
        """The processors of `processors`."""
        return _names(self.processors)

    @property
    def only_own_processor(self) -> bool:
        """Whether ocrd-ocr-tasks-recognize is the only processor that is wanted."""
        return set(self.processor_names) == {OWN_PROCESSOR}

    @property
    def processors_share_worker(self) -> bool:
        """Whether workers for documents offer the processors as well.

        Only the built-in one needs no more rights than documents do. In a bucket's setup workers
        see no workspaces, and may not write to the folders of OCR_OCRD_FOLDERS in any.
        """
        return self.only_own_processor and not self.storage_url and not self.ocrd_folders

    @property
    def ocrd_roots(self) -> list[Path]:
        """The folders of `ocrd_folders`."""
        return [Path(name).resolve() for name in self.ocrd_folders.split(":") if name]

    @property
    def processes(self) -> int:
        """Processes of a worker on this machine."""
        return self.worker_processes or cores()


def _tls_options(address: str) -> dict[str, str]:
    """The options of TLS of an address of Redis, by redis-py's names for them."""
    query = parse_qsl(urlsplit(address).query)
    return {name: value for name, value in query if name.startswith("ssl_")}


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]


@lru_cache(maxsize=256)  # asked at each request, mostly of the same few
def is_loopback(host: str) -> bool:
    """Whether a name or address of a host always means this machine (RFC 6761, section 6.3)."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


#: The variables that say who may use a server; one that is started for its own user needs none.
WHO_MAY = frozenset(
    f"OCR_{name.upper()}"
    for name in Settings.model_fields
    if name.startswith("limit_")
    or name in ("access", "hosts", "allowed_networks", "trusted_proxies", "cors_origins")
)


@lru_cache(maxsize=1)
def cores() -> int:
    """Cores that this process may use: in a container that has less time than these, fewer."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), _core_seconds(Path("/")))))


def _core_seconds(root: Path) -> float:
    """Seconds of cores that the control group of this process has in a second; see cgroups(7)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        group = next(line for line in lines if line.startswith("0::")).removeprefix("0::/")
        quota, period = (root / "sys/fs/cgroup" / group / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, StopIteration):  # as much as there is, or no such groups
        return math.inf


@lru_cache(maxsize=1)
def get() -> Settings:
    """The settings of this process."""
    secrets = os.environ.get("OCR_SECRETS_DIR") or None
    if secrets and not Path(secrets).is_dir():
        raise SettingsError(f"OCR_SECRETS_DIR: {secrets} is no folder")
    try:
        return Settings(_secrets_dir=secrets)
    except ValidationError as error:
        raise SettingsError("\n".join(map(_complaint, error.errors()))) from None
    except OSError as error:
        raise SettingsError(f"OCR_SECRETS_DIR: {error.filename}: {error.strerror}") from None


def _complaint(row: ErrorDetails) -> str:
    name = f"OCR_{str(row['loc'][0]).upper()}: " if row["loc"] else ""
    return f"{name}{row['msg']}"

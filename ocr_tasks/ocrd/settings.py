"""The settings of OCR-D."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ocr_tasks import settings
from ocr_tasks.ocrd.model import RECOGNIZE
from ocr_tasks.setting_types import HOST, ColonList, CommaList, Folder, matches
from ocr_tasks.settings import MIB


def _not_any_command(value: str) -> str:
    if value == "ocrd-command":
        raise ValueError("ocrd-command is not allowed: it runs any command that a client sends")
    return value


Processor = Annotated[
    str,
    matches(
        r"ocrd-[a-z0-9][a-z0-9-]{0,99}|nextflow", "is not the name of a processor, e.g. ocrd-dummy"
    ),
    AfterValidator(_not_any_command),
]


class OcrdSettings(settings.Base):
    """Which processors workers offer and how they run them, and limits of workspaces."""

    processors: CommaList[Processor] = Field(
        (RECOGNIZE,),
        description="Comma-separated OCR-D processors that workers offer, e.g. "
        "`ocrd-dummy,ocrd-ocr-tasks-recognize`. A worker for documents also offers "
        "ocrd-ocr-tasks-recognize, unless OCR_STORAGE_URL or OCR_OCRD_FOLDERS is set. All other "
        "lists need a worker that takes no documents: `ocr-tasks up` starts one, and `ocr-tasks "
        "worker` becomes one. Empty: none.",
    )
    ocrd_path: str = Field(
        "",
        description="Colon-separated folders that are searched for processors before PATH: the "
        "bin folders of the virtual environments in which they are installed.",
    )
    ocrd_folders: ColonList[Folder] = Field(
        (),
        description="Colon-separated folders with workspaces that clients select by the path of "
        "the METS file, in addition to uploaded ones. Web server and workers must use the same "
        "folders.",
    )
    ocrd_server_url: Annotated[
        str,
        matches(rf"(https?://{HOST}(:[0-9]+)?)?", "use the form https://ocr.example"),
    ] = Field(
        "",
        description="URL of this server for Nextflow scripts, as workers reach it, e.g. "
        "`https://ocr.example`. Empty: OCR_HOST and OCR_PORT, if both run on this machine.",
    )
    ocrd_tries: int = Field(3, ge=1, le=10, description="Number of attempts to run a processor.")
    ocrd_existing_output: Literal["skip", "overwrite", "abort"] = Field(
        "skip",
        description="What to do with pages that already exist in an output file group. skip: keep "
        "them. overwrite: replace them. abort: fail the job.",
    )
    ocrd_warm_processors: int = Field(
        4,
        ge=0,
        le=100,
        description="Number of processors that stay loaded in each worker process. 0: every run "
        "starts its own.",
    )
    ocrd_max_bytes: int = Field(
        4096 * MIB,
        ge=1024,
        description="Maximum size in bytes of the files of an uploaded workspace.",
    )
    ocrd_max_files: int = Field(
        100_000, ge=1, description="Maximum number of files of an uploaded or downloaded workspace."
    )
    ocrd_max_mets_bytes: int = Field(
        128 * MIB, ge=1024, description="Maximum size in bytes of a METS file."
    )
    ocrd_fetch_seconds: float = Field(
        300,
        ge=1,
        le=3600,
        description="Seconds that the download of a workspace from the URL of its METS file may "
        "take.",
    )
    ocrd_max_jobs: int = Field(
        100_000,
        ge=1,
        description="Maximum number of open processing jobs. A workflow has one per step, or with "
        "page-wise processing one per step and page.",
    )

    @property
    def only_own_processor(self) -> bool:
        """Returns whether ocrd-ocr-tasks-recognize is the only processor of `processors`."""
        return set(self.processors) == {RECOGNIZE}

    @property
    def processors_share_worker(self) -> bool:
        """Returns whether workers for documents offer the processors as well.

        Only the built-in processor needs no more access rights than documents do. With a bucket,
        these workers have no access to workspaces, and they may never write to the folders of
        OCR_OCRD_FOLDERS.
        """
        shared = settings.get().storage_url or self.ocrd_folders
        return self.only_own_processor and not shared


def get() -> OcrdSettings:
    """Returns the settings; raises `errors.SettingsError` for invalid ones."""
    return settings.of(OcrdSettings)

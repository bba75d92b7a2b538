"""Delays an interruption while the server may be creating a job."""

from __future__ import annotations

import signal
import sys
from typing import Any, BinaryIO


class Interruptions:
    """Turns SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, immediately or after a delay.

    A client that exits after it has sent a document, but before it knows the job, cannot cancel
    the job. From the end of the document to `stop_delaying`, the first signal is therefore delayed.
    """

    def __init__(self) -> None:
        self._delaying = self._arrived = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self._handle)

    def delay_after(self, file: BinaryIO) -> BinaryIO:
        """Returns the file, so that signals are delayed once it was read to its end."""
        return _Watched(file, self)  # type: ignore[return-value]  # it has the methods of the file

    def on_read(self, at_end: bool) -> None:
        """Is called for each read of the file."""
        self._delaying = at_end

    def stop_delaying(self) -> None:
        """Raises KeyboardInterrupt if a signal was delayed."""
        self._delaying = False
        if self._arrived:
            raise KeyboardInterrupt

    def _handle(self, *_: object) -> None:
        if not self._delaying or self._arrived:
            raise KeyboardInterrupt
        self._arrived = True
        print("cancelling the job; interrupt again to exit immediately", file=sys.stderr)


class _Watched:
    def __init__(self, file: BinaryIO, interruptions: Interruptions) -> None:
        self._file = file
        self._interruptions = interruptions

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._interruptions.on_read(at_end=not data or size < 0)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

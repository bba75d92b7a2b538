"""The browser of the other tests."""

from tests.acceptance.conftest import browser

__all__ = ["browser"]

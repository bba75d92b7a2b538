"""Exceptions that damaged PDFs cause in pikepdf."""

from __future__ import annotations

import pikepdf

#: Exceptions of Python. They may also be a fault of this service.
OF_PYTHON = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)

#: All of them.
INVALID = (pikepdf.PikepdfError, *OF_PYTHON)

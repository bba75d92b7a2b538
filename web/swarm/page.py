"""The page /swarm, which lets a browser join the swarm."""

from __future__ import annotations

from flask import Response, request
from flask_openapi3 import APIBlueprint

from web.site import languages, pages

blueprint = APIBlueprint("swarm_page", __name__, template_folder="templates")

#: Tesseract for browsers, installed by scripts/swarm-assets.
_VENDOR = pages.STATIC / "swarm" / "vendor"

#: Web workers run WebAssembly. Some browsers apply the page's policy to them, others the worker's.
_PAGE_POLICY = pages.CSP.replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'")

#: The web worker that runs Tesseract. It has its own policy: it may only load the program and
#: language data from this server, and run WebAssembly.
_WORKER = "/static/swarm/vendor/worker.min.js"
_WORKER_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; "
    "frame-ancestors 'none'"
)


@blueprint.get("/swarm", doc_ui=False)
def show() -> Response:
    """Show the page that lets a browser join the swarm."""
    codes = sorted(path.name.partition(".")[0] for path in _VENDOR.glob("*.traineddata.gz"))
    names = sorted(languages.name(code) for code in codes)
    response = pages.html("swarm.html", languages=codes, names=names)
    response.headers["Content-Security-Policy"] = _PAGE_POLICY
    return response


@blueprint.after_app_request
def _allow_webassembly(response: Response) -> Response:
    if request.path == _WORKER:
        response.headers["Content-Security-Policy"] = _WORKER_POLICY
    return response

"""Discovery: the home page, the workers' resources, and the processors."""

from __future__ import annotations

import time

from flask import Response

from ocr_tasks.ocrd import discovery, tools
from web.ocrd import blueprints
from web.ocrd.blueprints import json_response
from web.ocrd.bodies import DiscoveryBody, HomeBody, ProcessorList, ProcessorPath

blueprint = blueprints.make("discovery", "Capabilities of the server and its workers")


@blueprint.get("", responses={200: HomeBody})
def home() -> Response:
    """Check whether OCR-D's Web API is available."""
    # OCR-D's own tests check for this text.
    message = "The home page of the OCR-D Web API of OCR Tasks"
    return json_response(HomeBody(message=message, time=time.strftime("%Y-%m-%d %H:%M")))


@blueprint.get("/discovery", responses={200: DiscoveryBody})
def show() -> Response:
    """Get the resources of workers that offer processors."""
    return json_response(DiscoveryBody.model_validate(discovery.describe()))


@blueprint.get("/processor", responses={200: ProcessorList})
def processors() -> Response:
    """List the processors offered by running workers."""
    return json_response(tools.offered())


@blueprint.get("/processor/info/<executable>")
def processor(path: ProcessorPath) -> Response:
    """Get the description and parameters of a processor: its entry in ocrd-tool.json."""
    return json_response(tools.tool(path.executable))

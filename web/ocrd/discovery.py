"""What there is: the home page, the machines, the processors."""

from __future__ import annotations

import time

from flask import Response

from ocr_tasks.ocrd import discovery, tools
from web.ocrd import blueprints
from web.ocrd.blueprints import answer
from web.ocrd.bodies import DiscoveryBody, HomeBody, ProcessorList, ProcessorPath

blueprint = blueprints.make("discovery", "What the server and its workers can do")


@blueprint.get("", responses={200: HomeBody})
def home() -> Response:
    """Whether OCR-D's Web API is here."""
    # These words are what OCR-D's own tests look for.
    message = "The home page of the OCR-D Web API of OCR Tasks"
    return answer(HomeBody(message=message, time=time.strftime("%Y-%m-%d %H:%M")))


@blueprint.get("/discovery", responses={200: DiscoveryBody})
def show() -> Response:
    """What the workers that offer processors have."""
    return answer(DiscoveryBody.model_validate(discovery.describe()))


@blueprint.get("/processor", responses={200: ProcessorList})
def processors() -> Response:
    """The processors that living workers offer."""
    return answer(tools.offered())


@blueprint.get("/processor/info/<executable>")
def processor(path: ProcessorPath) -> Response:
    """What a processor is and which parameters it has: its part of ocrd-tool.json."""
    return answer(tools.tool(path.executable))

# One image, several roles: its command is web, worker, courier or flower (docs/how-to/containers.md).
#
#   docker build -t ocr-tasks .
#   docker build -t ocr-tasks --build-arg TESSERACT_LANGUAGES="eng fra ita" .
#
# What changes seldom comes first: after a change of code only the last layer is made anew.

ARG BASE=debian:trixie-slim

# What all roles run on.
FROM ${BASE} AS base
ARG TESSERACT_LANGUAGES="eng deu"
# Makes PDF/A of the few files that OCRmyPDF itself cannot; docs/decisions.md says which.
ARG WITH_GHOSTSCRIPT=""
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends \
        python3 tesseract-ocr tesseract-ocr-osd unpaper pngquant \
        $(printf 'tesseract-ocr-%s ' ${TESSERACT_LANGUAGES} | tr _ -) \
        ${WITH_GHOSTSCRIPT:+ghostscript} \
        $(apt-cache show jbig2enc >/dev/null 2>&1 && echo jbig2enc) \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*

# Compilers and the environments that they fill.
FROM base AS compilers
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends \
        g++ libtesseract-dev pkg-config python3-dev python3-venv >/dev/null
ENV PIP_CACHE_DIR=/var/cache/pip

FROM compilers AS packages
COPY requirements/runtime.txt requirements/engine.txt /src/
RUN --mount=type=cache,target=/var/cache/pip \
    python3 -m venv /opt/ocr-tasks \
 && /opt/ocr-tasks/bin/pip install -q --disable-pip-version-check --require-hashes -r /src/runtime.txt \
 && /opt/ocr-tasks/bin/pip install -q --disable-pip-version-check --require-hashes -r /src/engine.txt \
 && rm -rf /opt/ocr-tasks/lib/python3*/site-packages/pip /opt/ocr-tasks/bin/pip* \
 && echo /opt/ocr-tasks/app > "$(echo /opt/ocr-tasks/lib/python3*/site-packages)/app.pth"

# OCR-D's processors: an environment of their own.
FROM compilers AS processors
COPY requirements/ocrd.txt /src/
RUN --mount=type=cache,target=/var/cache/pip \
    python3 -m venv /opt/ocrd \
 && /opt/ocrd/bin/pip install -q --disable-pip-version-check --require-hashes -r /src/ocrd.txt

# What browsers read pages with, for the page /swarm.
FROM base AS assets
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends npm >/dev/null
ENV NPM_CONFIG_CACHE=/var/cache/npm
COPY scripts/swarm-assets /src/scripts/
COPY web/swarm-assets /src/web/swarm-assets
RUN --mount=type=cache,target=/var/cache/npm /src/scripts/swarm-assets

FROM compilers AS code
RUN python3 -m venv /opt/build
COPY requirements/build.txt /src/requirements/
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/build/bin/pip install -q --disable-pip-version-check --require-hashes -r /src/requirements/build.txt
COPY pyproject.toml README.md LICENSE /src/
COPY ocr_tasks /src/ocr_tasks
COPY web /src/web
RUN /opt/build/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation \
        --target /opt/app /src \
 && sed -i '1s|.*|#!/opt/ocr-tasks/bin/python|' /opt/app/bin/*

FROM base AS runtime
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="OCR Tasks" \
      org.opencontainers.image.description="A self-hosted OCR service" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The number is fixed: hosts that share a folder must agree on whose its files are.
RUN groupadd --gid 10001 ocr && useradd --uid 10001 --gid ocr --no-create-home --home-dir /nonexistent ocr \
 && mkdir /run/secrets \
 && install -d -o ocr -g ocr -m 0700 /data /secrets/all \
 # Mount points of the service `secrets`: a new volume gets the owner of the folder it is mounted on.
 && for name in redis documents courier flower device objects prometheus grafana; do \
        install -d -o ocr -g ocr "/secrets/$name"; \
    done
ENV PATH=/opt/ocr-tasks/app/bin:/opt/ocr-tasks/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    OCR_DATA_DIR=/data \
    OCR_SECRETS_DIR=/run/secrets \
    OCR_ALIVE_FILE=/tmp/alive \
    OCR_HOST=0.0.0.0 \
    OCR_LOG_FORMAT=json
COPY deploy/docker/healthy.py /usr/local/bin/healthy
COPY deploy/docker/secrets scripts/make-secrets /usr/local/bin/
COPY --from=packages /opt/ocr-tasks /opt/ocr-tasks
COPY --from=assets /src/web/static/swarm/vendor /opt/ocr-tasks/app/web/static/swarm/vendor
COPY --from=code /opt/app /opt/ocr-tasks/app
USER 10001:10001
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["healthy"]
ENTRYPOINT ["ocr-tasks"]
CMD ["web"]

# A worker that offers OCR-D's processors.
FROM runtime AS ocrd
COPY --from=processors /opt/ocrd /opt/ocrd
# Its tesserocr brings a Tesseract of its own, but no models.
ENV OCR_OCRD_PATH=/opt/ocrd/bin \
    TESSDATA_PREFIX=/usr/share/tesseract-ocr/5/tessdata
CMD ["worker"]

# What is built where no target is named.
FROM runtime

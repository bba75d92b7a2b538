# One image, several roles: its command is web, worker, courier or flower (docs/how-to/containers.md).
#
#   docker build -t ocr-tasks .
#   docker build -t ocr-tasks --build-arg TESSERACT_LANGUAGES="eng fra ita" .
#
# Stages are built in parallel. Parts that rarely change come first: after a change of the code, only the
# last layers are built again.

ARG BASE=debian:trixie-slim

# Common to all roles.
FROM ${BASE} AS base
ARG TESSERACT_LANGUAGES="eng deu"
# Converts the few files to PDF/A that OCRmyPDF cannot convert on its own (docs/decisions.md).
ARG WITH_GHOSTSCRIPT=""
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io \
        python3 tesseract-ocr tesseract-ocr-osd unpaper pngquant jbig2dec \
        $(printf 'tesseract-ocr-%s ' ${TESSERACT_LANGUAGES} | tr _ -) \
        ${WITH_GHOSTSCRIPT:+ghostscript} \
        $(apt-cache show jbig2enc >/dev/null 2>&1 && echo jbig2enc) \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*

# uv, which installs Python packages into the environments that the image gets.
FROM ${BASE} AS tools
ENV DEBIAN_FRONTEND=noninteractive \
    PIP_CACHE_DIR=/var/cache/python/pip \
    UV_CACHE_DIR=/var/cache/python/uv \
    UV_LINK_MODE=copy \
    UV_NO_CONFIG=1 \
    PATH=/opt/tools/bin:/usr/local/bin:/usr/bin:/bin
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io \
        python3-venv >/dev/null
COPY requirements/uv.txt /src/requirements/
RUN --mount=type=cache,target=/var/cache/python \
    python3 -m venv /opt/tools \
 && pip install -q --disable-pip-version-check --no-deps --require-hashes -r /src/requirements/uv.txt

# Compiled to bytecode: otherwise each start of a process would take a second longer, as containers
# cannot write it.
FROM tools AS packages
COPY requirements/runtime.txt /src/requirements/
RUN --mount=type=cache,target=/var/cache/python \
    uv venv -q /opt/ocr-tasks \
 && uv pip sync -q --compile-bytecode --python /opt/ocr-tasks/bin/python --require-hashes /src/requirements/runtime.txt \
 && printf '%s\n' /opt/ocr-tasks/app /opt/ocr-tasks/engine > "$(echo /opt/ocr-tasks/lib/python3*/site-packages)/app.pth"

# tesserocr, built for the Tesseract of the image.
FROM ${BASE} AS engine
ENV DEBIAN_FRONTEND=noninteractive \
    UV_CACHE_DIR=/var/cache/python/uv \
    UV_LINK_MODE=copy \
    UV_NO_CONFIG=1
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-unsafe-io \
        g++ libtesseract-dev pkg-config python3-dev >/dev/null
COPY --from=tools /opt/tools/bin/uv /usr/local/bin/
COPY requirements/build.txt requirements/engine.txt /src/requirements/
# The compiler's optimizations would triple the time; the work is done in Tesseract's library.
RUN --mount=type=cache,target=/var/cache/python \
    CXXFLAGS=-O1 uv pip install -q --python /usr/bin/python3 --target /opt/engine --no-deps --require-hashes \
        --build-constraints /src/requirements/build.txt \
        --require-build-hashes --preview-features build-dependency-hashes \
        --config-settings-package "tesserocr:libraries=$(pkg-config --modversion tesseract lept | tr '\n' -)" \
        -r /src/requirements/engine.txt
COPY scripts/build-line-images /src/scripts/
COPY ocr_tasks/plugin/line_images.c /src/ocr_tasks/plugin/
RUN /src/scripts/build-line-images /opt/engine

# OCR-D's processors: an environment of their own.
FROM tools AS processors
COPY requirements/ocrd.txt /src/requirements/
RUN --mount=type=cache,target=/var/cache/python \
    uv venv -q /opt/ocrd \
 && uv pip sync -q --compile-bytecode --python /opt/ocrd/bin/python --require-hashes /src/requirements/ocrd.txt

# npm, for the OCR engine of browsers.
FROM tools AS node
COPY requirements/node.txt /src/requirements/
RUN --mount=type=cache,target=/var/cache/python \
    uv venv -q /opt/node \
 && uv pip sync -q --python /opt/node/bin/python --require-hashes /src/requirements/node.txt

FROM base AS assets
ENV NPM_CONFIG_CACHE=/var/cache/npm
COPY scripts/swarm-assets /src/scripts/
COPY web/swarm-assets /src/web/swarm-assets
RUN --mount=type=cache,target=/var/cache/npm --mount=from=node,source=/opt/node,target=/opt/node \
    PATH=/opt/node/bin:$PATH /src/scripts/swarm-assets

FROM tools AS code
COPY requirements/build.txt /src/requirements/
RUN --mount=type=cache,target=/var/cache/python \
    uv venv -q /opt/build \
 && uv pip install -q --python /opt/build/bin/python --no-deps --require-hashes -r /src/requirements/build.txt
COPY pyproject.toml README.md LICENSE /src/
COPY ocr_tasks /src/ocr_tasks
COPY web /src/web
RUN uv pip install -q --compile-bytecode --python /opt/build/bin/python --target /opt/app --no-deps --no-build-isolation /src \
 && sed -i '1s|.*|#!/opt/ocr-tasks/bin/python|' /opt/app/bin/*

FROM base AS runtime
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="OCR Tasks" \
      org.opencontainers.image.description="A self-hosted OCR service" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A fixed user id: on hosts that share a folder, its files must have the same owner.
RUN groupadd --gid 10001 ocr && useradd --uid 10001 --gid ocr --no-create-home --home-dir /nonexistent ocr \
 && mkdir -p /run/secrets \
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
COPY --from=packages /opt/ocr-tasks /opt/ocr-tasks
COPY --from=engine /opt/engine /opt/ocr-tasks/engine
COPY --from=assets /src/web/site/static/swarm/vendor /opt/ocr-tasks/app/web/site/static/swarm/vendor
COPY deploy/docker/healthy.py /usr/local/bin/healthy
COPY deploy/docker/secrets scripts/make-secrets /usr/local/bin/
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
# Its tesserocr contains its own Tesseract, but no models.
ENV OCR_OCRD_PATH=/opt/ocrd/bin \
    TESSDATA_PREFIX=/usr/share/tesseract-ocr/5/tessdata
CMD ["worker"]

# The default target.
FROM runtime

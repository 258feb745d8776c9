# docs/deployment.md says how an image is built and run. BASE is any Debian with Python 3.11 to 3.13.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates postgresql-client python3 tini tzdata \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/navembed

FROM base AS environment
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
# cuda: what the lock names, which runs on CPUs, too. cpu: some 4 GB less, for machines without a GPU.
ARG TORCH=cuda
# The index of packages, and the certificates to trust, where pip's defaults will not do.
ARG PIP_INDEX_URL
ARG PIP_CERT
COPY requirements requirements
COPY navembed_site/__init__.py navembed_site/installation.py navembed_site/
# Compiled now: the user who runs it may not write here.
RUN --mount=type=cache,target=/root/.cache \
    python3 requirements/image_lock.py "${TORCH}" > lock.txt \
    && UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy requirements/install.sh python3 .venv lock.txt "${TORCH}"

FROM base
RUN groupadd --gid 1000 navembed \
    && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /var/lib/navembed navembed \
    && install --directory --mode 0700 --owner 1000 --group 1000 /var/lib/navembed
COPY --from=environment /opt/navembed/.venv .venv
COPY . .
RUN python3 -m compileall -q manage.py navembed_site embeddings batches
ENV NAVEMBED_HOME=/var/lib/navembed \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /var/lib/navembed
EXPOSE 9002 9003
# Numbers, so that Kubernetes can see that it is not root.
USER 1000:1000
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m \
    CMD ["python3", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('NAVIDROME_RECOMMENDER_PORT') or 9002), timeout=8); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
# tini ends what has no handler for SIGTERM, as every command before supervisor has taken over; a first process is immune.
ENTRYPOINT ["tini", "--", "/opt/navembed/.venv/bin/python", "/opt/navembed/manage.py"]
CMD ["serve"]

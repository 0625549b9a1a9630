# `mamba-slm serve` on CPUs. In the repository's root:
#
#   docker build -f deploy/container/cpu.Dockerfile --build-arg TORCH_INDEX=URL -t mamba-slm:cpu .
#
# TORCH_INDEX is a further package index for torch, that of its CPU-only builds (the installation page of PyTorch names
# it); without it the image gets the CUDA build and several GB that a CPU never uses. A package index that asks for a
# password stands in a pip.conf that no layer keeps: --secret id=pip,src=pip.conf.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=""
ARG EXTRAS=serve,grammar
WORKDIR /source
ENV PIP_CACHE_DIR=/pip-cache
RUN python3 -m venv /opt/mamba-slm
COPY constraints.txt ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/pip-cache \
    /opt/mamba-slm/bin/pip install --disable-pip-version-check -c constraints.txt \
    ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} torch setuptools
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/pip-cache \
    /opt/mamba-slm/bin/pip install --disable-pip-version-check -c constraints.txt --no-build-isolation ".[${EXTRAS}]"

FROM ${BASE}
# The decoding step is compiled for the very processor that it runs on, so the compiler comes along. Its newest version
# of the base's release is right: pinning it would keep security fixes out.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /cache --shell /usr/sbin/nologin mamba-slm \
    && install -d -m 1777 /cache
COPY --from=build /opt/mamba-slm /opt/mamba-slm
# /cache is the only place that is written to, and it holds compiled code: a volume, or a tmpfs with `exec`. Its mode is
# that of /tmp, since a tmpfs takes it over and the user id may be one of your own. USER is told
# because PyTorch asks for a name, which a user id of your own choice may not have.
ENV PATH=/opt/mamba-slm/bin:$PATH HOME=/cache USER=mamba-slm MAMBA_SLM_CACHE=/cache/mamba-slm \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor TMPDIR=/cache PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
VOLUME /cache
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=5m --retries=4 \
    CMD ["python3", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/ready'); exit(c.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["mamba-slm"]
# Refuses to start without keys: from outside the container, everybody would be let in.
CMD ["serve", "/model", "--host", "0.0.0.0", "--api-keys", "/run/secrets/api-keys.json"]

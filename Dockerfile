# syntax=docker/dockerfile:1
# One image for every role; the command says which: gateway (default), serve, bootstrap.

FROM python:3.11-slim AS build
WORKDIR /srv/swarmgate
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# torch first and alone, as in the Makefile: an image for machines without a GPU names an index of
# CPU builds here, and the rest of the dependencies leave that build in place.
ARG TORCH_INDEX_URL=""
COPY requirements/ requirements/
RUN pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -r requirements/torch.txt
RUN pip install -r requirements/lock.txt
COPY . .
RUN pip install --no-deps --no-build-isolation -e .

FROM python:3.11-slim
WORKDIR /srv/swarmgate
# Servers compile their kernels for the processor, or GPU, that they start on.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home swarmgate \
    && install --directory --owner swarmgate \
        /srv/state /srv/swarm /srv/hub /home/swarmgate/.cache
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/swarmgate /srv/swarmgate
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HF_HOME=/srv/hub \
    TRITON_CACHE_DIR=/home/swarmgate/.cache/triton
USER swarmgate
# Identities of peers; addresses they tell each other; model files fetched from a hub; kernels.
VOLUME ["/srv/state", "/srv/swarm", "/srv/hub", "/home/swarmgate/.cache"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["swarmgate"]
CMD ["gateway"]

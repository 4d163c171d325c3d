# A server of one run: docker build -t polymodal . && docker run -p 8000:8000 -v "$PWD/run:/srv/run:ro" polymodal
# Three stages: wheels are gathered (the only step that may need a network), installed from there alone, and copied.
# Without any network: fill deploy/wheelhouse first (sh deploy/gather.sh), then docker build --network none .
ARG PYTHON=python:3.12-slim

FROM ${PYTHON} AS wheels
# Addresses of package indexes; the ones pip is configured with when empty. TORCH_INDEX: one with torch's CPU wheels.
ARG INDEX=""
ARG TORCH_INDEX=""
ARG TORCH="torch>=2.11,<2.14"
ARG EXTRAS="serve,search,audio"
WORKDIR /build
COPY deploy/gather.sh deploy/gather.sh
COPY deploy/wheelhouse deploy/wheelhouse
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN INDEX="${INDEX}" TORCH_INDEX="${TORCH_INDEX}" TORCH="${TORCH}" EXTRAS="${EXTRAS}" sh deploy/gather.sh /wheels

FROM ${PYTHON} AS install
ARG EXTRAS="serve,search,audio"
COPY --from=wheels /wheels /wheels
RUN python -m venv /opt/polymodal \
 && /opt/polymodal/bin/python -m pip install --no-cache-dir --no-index --find-links=/wheels "polymodal[${EXTRAS}]"

FROM ${PYTHON}
LABEL org.opencontainers.image.title="polymodal" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin polymodal
COPY --from=install /opt/polymodal /opt/polymodal
# Nothing is fetched, and nothing is written but to /tmp: the file system may be read-only with a tmpfs there.
ENV PATH=/opt/polymodal/bin:${PATH} \
    HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 \
    HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_WAIT_POLICY=PASSIVE
USER 10001
WORKDIR /srv
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=3)"]
ENTRYPOINT ["polymodal"]
CMD ["serve", "/srv/run", "--host", "0.0.0.0", "--port", "8000"]

# The daemon in an image: no root, a root file system that may be read-only, kernels compiled.
# deploy/README.md says how to build and run it, docs/decisions/0006-container.md why it is so.

# A tag, because a digest can be known only where the registry can be asked. Whoever deploys
# should pin one: python:3.13-slim@sha256:...
FROM python:3.13-slim AS python


FROM python AS builder
WORKDIR /build

# Dependencies first: they change less often than the bot. Wheels only, no compiler is here.
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv --without-pip /opt/mmbot \
    && pip --python /opt/mmbot/bin/python install --no-cache-dir --require-hashes \
        --only-binary=:all: --requirement requirements.lock

# What builds the bot's own wheel comes from the lock too, and stays in this stage.
RUN awk '/^[^ ]/ { wanted = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } wanted' \
        requirements-dev.lock > backend.lock \
    && pip install --no-cache-dir --require-hashes --only-binary=:all: --requirement backend.lock

COPY pyproject.toml README.md ./
COPY bot bot
RUN python -m hatchling build --target wheel \
    && pip --python /opt/mmbot/bin/python install --no-cache-dir --no-deps dist/mmbot-*.whl

# Not from /build: the cache belongs to a source by its path, and there lies another bot/.
# `generic`: the image must start on other processors than the one that built it.
WORKDIR /opt/mmbot
ENV NUMBA_CPU_NAME=generic \
    NUMBA_CACHE_DIR=/opt/mmbot/kernels
RUN ["/opt/mmbot/bin/python", "-m", "bot.modes.warmup"]


FROM python
RUN groupadd --gid 10001 mmbot \
    && useradd --uid 10001 --gid mmbot --no-create-home --home-dir /var/lib/mmbot \
        --shell /usr/sbin/nologin mmbot \
    && install --directory --owner mmbot --group mmbot --mode 0750 \
        /var/lib/mmbot /var/lib/mmbot/runs /var/lib/mmbot/state
COPY --from=builder /opt/mmbot /opt/mmbot
ENV PATH=/opt/mmbot/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MMBOT_STATE=/var/lib/mmbot/state \
    NUMBA_CPU_NAME=generic \
    NUMBA_CACHE_DIR=/opt/mmbot/kernels \
    NUMBA_CACHE_LOCATOR_CLASSES=bot.modes.prepared.Prepared

USER 10001:10001
WORKDIR /var/lib/mmbot

# The build fails if a start as this user would still compile something.
RUN ["python", "-m", "bot.modes.warmup", "--cached"]

VOLUME /var/lib/mmbot/runs
# Leases and heartbeats: shared with the watchdog, which is a container of its own.
VOLUME /var/lib/mmbot/state
EXPOSE 8787

# The bot is PID 1 and answers SIGTERM itself: it cancels, confirms and exits 0.
STOPSIGNAL SIGTERM

# Not urllib, which would ask a proxy for 127.0.0.1 when the environment names one.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8787, timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["mmbot"]
CMD ["run", "/config/paper-binance-usdm.yaml"]

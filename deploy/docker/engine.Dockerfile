# The engine. From the repository's root: docker build -f deploy/docker/engine.Dockerfile -t studyai-engine .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /app
COPY requirements/engine.lock requirements/
RUN /app/bin/pip install --no-cache-dir --require-hashes -r requirements/engine.lock
COPY pyproject.toml README.md LICENSE ./
COPY engine_grpc engine_grpc
COPY generated generated
RUN /app/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home studyai
COPY --from=build /app /app
USER 10001
# Nothing is written to disk: the root file system may be read-only.
ENV PATH=/app/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENV ENGINE_HOST=0.0.0.0 ENGINE_PORT=5001 ENGINE_METRICS_PORT=9464 LOG_FORMAT=json
EXPOSE 5001 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/metrics', timeout=2)"]
CMD ["engine-grpc"]

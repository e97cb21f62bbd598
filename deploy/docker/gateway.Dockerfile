# The gateway. From the repository's root: docker build -f deploy/docker/gateway.Dockerfile -t studyai-gateway .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /app
COPY requirements/gateway.lock requirements/
RUN /app/bin/pip install --no-cache-dir --require-hashes -r requirements/gateway.lock
COPY pyproject.toml README.md LICENSE ./
COPY sse_gateway sse_gateway
COPY generated generated
RUN /app/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home studyai
COPY --from=build /app /app
USER 10001
# Nothing is written to disk: the root file system may be read-only.
ENV PATH=/app/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENV HOST=0.0.0.0 PORT=3000 LOG_FORMAT=json
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3000/healthz', timeout=2)"]
CMD ["sse-gateway"]

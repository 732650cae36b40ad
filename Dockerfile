# The serving image: no torch, no training code's dependencies, no root.
#
#   docker build -t headstock .
#   docker run -p 8000:8000 -p 8001:8001 -v headstock:/state headstock
#
# Backbones are added where torch is (`headstock backbone add`) and mounted or copied into
# /state/backbones; the registry lies in /state too unless HEADSTOCK_DATABASE_URL says otherwise.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml setup.py requirements-serving.txt README.md LICENSE ./
COPY backbone backbone
COPY adapters adapters
COPY training training
COPY service service
COPY headstock headstock
RUN python -m venv /opt/headstock \
    && /opt/headstock/bin/pip install --no-cache-dir -r requirements-serving.txt \
    && /opt/headstock/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
# Any other user may run it, too, as OpenShift's do: such a user is in group 0, and has no home.
RUN useradd --uid 10001 --gid 0 --no-create-home --home-dir /state headstock \
    && install -d -o 10001 -g 0 -m 2770 /state
COPY --from=build /opt/headstock /opt/headstock
ENV PATH=/opt/headstock/bin:$PATH \
    HEADSTOCK_HOME=/state \
    HEADSTOCK_HOST=0.0.0.0 \
    HOME=/state \
    PYTHONUNBUFFERED=1
# By number, since Kubernetes cannot tell of a name whether it is root.
USER 10001
WORKDIR /state
VOLUME /state
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-m", "service.ready"]
# A SIGTERM that comes before Python can handle it waits: from the first process of a container the
# kernel keeps all signals that it does not handle.
ENTRYPOINT ["env", "--block-signal=TERM", "headstock"]
CMD ["serve"]

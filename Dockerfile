# Two stages: the first has a C compiler and compiles the data plane; the second has the interpreter and the installed
# package, and neither pip nor sources. Every package comes by its hash, so that two builds give the same files.
#
# Renovate (renovate.json) puts the digests behind the two tags; the provenance of a release's image has what was used.
ARG BUILD_IMAGE=python:3.13
ARG RUNTIME_IMAGE=python:3.13-slim

FROM ${BUILD_IMAGE} AS build
ARG CAMUNDA_SIDECAR_COMPILED=1
# 1 January 2026: the time of every file in the wheel.
ARG SOURCE_DATE_EPOCH=1767225600
WORKDIR /src
COPY requirements ./requirements
RUN ["python", "-m", "venv", "/build"]
RUN ["/build/bin/python", "-m", "pip", "install", "--no-cache-dir", "--require-hashes", "--requirement", "requirements/build.txt"]
RUN ["python", "-m", "venv", "--without-pip", "/opt/camunda-sidecar"]
RUN ["/build/bin/python", "-m", "pip", "--python", "/opt/camunda-sidecar/bin/python", "install", "--no-cache-dir", "--no-compile", "--require-hashes", "--requirement", "requirements/runtime.txt"]
COPY pyproject.toml setup.py README.md LICENSE ./
COPY sidecar ./sidecar
RUN ["/build/bin/python", "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", "/dist", "."]
RUN ["/build/bin/python", "-m", "pip", "--python", "/opt/camunda-sidecar/bin/python", "install", "--no-compile", "--no-deps", "--no-index", "--find-links", "/dist", "camunda-sidecar"]
# Never checked against the sources: the files do not change, and a read-only root could not be written to anyway.
RUN ["python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "/opt/camunda-sidecar/lib"]
# The token store's default place is below HOME. Group 0 may write there: OpenShift chooses the uid, and that group.
RUN ["install", "-d", "-m", "0770", "-o", "65532", "-g", "0", "/home/sidecar"]

FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="camunda-sidecar" \
      org.opencontainers.image.description="A local proxy that gives every program on a host an authorized, rate-limit-safe path to Camunda 8." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/camunda-community-hub/camunda-sidecar" \
      org.opencontainers.image.documentation="https://github.com/camunda-community-hub/camunda-sidecar/blob/main/docs"
RUN ["python", "-m", "pip", "uninstall", "--yes", "--root-user-action", "ignore", "pip"]
COPY --from=build /opt/camunda-sidecar /opt/camunda-sidecar
COPY --from=build --chown=65532:0 /home/sidecar /home/sidecar
ENV PATH=/opt/camunda-sidecar/bin:$PATH HOME=/home/sidecar PYTHONDONTWRITEBYTECODE=1
# Also what makes `docker run --read-only` work; tokens outlive the container's restarts in it.
VOLUME /home/sidecar
USER 65532:65532
EXPOSE 8600 8601 26500
# The sidecar of this container, whatever configuration or address it was given.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["camunda-sidecar", "wait", "--local", "--timeout", "2"]
ENTRYPOINT ["camunda-sidecar"]
CMD ["run"]

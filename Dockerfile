# Two stages: the first has a C compiler and compiles the data plane; the second has the interpreter and the installed
# package, and neither pip nor sources.
ARG PYTHON=3.13
ARG BUILD_IMAGE=python:${PYTHON}

FROM ${BUILD_IMAGE} AS build
ARG CAMUNDA_SIDECAR_COMPILED=1
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY sidecar ./sidecar
RUN ["python", "-m", "venv", "--without-pip", "/opt/camunda-sidecar"]
RUN ["python", "-m", "pip", "--python", "/opt/camunda-sidecar/bin/python", "install", "--no-cache-dir", "--no-compile", ".[grpc]"]
# Never checked against the sources: the files do not change, and a read-only root could not be written to anyway.
RUN ["python", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/opt/camunda-sidecar/lib"]
# The token store's default place is below HOME. Group 0 may write there: OpenShift chooses the uid, and that group.
RUN ["install", "-d", "-m", "0770", "-o", "65532", "-g", "0", "/home/sidecar"]

FROM python:${PYTHON}-slim
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

# ctxfs with a store in the volume /data, for a user without privileges. docs/recipes/docker.md describes it;
# `make image` builds and tries it.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
# The extras of pyproject.toml that the image has: "web,model" adds search by meaning.
ARG EXTRAS=web
COPY . /src
# The bytecode is compiled here: the user of the image cannot write it.
RUN python3 -m venv /opt/ctxfs \
    && /opt/ctxfs/bin/python -m pip install --no-cache-dir "/src[${EXTRAS}]"

FROM ${BASE}
# fuse3 mounts; socat shows the page of `ctxfs web` outside of the container; tini forwards signals and reaps processes.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates fuse3 git python3 socat tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 ctxfs \
    && install -d -m 0700 -o ctxfs -g ctxfs /data
COPY --from=build /opt/ctxfs /opt/ctxfs
COPY --chmod=755 release/container/bin/ /usr/local/bin/
ENV PATH=/opt/ctxfs/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    CTXFS_STORE=/data/store \
    XDG_DATA_HOME=/data/share \
    XDG_STATE_HOME=/data/state
USER ctxfs
WORKDIR /home/ctxfs
VOLUME /data
# 8200: HTTP for programs. 8765: MCP. Each request there needs a token. 8300: the page, for the person only.
EXPOSE 8200 8765
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["ctxfs-healthy"]
ENTRYPOINT ["tini", "--"]
CMD ["ctxfs-serve"]

# The image of meshproof: with `--image suite=IMAGE` it is every external service and every client of a run in a cluster, and it runs the
# suite itself in one (docs/cluster.md). The context has two files, this one and a program with support for clusters:
#
#   cargo build --release --locked --features cluster
#   .ci/suite-image target/release/meshproof meshproof:local
ARG BASE=debian:13-slim
FROM ${BASE}
LABEL org.opencontainers.image.title="meshproof" \
      org.opencontainers.image.description="Conformance suite for TLS origination in service meshes" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY meshproof /usr/local/bin/meshproof
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10101:10101
WORKDIR /tmp
ENTRYPOINT ["/usr/local/bin/meshproof"]
CMD ["--help"]

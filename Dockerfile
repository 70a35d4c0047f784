# cusaxd in a container. `docker build -t cusaxd .`; docs/admin.md tells how to run it.

ARG BUILD_BASE=rust:1.95-slim-bookworm
ARG RUNTIME_BASE=debian:12-slim

FROM ${BUILD_BASE} AS build
# libopus is built from source.
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential cmake \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG PROFILE=release
RUN cargo build --locked --profile "${PROFILE}" --bin cusaxd \
 && mkdir -p /out/var/lib/cusaxd \
 && install -D -m 755 "$(ls -t target/*/cusaxd | head -n 1)" /out/usr/bin/cusaxd \
 && install -D -m 644 -t /out/usr/share/doc/cusaxd NOTICE LICENSE-MIT LICENSE-APACHE

FROM ${RUNTIME_BASE}
LABEL org.opencontainers.image.title="cusaxd" \
      org.opencontainers.image.description="Conference bridge joining XMPP chat rooms and SIP calls" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build --chown=65532:65532 /out/var/lib/cusaxd /var/lib/cusaxd
COPY --from=build /out/usr /usr
USER 65532:65532
WORKDIR /var/lib/cusaxd
VOLUME /var/lib/cusaxd
# With http.listen on another port, give that to the container as HEALTH_PORT.
ENV HEALTH_PORT=8088
HEALTHCHECK --interval=15s --timeout=3s --start-period=10s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${HEALTH_PORT} && printf 'GET /health/live HTTP/1.0\\r\\n\\r\\n' >&3 && read -r status <&3 && [[ $status == *' 200 '* ]]"]
ENTRYPOINT ["/usr/bin/cusaxd"]
CMD ["run", "--config", "/etc/cusaxd/cusaxd.toml"]

# The image holds the static binary and nothing else. Build it with `make image`.
FROM scratch
COPY bin/cdc-node /cdc-node
ENTRYPOINT ["/cdc-node"]
CMD ["version"]

# llm-mcp-hub with both CLIs, for amd64 and arm64. Without a word it serves HTTP on port 8000; `stdio` serves a client that
# starts it; every other command of llm-mcp-hub works too. README.md, "In a container", says how it is run.
#
# Tags, no digests: who releases the image writes those in. Other bases with Python >= 3.11 and Node.js >= 20 do as well.
ARG PYTHON_IMAGE=python:3.13-slim-trixie
ARG NODE_IMAGE=node:22-trixie-slim

# --- The Gemini CLI: what the lock says, and no script of any package ---
FROM ${NODE_IMAGE} AS gemini
WORKDIR /opt/gemini-cli
COPY gemini-cli/package.json gemini-cli/package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error \
    && chmod -R go-w,a+rX /opt/gemini-cli

# --- The hub and Claude's CLI, which is in the wheel of claude-agent-sdk ---
FROM ${PYTHON_IMAGE} AS python

RUN python3 -m venv /build && python3 -m venv --without-pip /opt/llm-mcp-hub
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN /build/bin/python -m pip install --no-cache-dir --disable-pip-version-check --quiet --require-hashes \
        -r requirements/build.txt \
    && /build/bin/python -m pip --python /opt/llm-mcp-hub/bin/python install --no-cache-dir \
        --disable-pip-version-check --quiet --no-compile --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY gemini-cli/package.json gemini-cli/package-lock.json gemini-cli/
COPY src src
# Compiled here, for nobody can write there later; by hash, because layers do not keep times to the fraction of a second.
RUN /build/bin/hatchling build -t wheel -d dist \
    && /build/bin/python -m pip --python /opt/llm-mcp-hub/bin/python install --no-cache-dir \
        --disable-pip-version-check --quiet --no-compile --no-index --no-deps dist/*.whl \
    && /opt/llm-mcp-hub/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/llm-mcp-hub/lib \
    && chmod -R go-w,a+rX /opt/llm-mcp-hub

# --- What runs ---
FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="llm-mcp-hub" \
      org.opencontainers.image.description="One MCP server that asks Claude and Gemini with the subscriptions you already pay for; no API key, ever." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      io.modelcontextprotocol.server.name="io.github.llm-mcp-hub/llm-mcp-hub"

# git is for asks with git_diff; setpriv, which ends Claude's CLI with the hub, is in util-linux and there already.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && groupadd --gid 10001 hub \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /srv/hub --shell /usr/sbin/nologin hub
# The login of Gemini's CLI is mounted at /root/.gemini: any user may go through /root, nobody but root look around there.
# The state folder is the user's own, 0700, below the volume: which is open, so that it works for any uid. A new volume
# takes its mode from here.
RUN install -d -m 0755 /root/.gemini /srv/hub /work \
    && chmod 0711 /root \
    && ln -s /root/.gemini /srv/hub/.gemini \
    && install -d -m 1777 /var/lib/llm-mcp-hub
COPY --from=gemini /usr/local/bin/node /usr/local/bin/node
COPY --from=gemini /opt/gemini-cli /opt/gemini-cli
COPY --from=python /opt/llm-mcp-hub /opt/llm-mcp-hub
RUN ln -s /opt/gemini-cli/node_modules/.bin/gemini /usr/local/bin/gemini \
    && ln -s /opt/llm-mcp-hub/bin/llm-mcp-hub /usr/local/bin/llm-mcp-hub

# The CLI's first run, by each user that the image is made for: what Node.js compiles stays beside it, for nobody to write.
RUN compiled=/opt/gemini-cli/node_modules/.cache/compiled \
    && install -d -m 0777 "$compiled" /tmp/first \
    && for uid in 10001 1000; do \
        env -i PATH="$PATH" HOME=/tmp/first GEMINI_CLI_NO_RELAUNCH=1 NODE_OPTIONS=--max-old-space-size=1024 \
            NODE_COMPILE_CACHE="$compiled" \
            setpriv --reuid "$uid" --regid "$uid" --clear-groups gemini --version || exit 1; \
        rm -rf /tmp/first/.gemini; \
    done \
    && rm -rf /tmp/first \
    && chown -R root:root "$compiled" \
    && chmod -R go-w,a+rX "$compiled"

# No secret here: they come at the start, by -e, --env-file or a mounted file (NAME_FILE).
ENV HOME=/srv/hub \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    HUB_HOST=0.0.0.0 \
    HUB_PORT=8000 \
    HUB_FIRST_CLIENT=owner \
    HUB_ALLOWED_HOSTS=localhost:*,127.0.0.1:* \
    HUB_STATE_DIR=/var/lib/llm-mcp-hub/state \
    HUB_GEMINI_COMMAND=/usr/local/bin/gemini \
    GEMINI_AUTH_PATH=/root/.gemini/oauth_creds.json

VOLUME /var/lib/llm-mcp-hub
WORKDIR /work
EXPOSE 8000
STOPSIGNAL SIGTERM
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["llm-mcp-hub", "health"]
# Signals go to the hub alone, not to its group (tini -g): what it has started may end its answers.
ENTRYPOINT ["tini", "--", "llm-mcp-hub"]
CMD ["serve"]

#!/usr/bin/env bash
# Installs what the tests need from Debian and npm, where it is missing and this
# user may. A test whose part is still missing is skipped, and fails under CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v chromium-headless-shell >/dev/null || missing+=(chromium-headless-shell)
command -v node >/dev/null || missing+=(nodejs npm)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v curl >/dev/null || missing+=(curl)
command -v promtool >/dev/null || missing+=(prometheus)
command -v slowhttptest >/dev/null || missing+=(slowhttptest)
command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing+=(nginx-light)
command -v ip >/dev/null || missing+=(iproute2)
[ -d /usr/share/gocode/src/google.golang.org/grpc ] && command -v go protoc-gen-go protoc-gen-go-grpc >/dev/null ||
  missing+=(golang-go golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev protoc-gen-go-1-5 protoc-gen-go-grpc)
command -v setsid >/dev/null || missing+=(util-linux)
if ((${#missing[@]})) && command -v apt-get >/dev/null; then
  sudo=; [ "$(id -u)" = 0 ] || sudo="sudo --non-interactive"
  echo "Installing ${missing[*]} …"
  { $sudo apt-get -qq update && DEBIAN_FRONTEND=noninteractive $sudo apt-get -qq install --yes \
    --no-install-recommends "${missing[@]}"; } >/dev/null || echo "could not install ${missing[*]}" >&2
  # The tests start servers of their own.
  for service in redis-server prometheus nginx-light; do
    if [[ " ${missing[*]} " == *" $service "* && -d /run/systemd/system ]]; then
      $sudo systemctl --quiet disable --now "${service%-light}" || true
    fi
  done
fi

for folder in tests/node examples/node scripts/web; do
  if command -v npm >/dev/null && [ ! -d "$folder/node_modules" ]; then
    npm ci --silent --no-audit --no-fund --prefix "$folder" || echo "could not install $folder" >&2
  fi
done

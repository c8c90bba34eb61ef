#!/usr/bin/env bash
# Installs what `make run` and `make test` need: Debian packages (as root or through sudo) and .venv.
# `setup.sh shell` makes .venv-shell for p4runtime-shell, whose protobuf collides with ours.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

# command or file that must exist -> Debian package that brings it
need=()
command -v cc >/dev/null || need+=(gcc libc6-dev)
[ -e /usr/include/linux/if_packet.h ] || need+=(linux-libc-dev)
[ -e /usr/include/stdio.h ] || need+=(libc6-dev)
compgen -G '/usr/lib/*/libgomp.so.1' >/dev/null || need+=(libgomp1) # LightGBM
command -v ip >/dev/null || need+=(iproute2)
command -v mnexec >/dev/null || need+=(mininet)
command -v ifconfig >/dev/null || need+=(net-tools)
command -v ethtool >/dev/null || need+=(ethtool)
command -v ping >/dev/null || need+=(iputils-ping)

python=
for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
  if command -v "$candidate" >/dev/null &&
    "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    python=$(command -v "$candidate")
    break
  fi
done
if [ -z "$python" ]; then
  need+=(python3 python3-venv)
  python=/usr/bin/python3
elif ! "$python" -c 'import ensurepip' 2>/dev/null; then
  need+=(python3-venv)
fi

if [ ${#need[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then
    run=()
  elif command -v sudo >/dev/null; then
    run=(sudo)
  else
    say "missing: ${need[*]}. Run as root, or install them: apt-get install --no-install-recommends ${need[*]}"
    exit 2
  fi
  if ! command -v apt-get >/dev/null; then
    say "missing: ${need[*]} (Debian package names); install their equivalents and run make again"
    exit 2
  fi
  say "installing ${need[*]}"
  "${run[@]}" apt-get update -qq
  "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

pip_install() { "$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}"; }

if [ "${1:-}" = shell ]; then
  if [ ! -e .venv-shell/.ready ]; then
    say "creating .venv-shell for p4runtime-shell"
    "$python" -m venv .venv-shell
    pip_install .venv-shell -r deploy/shell-requirements.lock
    touch .venv-shell/.ready
  fi
  exit 0
fi

[ -x .venv/bin/python ] || { say "creating .venv with $python"; "$python" -m venv .venv; }
say "installing Python packages"
pip_install .venv -r requirements.lock
# The build backend warns about every editable install; the second attempt shows what really went wrong.
pip_install .venv --no-deps --editable . 2>/dev/null || pip_install .venv --no-deps --editable .
.venv/bin/python -m pip check --disable-pip-version-check

#!/usr/bin/env bash
# Create .venv from uv.lock; with --check-lock, only check that the lock file fits pyproject.toml.
# Needs Python 3.11 to 3.13 and, when uv is missing, pip. Nothing is installed outside this folder.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'make install: %s\n  → %s\n' "$1" "$2" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
        if [[ -n "$candidate" ]] && "$candidate" -c \
            'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

find_uv() {
    if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then
        command -v uv
        return
    fi
    if [[ ! -x .uv/bin/uv ]]; then
        # --target, because the system's Python may forbid installing into itself; .uv ignores itself in git.
        echo 'installing uv into .uv/' >&2
        "$1" -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target .uv uv >&2 || return 1
        echo '*' >.uv/.gitignore
    fi
    echo "$PWD/.uv/bin/uv"
}

python=$(find_python) || fail 'no Python 3.11, 3.12 or 3.13 was found' \
    'install one, or name it: PYTHON=/path/to/python3.12 make install'
uv=$(find_uv "$python") || fail "uv is missing and $python could not install it" \
    'install pip for this Python (python3-pip on Debian) or uv itself, and check the network'

if [[ "${1:-}" == --check-lock ]]; then
    exec "$uv" lock --check --python "$python"
fi
"$uv" sync --frozen --compile-bytecode --python "$python" ||
    fail 'uv could not create .venv from uv.lock' 'see its message above; make install tries again'

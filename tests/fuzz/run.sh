#!/usr/bin/env bash
# Coverage-guided fuzzing of the proxy's pure code: tests/fuzz/run.sh [SECONDS-IN-ALL].
set -euo pipefail
cd "$(dirname "$0")/../.."
python=.venv/bin/python
if ! "$python" -c 'import atheris' 2>/dev/null; then
  if ! "$python" -m pip install --quiet --disable-pip-version-check --group fuzz; then
    echo "atheris cannot be installed for this Python: no fuzzing"
    exit 0
  fi
fi
exec "$python" -m tests.fuzz --seconds "${1:-60}"

#!/usr/bin/env bash
# Checks what cannot be installed from Python packages, before anything is installed: an interpreter that can make
# environments, its headers, and a C++ compiler. Each missing thing gives one message with its remedy.
set -euo pipefail

python=${1:?usage: check_host.sh PYTHON}

fail() {
  printf 'effops set-up stopped: %s\n  remedy: %s\n' "$1" "$2" >&2
  exit 1
}

command -v "$python" >/dev/null ||
  fail "'$python' was not found" "install Python 3.11 or later, or name one: make setup PYTHON=/path/to/python3.11"

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "'$python' is Python $version; the pinned tools need 3.11 or later (effops itself runs on 3.10)" \
    "name a newer one: make setup PYTHON=/path/to/python3.11"

"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "'$python' cannot make virtual environments (its venv or ensurepip module is missing)" \
    "on Debian and Ubuntu: apt-get install python$version-venv"

if [[ ${EFFOPS_SKIP_EXT:-0} != 1 ]]; then
  compilers=(g++ clang++ c++)
  if [[ -n ${CXX:-} ]]; then compilers=("${CXX%% *}"); fi
  [[ -n $(type -P "${compilers[@]}") ]] ||
    fail "no C++ compiler was found (looked for: ${compilers[*]})" \
      "on Debian and Ubuntu: apt-get install g++; or EFFOPS_SKIP_EXT=1 for an install without kernels"

  headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [[ -f $headers/Python.h ]] ||
    fail "the headers of '$python' are missing ($headers/Python.h)" \
      "on Debian and Ubuntu: apt-get install python$version-dev"
fi

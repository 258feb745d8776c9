#!/usr/bin/env bash
# install.sh PYTHON VENV LOCK [TORCH]: makes the environment VENV what LOCK says, and proves it. `make env` and the
# Dockerfile call it; TORCH is cpu where LOCK asks for PyTorch without CUDA (see image_lock.py).
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 venv=$2 lock=$3 torch=${4:-cuda}

fail() {
	printf '%s\n' "$@" >&2
	exit 1
}

# pip's own order: its variables, then its section [install], then [global].
option() {
	local section value
	for section in :env: install global; do
		value=$(sed -n "s/^$section\.$1='\(.*\)'\$/\1/p" <<< "$configured")
		[ -z "$value" ] || break
	done
	printf '%s' "$value"
}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and
	"navembed needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12 ...")'

# 1. Until the end it counts as not made. What an install that was broken off has left behind is thrown away.
anew=()
[ -e "$venv/installed.txt" ] || anew=(--clear)
rm -f "$venv/installed.txt"
"$python" -m venv "${anew[@]}" "$venv"

# 2. pip brings uv.
awk '/^uv==/ { found = 1; print; next } /^[^ ]/ { found = 0 } found' "$lock" > "$venv/uv.txt"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$venv/uv.txt" ||
	fail "pip could not install uv. Look at the network, and at 'pip config list', then run 'make env' again."

# 3. uv brings the rest. It does not read pip's configuration, so the index is handed over: one, a full mirror of PyPI.
# Of several indexes uv takes the first one's wheel of a version, though only the next one's is for this machine. So extra
# indexes stay out, also uv's own, and folders of find-links, which have nothing that a full mirror lacks. Hashes hold
# whoever serves a file; only PyTorch without CUDA has none in the lock, and comes from its own index, which uv knows.
# Only wheels, lest a machine without one compiles for an hour; muq has none and needs no compiler.
configured=$("$venv/bin/python" -m pip config list)
index=$(option index-url)
certificates=$(option cert)
hashes=(--require-hashes)
[ "$torch" != cpu ] || hashes=(--verify-hashes --torch-backend cpu)
unset UV_CONFIG_FILE UV_INDEX UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_INDEX_STRATEGY UV_TORCH_BACKEND
UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}" "$venv/bin/uv" --no-config pip sync --python "$venv/bin/python" \
	"${hashes[@]}" --build-constraints "$lock" --only-binary :all: --no-binary muq \
	${index:+--default-index "$index"} ${certificates:+--cert "$certificates"} "$lock" ||
	fail "The packages could not be installed; the lines above say why." \
		"They come from one index alone, pip's index-url or PyPI: it must be in reach and a full mirror of PyPI." \
		"Then run 'make env' again; what was downloaded is kept."

# 4. The proof: an environment that cannot do its work counts as not made, either.
echo "Importing every package once, which takes up to a minute."
"$venv/bin/python" -m navembed_site.installation
cp "$lock" "$venv/installed.txt"

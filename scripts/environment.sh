# Sourced by the other scripts, which say in $file where they lie: goes to the project's folder.
# prepare_environment FILE... makes .venv hold these requirements, exec_with_paths MODULE... runs a
# command that is given paths. Plain sh, so that it runs with what a fresh Mac has.

called_from=$PWD
python=.venv/bin/python
unset CDPATH
cd -P "$(dirname "$file")/.." || exit 1

# The module reads them as relative to the folder that the user stands in (called_from.py).
exec_with_paths() {
    CALLED_FROM=$called_from exec "$python" -m "$@"
}

find_python() {
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "No Python 3.11 or newer was found. Install one, for instance: brew install python@3.12" >&2
    exit 1
}

refuse_rosetta() {
    processor=$("$1" -c 'import platform; print(platform.processor() if platform.system() == "Darwin" else "")')
    if [ "$processor" = i386 ]; then
        echo "This Python runs under Rosetta (platform.processor() says i386), and MLX needs a" >&2
        echo "native one. Open a native terminal and install it: brew install python@3.12" >&2
        exit 1
    fi
}

# False where its Python has gone or was replaced, and where its making was interrupted.
environment_works() {
    .venv/bin/python -c 'import pip' 2>/dev/null
}

make_environment() {
    found=$(find_python) || exit 1
    refuse_rosetta "$found"
    echo "Making .venv with $("$found" --version) ..." >&2
    # What an older one had installed, and the stamps that say so, go with it.
    "$found" -m venv --clear .venv && environment_works || {
        rm -rf .venv
        echo ".venv could not be made; Python's message, if it had one, is above." >&2
        exit 1
    }
}

prepare_environment() {
    environment_works || make_environment
    stamp=$(cat "$@" | cksum)
    stamp_file=.venv/installed-$(echo "$@" | cksum | cut -d ' ' -f 1)
    if [ "$(cat "$stamp_file" 2>/dev/null)" != "$stamp" ]; then
        echo "Installing packages (once; a few hundred MB, about a minute) ..." >&2
        for file in "$@"; do set -- "$@" -r "$file"; shift; done
        .venv/bin/python -m pip install -qq --disable-pip-version-check "$@" || {
            echo "The packages could not be installed; pip's message is above." >&2
            exit 1
        }
        echo "$stamp" >"$stamp_file"
    fi
    PATH="$PWD/.venv/bin:$PATH"
    export PATH
}

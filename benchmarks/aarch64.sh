#!/usr/bin/env bash
# Runs a core of the tests on an emulated aarch64, on a Debian with network; about 150 MB in a folder, no root, no install.
#   benchmarks/aarch64.sh FOLDER [TESTS ...]
# Emulated code cannot start another Python, so the self-test of Numba's private names is left out.
set -euo pipefail
tests=("${@:2}")
[ ${#tests[@]} -gt 0 ] || tests=(tests/test_losses.py tests/test_conv_relu_pool.py)
mkdir -p "$1" && folder=$(realpath "$1") && project=$(realpath "$(dirname "$0")/..")
cd "$folder"

if [ ! -d site ]; then
    mkdir -p apt/lists/partial apt/cache/archives/partial debs
    touch apt/status
    echo "deb http://deb.debian.org/debian bookworm main" > apt/sources.list
    get() { # ARCHITECTURE PACKAGE ...
        options=(-o "APT::Architecture=$1" -o "APT::Architectures=$1" -o Dir::State::lists="$folder/apt/lists"
            -o Dir::Cache="$folder/apt/cache" -o Dir::State::status="$folder/apt/status"
            -o Dir::Etc::sourcelist="$folder/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null)
        apt-get -qq "${options[@]}" update && (cd debs && apt-get -qq "${options[@]}" download "${@:2}")
    }
    get "$(dpkg --print-architecture)" qemu-user-static
    get arm64 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libcrypt1 libgcc-s1 libstdc++6 \
        zlib1g libssl3 libexpat1 libffi8 libbz2-1.0 liblzma5 libuuid1 libsqlite3-0 libncursesw6 libtinfo6 libreadline8
    for package in debs/*.deb; do dpkg -x "$package" root; done
    python3 -m pip download -q -d wheels --only-binary=:all: --python-version 3.11 --platform manylinux2014_aarch64 \
        --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \
        numpy numba pillow matplotlib tqdm pytest hypothesis
    for wheel in wheels/*.whl; do python3 -m zipfile -e "$wheel" site; done
fi

cd "$project"
exec "$folder/root/usr/bin/qemu-aarch64-static" -L "$folder/root" -E PYTHONHOME="$folder/root/usr" \
    -E PYTHONPATH="$folder/site:$project" -E PYTHONDONTWRITEBYTECODE=1 -E SIAMESE_NP_NUMBA=private \
    -E NUMBA_CACHE_DIR="$folder/cache" "$folder/root/usr/bin/python3.11" -m pytest -q -p no:cacheprovider "${tests[@]}"

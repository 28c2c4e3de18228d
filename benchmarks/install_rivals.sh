#!/bin/sh
# Install each rival into an environment of its own: install_rivals.sh DIRECTORY
# The versions are those the benchmark was written for. A rival that fails to install is
# reported and left out; nets.py says which are missing.
set -u
root=${1:?usage: install_rivals.sh DIRECTORY}
mkdir -p "$root"
install() {
    name=$1
    shift
    python3 -m venv "$root/venv-$name" || return 1
    "$root/venv-$name/bin/pip" install -q torch==2.13.0 scikit-learn scipy "$@" ||
        echo "NOT INSTALLED: $name ($*)"
}
install curv curvlinops-for-pytorch==3.0.1 skorch safetensors threadpoolctl narwhals
install kron kronfluence==1.0.1
install pydvl "pyDVL[influence]==0.10.0"
install captum captum==0.9.0
install dattri dattri==0.3.0

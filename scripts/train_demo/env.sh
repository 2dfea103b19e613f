# jemalloc that never gives pages back: a third of the CPU time went into page faults.
# Source it before training on CPU (Debian, Ubuntu: package libjemalloc2).
export LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2
export MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always
export PYTHONWARNINGS=ignore

# Source it before anything on CPU (Debian, Ubuntu: package libjemalloc2). A third of the
# CPU time went into page faults without it; with -1 in place of 15000 a process grew to
# 11 GB, because utterances have many lengths.
export LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2
export MALLOC_CONF=dirty_decay_ms:15000,muzzy_decay_ms:15000,thp:always
export PYTHONWARNINGS=ignore OMP_NUM_THREADS=1

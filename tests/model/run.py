import sys, time
from tests.model.driver import run_seed, shortened
from collections import Counter
first=int(sys.argv[1]); n=int(sys.argv[2])
began=time.perf_counter(); steps=0; c=Counter()
for seed in range(first, first+n):
    run=run_seed(seed)
    steps+=run.steps; c.update(run.counts)
    if run.wrong:
        print("seed", seed, run.wrong[:1500], len(run.taken)); 
        if len(sys.argv)>3:
            short=shortened(run); print(short.story); print(short.taken)
        break
d=time.process_time()
print(steps, steps/d, c)

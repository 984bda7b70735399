"""Reads AlphaPlus from shared memory: shared.py FILE SYMBOL TIMEFRAME MODEL

Prints each new state of the stream until the appliance ends, then "closed" or "dead". Needs
runtime/shared/python/alphaplus_shared.py on PYTHONPATH.
"""

import sys

from alphaplus_shared import Closed, Dead, Reader, Torn

path, symbol, timeframe, model = sys.argv[1:]
with Reader(path) as reader:
    try:
        slot = None
        while slot is None:
            reader.check_alive()
            slot = reader.find(symbol, timeframe, model)
        seen = None
        while True:
            try:
                now = reader.read(slot)
            except Torn:
                continue
            if now.seq != seen:
                seen = now.seq
                fields = now[:2] + (f"{now.value:.17g}",) + now[4:14] + (now.label or "-", now.model_version)
                fields += tuple(f"{x:.17g}" for x in now[16:])
                print(*fields, flush=True)
    except Closed:
        print("closed")
    except Dead:
        print("dead")

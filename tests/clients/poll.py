"""Polls AlphaPlus for a symbol's predictions: poll.py HOST:PORT SYMBOL COUNT

Prints `seq value as_of` for each new prediction and ends after COUNT of them. One connection is kept open, and each
request waits on the server for up to a second. A 4xx ends it with the server's error.
SYMBOL is as it stands in a URL.
"""

import http.client
import json
import sys
import time


def main(address, symbol, count):
    connection = http.client.HTTPConnection(address, timeout=5)
    path = f"/v1/predictions/{symbol}?wait_ms=1000"
    seq, etag = 0, None
    while count > 0:
        try:
            connection.request("GET", path, headers={"If-None-Match": etag} if etag else {})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()  # the next request connects again
            print(f"waiting: {error}", file=sys.stderr)
            time.sleep(0.1)
            continue
        if response.status == 200:
            etag = response.getheader("ETag")
            prediction = json.loads(body)
            if prediction["seq"] > seq:
                seq = prediction["seq"]
                count -= 1
                print(seq, prediction["value"], prediction["as_of"], flush=True)
        elif response.status == 503:  # warming, stale, abstained or quarantined: there is no number to trade on
            print(f"waiting: {json.loads(body)['error']}", file=sys.stderr)
            time.sleep(0.1)
        elif response.status != 304:
            sys.exit(f"{response.status}: {json.loads(body)['error']}")


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

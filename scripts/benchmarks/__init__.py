"""What the tiers cost, measured in one run and as ratios: `scripts/bench --help`.

A machine's speed wobbles from minute to minute, most of all a shared one. So subject and baseline
take turns (A B A B ...), each round gives one ratio, and the median of the rounds is reported.
"""

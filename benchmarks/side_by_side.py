"""What the benchmarks share: medians, alternating rounds, and one line of report."""

import statistics
import time


def median(call, count, after=None):
    """Seconds of a call, the median of `count`; `after` gets what each gave, and is not timed."""
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        given = call()
        times.append(time.perf_counter() - begun)
        if after is not None:
            after(given)
    return statistics.median(times)


async def amedian(call, count):
    """Seconds of something to await, the median of `count`."""
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def alternate(ours, peer, rounds, count=1, after=None):
    """Medians of both, turn by turn, so that both meet the same machine; the first turn warms up."""
    pairs = [(median(ours, count, after), median(peer, count, after)) for _ in range(rounds + 1)]
    return pairs[1:]


def report(what, pairs, peer="bare", bar=None):
    """Print the medians of both sides, and the median of the ratios with their quartiles."""
    ratios = [a / b for a, b in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{what:<22} ours {shown(statistics.median(a for a, _ in pairs))}"
        f"   {peer} {shown(statistics.median(b for _, b in pairs))}"
        f"   ratio {middle:.3g} ({low:.3g} to {high:.3g})" + (f"   bar {bar}" if bar else "")
    )


def shown(seconds):
    """A time with its unit, in a column."""
    return f"{seconds * 1e6:8.1f} us" if seconds < 0.001 else f"{seconds * 1e3:8.2f} ms"

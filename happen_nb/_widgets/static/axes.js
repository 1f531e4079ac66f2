// Axes: round numbers and round times, for whatever draws values over time.

const [SECOND, MINUTE, HOUR, DAY] = [1000, 60_000, 3_600_000, 86_400_000];
const ROUND_TIMES = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 30].map((each) => each * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((each) => each * MINUTE),
  ...[1, 2, 3, 6, 12].map((each) => each * HOUR),
  ...[1, 2, 7, 14, 30, 91, 182, 365, 730, 3650].map((each) => each * DAY),
];

const roundStep = (least) => {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].find((digit) => digit * power >= least) * power;
};

// The ends and the ticks of an axis that shows these values, at most so many.
function numberAxis(low, high, most) {
  const least = (high - low || Math.abs(low) / 5 || 1) / most;
  const step = Number.isFinite(least) && least > 1e-300 ? roundStep(least) : 1;
  const isLevel = low === high;
  const start = (Math.floor(low / step + 1e-9) - (isLevel ? 1 : 0)) * step;
  const count = Math.min(2 * most + 2, Math.max(1, Math.ceil((high - start) / step - 1e-9)) + (isLevel ? 1 : 0));
  const ticks = Array.from({ length: count + 1 }, (_, at) => Number((start + at * step).toPrecision(12)));
  return { low: ticks[0], high: ticks.at(-1), ticks };
}

const textOfNumber = (number) => {
  const size = Math.abs(number);
  if (size >= 1e9 || (size && size < 1e-4)) return number.toExponential(2).replace("e+", "e");
  return number.toLocaleString("en", { maximumSignificantDigits: 6 });
};

// Round times between two, with their labels in UTC.
function timeTicks(from, to, most) {
  const step = ROUND_TIMES.find((each) => each >= (to - from) / most) ?? ROUND_TIMES.at(-1);
  const text = (ms) => {
    const iso = new Date(ms).toISOString();
    if (step >= DAY) return iso.slice(0, 10);
    return step < SECOND ? iso.slice(11, 23) : step < MINUTE ? iso.slice(11, 19) : iso.slice(11, 16);
  };
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push([at, text(at)]);
  return ticks;
}

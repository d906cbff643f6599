/** What stands where the paths will be, before the first question. */

import { hueOf } from "../format";

const PATHS = 8;
const WIDTH = 720;
const HEIGHT = 168;

export function Welcome() {
  return (
    <section class="welcome">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
        {Array.from({ length: PATHS }, (_, i) => (
          <path key={i} class="strand" style={{ "--hue": hueOf(i + 1) }} d={strand(i)} />
        ))}
        <path class="trunk" d={`M${WIDTH * 0.82} ${HEIGHT / 2}H${WIDTH - 4}`} />
        <circle class="root" cx="4" cy={HEIGHT / 2} r="4" />
      </svg>
      <p class="lead">One question. Several paths of thought, each on its own. One answer that has read them all.</p>
      <p>Ask above, and watch the paths being written side by side.</p>
    </section>
  );
}

/** From the question on the left, apart, and together again. */
function strand(i: number): string {
  const [middle, y] = [HEIGHT / 2, 8 + (i * (HEIGHT - 16)) / (PATHS - 1)];
  const [from, to, end] = [WIDTH * 0.22, WIDTH * 0.6, WIDTH * 0.82];
  return `M4 ${middle}C${from * 0.6} ${middle} ${from * 0.5} ${y} ${from} ${y}H${to}C${to + 90} ${y} ${end - 70} ${middle} ${end} ${middle}`;
}

// Numbers of bytes as people read them.

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

// As the gateway's own words and flags have it.
export function memorySize(bytes) {
  let step = 0;
  while (bytes >= 1024 && step < UNITS.length - 1) {
    bytes /= 1024;
    step += 1;
  }
  return `${step ? bytes.toFixed(1) : bytes} ${UNITS[step]}`;
}

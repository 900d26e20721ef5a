// Numbers of JSON as they are written. JavaScript has fewer: 12345678901234567890 becomes
// 12345678901234567000, 1e400 infinite.

const STRING_OR_NUMBER = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

// JSON's value with the text of each number in its place. Throws SyntaxError where it is none.
export function parseAsWritten(json) {
  JSON.parse(json);
  return JSON.parse(json.replace(STRING_OR_NUMBER, (token) => (token[0] === '"' ? token : `"${token}"`)));
}

// The first number in valid JSON that JavaScript would change; undefined where there is none.
export function changedNumber(json) {
  return json.match(STRING_OR_NUMBER)?.find((token) => token[0] !== '"' && !holds(token));
}

function holds(number) {
  return inFull(number) === inFull(String(Number(number)));
}

// The same text for the same number: its digits from the first to the last that is not 0, and their
// place. Null for what is no number of JSON ("Infinity").
function inFull(number) {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i.exec(number);
  if (!parts) return null;
  const [, sign, whole, fraction = "", power = "0"] = parts;
  const digits = (whole + fraction).replace(/^0+/, "");
  const told = digits.replace(/0+$/, "");
  return told ? `${sign}${told}e${Number(power) - fraction.length + digits.length - told.length}` : "0";
}

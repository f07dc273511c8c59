/** A sentence of the server's as a screen shows it: they begin in lower case, as build statuses do. */
export function sentenceCase(sentence: string): string {
  const [first = "", ...rest] = sentence;
  return first.toLocaleUpperCase() + rest.join("");
}

/** Short names for texts that are much alike: without the words that all of them begin or end with. */
export function withoutCommonWords(texts: string[]): string[] {
  if (texts.length < 2) return texts;
  const split = texts.map((text) => text.split(" "));
  const front = commonLength(split);
  const back = commonLength(split.map((words) => words.slice(front).reverse()));
  const rest = split.map((words) => words.slice(front, words.length - back).join(" ").replace(/[.,:;]$/, ""));
  return rest.every((text) => text) ? rest : texts;
}

function commonLength(lists: string[][]): number {
  const [one = [], ...others] = lists;
  const differs = one.findIndex((word, i) => others.some((other) => other[i] !== word));
  return differs < 0 ? one.length : differs;
}

import { describe, expect, it } from "vitest";

import { finalAnswer, plain } from "../src/agreement";
import { withoutCommonWords } from "../src/labels";

describe("a final answer", () => {
  it.each([
    ["so it is\nAnswer: 123", "123"],
    ["**Final answer:** 1,234", "1,234"],
    ["The answer is 7.\nAnswer: 8\n", "8"],
    ["thus \\boxed{\\frac{1}{2}} as said", "\\frac{1}{2}"],
    ["we do not know", null],
    ["the answer would be hard to find", null],
  ])("of %j is %j", (text, answer) => {
    expect(finalAnswer(text, true)).toBe(answer);
  });

  it("that broke off is none, for it may have gone on", () => {
    expect(finalAnswer("Answer: 12", false)).toBeNull();
    expect(finalAnswer("Answer: 12\n", false)).toBe("12");
  });

  it.each([
    ["1,234", "1234"],
    ["$x^2$", "x^{2}"],
    ["2.50", "2.5"],
    ["  Yes. ", "yes"],
    ["\\text{7}", "7"],
  ])("written as %j is the same as %j", (one, other) => {
    expect(plain(one)).toBe(plain(other));
  });

  it.each([
    ["12", "21"],
    ["1,2", "12"],
    ["-3", "3"],
    ["0.5", "5"],
    ["\\frac{1}{23}", "\\frac{12}{3}"],
  ])("%j is not the same as %j", (one, other) => {
    expect(plain(one)).not.toBe(plain(other));
  });
});

describe("examples' labels", () => {
  it("leave out what all examples share", () => {
    expect(withoutCommonWords(["What is 3 * 4 now?", "What is 5 * 6 now?"])).toEqual(["3 * 4", "5 * 6"]);
    expect(withoutCommonWords(["One", "One more"])).toEqual(["One", "One more"]);
  });
});

// What the page says, in the language that the server chose; its table is in the page.

const table = JSON.parse(document.getElementById("texts").textContent);
const YEAR = 365 * 24 * 3600;

export const language = document.documentElement.lang;
const plural = new Intl.PluralRules(language);
const names = language === "en" ? null : new Intl.DisplayNames([language], { type: "language" });

// A text with what belongs in its {places}.
export const say = (key, values = {}) => table[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);

// A text that counts something: `key.one`, `key.other`.
export const count = (key, number, values) =>
  say(`${key}.${plural.select(number)}`, { n: number.toLocaleString(language), ...values });

// What went wrong: in this language if its code is known, else in the server's own words.
export const problem = (code, otherwise) => table[`error.${code}`] ?? otherwise;

// The name of a language that Tesseract calls by this code, for those that are not English.
export function languageName(code, english) {
  if (!names || code === "frk" || !/^[a-z]{3}$/.test(code)) return english; // frk: not Frankish
  const name = names.of(code);
  return name === code ? english : name;
}

// Buttons that choose another language; the server remembers by a cookie.
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    document.cookie = `ocr_language=${button.dataset.language};path=/;max-age=${YEAR};samesite=lax`;
    location.reload();
  });
}

// The texts of the page. The server selects the language and embeds its texts in the page.

const table = JSON.parse(document.getElementById("texts").textContent);
const YEAR = 365 * 24 * 3600;

export const language = document.documentElement.lang;
const plural = new Intl.PluralRules(language);
const names = language === "en" ? null : new Intl.DisplayNames([language], { type: "language" });

// Returns a text with values for its {placeholders}.
export const say = (key, values = {}) => table[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);

// Returns the singular or plural of a text: `key.one`, `key.other`.
export const count = (key, number, values) =>
  say(`${key}.${plural.select(number)}`, { n: number.toLocaleString(language), ...values });

// Returns the translated message of an error code, or `otherwise`, the server's message.
export const problem = (code, otherwise) => table[`error.${code}`] ?? otherwise;

// Returns the localized name of a Tesseract language code, or the English name.
export function languageName(code, english) {
  if (!names || code === "frk" || !/^[a-z]{3}$/.test(code)) return english; // frk: browsers say Frankish
  const name = names.of(code);
  return name === code ? english : name;
}

// Buttons that change the language, which is stored in a cookie.
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    document.cookie = `ocr_language=${button.dataset.language};path=/;max-age=${YEAR};samesite=lax`;
    location.reload();
  });
}

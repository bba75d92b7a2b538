// A question with a few answers, in a dialog of its own.

const $ = (id) => document.getElementById(id);

// `answers` are [value, label]; the first one is what most people want. Gives the value, or null,
// also if another question is still open.
export function ask(title, words, answers) {
  const dialog = $("ask");
  if (dialog.open) return null;
  $("ask-title").textContent = title;
  $("ask-words").textContent = words;
  $("ask-choices").replaceChildren(
    ...answers.map(([value, label], index) => {
      const choice = Object.assign(document.createElement("button"), { value, textContent: label });
      if (index) choice.className = "plain";
      return choice;
    }),
  );
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue || null), { once: true });
  });
}

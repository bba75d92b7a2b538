// A dialog with a question and a few choices.

const $ = (id) => document.getElementById(id);

// `answers` are [value, label], the most likely one first. Resolves to the value, or to null if the
// dialog is closed without a choice. Returns null if another question is still open.
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

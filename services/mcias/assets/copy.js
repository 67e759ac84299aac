// Copies what is shown once. A button with data-copy names the element whose text it copies; what came of it is told in the [role=status]
// beside it. Such buttons are hidden until this runs: without it the text is selected by hand.
"use strict";

{
  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    const status = button.parentElement.querySelector("[role=status]");
    status.textContent = "";
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      status.textContent = "Copied.";
    } catch (error) {
      console.warn("copy:", error);
      getSelection().selectAllChildren(source);
      status.textContent = "This browser does not let pages copy. The text is selected: copy it by the keyboard.";
    }
  };

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }
}

// Passkeys (WebAuthn Level 3). A form with data-passkey is sent with the authenticator's answer: "create" has its options in
// data-options, "get" asks for them at data-begin when it is used, since they are good for minutes only and login pages stay open.
// Such forms are hidden until this runs, and [data-without-passkeys] is shown instead: pages work without it, by password and code.
"use strict";

const SENTENCES = {
  NotAllowedError: "No passkey was used: it was cancelled, or it took too long. Try again.",
  AbortError: "No passkey was used: it was cancelled. Try again.",
  InvalidStateError: "This device has a passkey of this account already.",
  NotSupportedError: "This device has nothing that can keep such a passkey.",
  SecurityError: "Passkeys do not work at this address. Open the page under the name that they were made for.",
};

const supported = typeof PublicKeyCredential === "function"
  && typeof PublicKeyCredential.parseCreationOptionsFromJSON === "function"
  && typeof PublicKeyCredential.parseRequestOptionsFromJSON === "function";

async function begin(form) {
  const response = await fetch(form.dataset.begin, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: "{}",
  });
  if (!response.ok) {
    throw new Error(`the service answered ${response.status}`);
  }
  return response.json();
}

async function credential(form) {
  if (form.dataset.passkey === "create") {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(JSON.parse(form.dataset.options));
    return navigator.credentials.create({ publicKey });
  }
  const { ceremony, options } = await begin(form);
  form.elements.ceremony.value = ceremony;
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(JSON.parse(options));
  return navigator.credentials.get({ publicKey });
}

async function use(form) {
  const button = form.querySelector("button");
  const problem = form.querySelector("[role=alert]");
  problem.textContent = "";
  button.disabled = true;
  try {
    form.elements.credential.value = JSON.stringify(await credential(form));
    form.submit();
  } catch (error) {
    console.warn("passkey:", error);
    problem.textContent = SENTENCES[error.name] ?? "The passkey could not be used. Load the page again, and try once more.";
  } finally {
    button.disabled = false;
  }
}

if (supported) {
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      use(form);
    });
  }
  for (const instead of document.querySelectorAll("[data-without-passkeys]")) {
    instead.hidden = true;
  }
}

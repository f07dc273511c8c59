import "@testing-library/jest-dom/vitest";
import { cleanup, configure } from "@testing-library/react";
import { afterEach } from "vitest";

afterEach(cleanup);

// How long an element is waited for that does not come; nothing waits that long otherwise.
configure({ asyncUtilTimeout: 10_000 });

// A test may ask for an environment without a document.
if ("HTMLDialogElement" in globalThis) {
  // jsdom has the element but not what opens and closes it.
  HTMLDialogElement.prototype.showModal ??= function showModal(this: HTMLDialogElement) {
    this.open = true;
  };
  HTMLDialogElement.prototype.close ??= function close(this: HTMLDialogElement) {
    this.open = false;
  };

  // jsdom has this one too, and prints a line each time that it does nothing.
  window.scrollTo = () => {};
}

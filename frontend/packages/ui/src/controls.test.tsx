import { fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test, vi } from "vitest";
import { initials, People } from "./Avatar.tsx";
import { Button } from "./Button.tsx";
import { FullCommit, ShortCommit } from "./Commit.tsx";
import { CopyButton } from "./CopyButton.tsx";
import { Dialog } from "./Dialog.tsx";
import { ErrorNote, signInPath } from "./ErrorNote.tsx";
import { Field } from "./Field.tsx";
import { ExternalLink, isSafe } from "./Link.tsx";
import { sentenceCase } from "./sentence.ts";
import { spoken, Time } from "./Time.tsx";

const hash = "4f2a9c7be1d05386f7a1c3e59b0d2846aa31c9e7";

describe("Button", () => {
  test("does nothing again while it is busy, and keeps the focus", async () => {
    const press = vi.fn();
    const { rerender } = render(<Button onClick={press}>Save</Button>);
    await userEvent.click(screen.getByRole("button"));
    rerender(
      <Button onClick={press} busy>
        Save
      </Button>,
    );
    await userEvent.click(screen.getByRole("button", { name: "Save" }));
    expect(press).toHaveBeenCalledTimes(1);
    expect(screen.getByRole("button")).toHaveFocus();
    expect(screen.getByRole("button")).toHaveAttribute("aria-busy", "true");
  });

  test("submits no form twice while it is busy", async () => {
    const submit = vi.fn((event: { preventDefault: () => void }) => event.preventDefault());
    render(
      <form onSubmit={submit}>
        <Button type="submit" busy>
          Save
        </Button>
      </form>,
    );
    await userEvent.click(screen.getByRole("button"));
    expect(submit).not.toHaveBeenCalled();
  });
});

describe("Dialog", () => {
  test("is modal and named, and the Escape key leaves it", () => {
    const showModal = vi.spyOn(HTMLDialogElement.prototype, "showModal");
    const close = vi.fn();
    render(
      <Dialog title="Revoke Laptop?" onClose={close} actions={<Button>Keep it</Button>}>
        Really?
      </Dialog>,
    );
    const dialog = screen.getByRole("dialog", { name: "Revoke Laptop?", hidden: true });
    expect(showModal).toHaveBeenCalledOnce();
    fireEvent(dialog, new Event("cancel", { cancelable: true }));
    expect(close).toHaveBeenCalledOnce();
  });
});

describe("Field", () => {
  test("ties label, hint and problem to its control", () => {
    render(
      <Field label="Name" hint="1 to 64 characters." problem="It is empty.">
        {(control) => <input {...control} />}
      </Field>,
    );
    const input = screen.getByLabelText("Name");
    expect(input).toBeInvalid();
    expect(input).toHaveAccessibleDescription("1 to 64 characters. It is empty.");
  });

  test("says nothing of problems where there are none", () => {
    render(<Field label="Name">{(control) => <input {...control} />}</Field>);
    expect(screen.getByLabelText("Name")).toBeValid();
    expect(screen.queryByRole("alert")).toBeNull();
  });
});

describe("commits", () => {
  test("the short form has the whole hash in its title", () => {
    render(<ShortCommit hash={hash} />);
    expect(screen.getByTitle(hash)).toHaveTextContent("4f2a9c7be1d0");
  });

  test("the full form is the hash and nothing between", () => {
    const { container } = render(<FullCommit hash={hash} />);
    expect(container.textContent).toBe(hash);
  });
});

describe("CopyButton", () => {
  test("copies, and says so", async () => {
    const user = userEvent.setup();
    render(<CopyButton text={hash} label="Copy the commit" />);
    await user.click(screen.getByRole("button", { name: "Copy the commit" }));
    expect(await screen.findByText("Copied")).toBeInTheDocument();
    expect(await navigator.clipboard.readText()).toBe(hash);
  });

  test("says when it cannot", async () => {
    const user = userEvent.setup();
    vi.spyOn(navigator.clipboard, "writeText").mockRejectedValue(new Error("denied"));
    render(<CopyButton text={hash} label="Copy the commit" />);
    await user.click(screen.getByRole("button"));
    expect(await screen.findByText(/Could not copy/)).toBeVisible();
  });
});

describe("ErrorNote", () => {
  test("leads a signed-out reader back to the page", () => {
    render(<ErrorNote failure={{ kind: "signed-out", message: "" }} doing="read it" />);
    expect(screen.getByRole("link")).toHaveAttribute("href", signInPath());
    expect(signInPath({ pathname: "/pr/a/b/7", search: "?x=1&y" })).toBe(
      "/auth/sign-in?return_to=%2Fpr%2Fa%2Fb%2F7%3Fx%3D1%26y",
    );
  });

  test("does not tell a thing that is hidden from one that is not there", () => {
    render(<ErrorNote failure={{ kind: "denied", message: "internal detail" }} doing="read it" />);
    expect(screen.getByRole("alert")).toHaveTextContent("It does not exist, or your Bitbucket account may not see it.");
    expect(screen.getByRole("alert")).not.toHaveTextContent("internal detail");
  });

  test("offers another attempt", async () => {
    const retry = vi.fn();
    render(
      <ErrorNote
        failure={{ kind: "unavailable", message: "Bitbucket did not answer." }}
        doing="read it"
        onRetry={retry}
      />,
    );
    expect(screen.getByRole("alert")).toHaveTextContent("Could not read itBitbucket did not answer.");
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(retry).toHaveBeenCalledOnce();
  });
});

describe("links", () => {
  test.each([
    ["/pr/a/b/7", true],
    ["https://bitbucket.org/acme", true],
    ["http://localhost:3000/x", true],
    ["javascript:alert(1)", false],
    ["data:text/html,x", false],
    ["//evil.example", false],
    ["/\\evil.example", false],
    ["", false],
  ])("%s may be a link: %s", (address, expected) => {
    expect(isSafe(address)).toBe(expected);
  });

  test("opens through the surroundings where there are some, but leaves a modified click to the browser", () => {
    const open = vi.fn(async () => true);
    render(
      <ExternalLink href="/sign/x" onOpen={open}>
        Approve
      </ExternalLink>,
    );
    const link = screen.getByRole("link", { name: "Approve (opens in a new tab)" });
    expect(link).toHaveAttribute("rel", "noopener noreferrer");
    fireEvent.click(link);
    expect(open).toHaveBeenCalledExactlyOnceWith("/sign/x");
    fireEvent.click(link, { ctrlKey: true });
    expect(open).toHaveBeenCalledTimes(1);
  });

  test("shows the address where no tab opened, for as long as none does", async () => {
    const open = vi.fn(async () => false);
    render(
      <ExternalLink href="https://app.example/sign/x#ticket=secret" onOpen={open}>
        Approve
      </ExternalLink>,
    );
    const link = screen.getByRole("link", { name: "Approve (opens in a new tab)" });
    await userEvent.click(link);
    const told = await screen.findByRole("alert");
    expect(told).toHaveTextContent("No tab opened. Open this address yourself: https://app.example/sign/x");
    expect(told).not.toHaveTextContent("secret");
    const plain = within(told).getByRole("link");
    expect(plain).toHaveAttribute("href", "https://app.example/sign/x#ticket=secret");
    const write = vi.spyOn(navigator.clipboard, "writeText");
    await userEvent.click(within(told).getByRole("button", { name: "Copy the whole address" }));
    expect(write).toHaveBeenCalledExactlyOnceWith("https://app.example/sign/x#ticket=secret");
    open.mockResolvedValue(true);
    await userEvent.click(link);
    await waitFor(() => expect(screen.queryByRole("alert")).toBeNull());
  });

  test("renders no link to an address that is none", () => {
    render(<ExternalLink href="data:text/html,x">Title</ExternalLink>);
    expect(screen.queryByRole("link")).toBeNull();
  });
});

describe("Time", () => {
  const now = Date.parse("2026-11-22T12:00:00Z");
  test.each([
    ["2026-11-22T11:59:40Z", "just now"],
    ["2026-11-22T12:00:20Z", "in less than a minute"],
    ["2026-11-22T11:15:00Z", "45 minutes ago"],
    ["2026-11-22T15:00:00Z", "in 3 hours"],
    ["2026-11-21T12:00:00Z", "yesterday"],
    ["2026-11-29T11:00:00Z", "in 7 days"],
    ["2026-10-01T12:00:00Z", "Oct 1, 2026"],
  ])("%s is %s", (at, expected) => {
    expect(spoken(new Date(at), now, "en-US")).toBe(expected);
  });

  test("gives UTC in its title", () => {
    render(<Time value="2026-11-22T09:30:00.123456Z" exact />);
    expect(screen.getByTitle("2026-11-22 09:30:00.123456 UTC")).toHaveAttribute(
      "datetime",
      "2026-11-22T09:30:00.123456Z",
    );
  });
});

test.each([
  ["Alice Moreau", "AM"],
  ["bob", "B"],
  ["Ana Maria de Souza", "AS"],
  ["  ", "?"],
  ["(x) 世 界", "X界"],
])("the initials of %j are %s", (name, expected) => {
  expect(initials(name)).toBe(expected);
});

test("people are a list with a name", () => {
  render(<People label="Approved" people={[{ accountId: "1", name: "Bob Tanaka" }]} />);
  expect(screen.getByRole("list", { name: "Approved" })).toHaveTextContent("Bob Tanaka");
});

test("a sentence begins in upper case, whatever letter it begins with", () => {
  expect([sentenceCase("ärger"), sentenceCase("1 of 2"), sentenceCase("")]).toEqual(["Ärger", "1 of 2", ""]);
});

import { render, screen } from "@testing-library/react";
import { expect, test } from "vitest";
import { Visible } from "./Visible.tsx";

test("shows plain text as text", () => {
  const { container } = render(<Visible text="release/1.0" />);
  expect(container.innerHTML).toBe("release/1.0");
});

test("puts a mark in the place of a character that would reorder its neighbours, and names it", () => {
  const { container } = render(<Visible text={"if (admin\u202e) {"} />);
  expect(container.textContent).not.toContain("\u202e");
  expect(screen.getByTitle("right-to-left override (U+202E)")).toBeVisible();
  expect(container.textContent).toContain("right-to-left override");
});

test("renders text of strangers as text and never as markup", () => {
  const { container } = render(<Visible text={"<img src=x onerror=alert(1)>\u200b"} />);
  expect(container.querySelector("img")).toBeNull();
  expect(container.textContent).toContain("<img src=x onerror=alert(1)>");
});

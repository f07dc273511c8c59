import { render, screen } from "@testing-library/react";
import { expect, test } from "vitest";
import { SignPage } from "./SignPage.tsx";

test("names itself in its heading", () => {
  render(<SignPage />);
  expect(screen.getByRole("heading", { level: 1, name: "Sign a decision" })).toBeVisible();
});

import { render, screen } from "@testing-library/react";
import { expect, test } from "vitest";
import { Dashboard } from "./Dashboard.tsx";

test("names itself in its heading", () => {
  render(<Dashboard />);
  expect(screen.getByRole("heading", { level: 1, name: "SignedApproval" })).toBeVisible();
});

import { render, screen } from "@testing-library/react";
import { expect, test } from "vitest";
import { Panel } from "./Panel.tsx";

test("names itself in its heading", () => {
  render(<Panel />);
  expect(screen.getByRole("heading", { level: 1, name: "Approvals" })).toBeVisible();
});

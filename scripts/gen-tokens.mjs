// Writes the Atlassian design tokens as one static style sheet, so that no page injects styles at run time (the content
// security policy forbids it). Without data-color-mode on <html> the page follows the reader's system; with "light" or
// "dark" it follows the attribute.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(import.meta.url);
const home = dirname(require.resolve("@atlaskit/tokens/package.json"));
const { version } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
const licence = readFileSync(join(home, "LICENSE"), "utf8").trim();

/** The declarations of one theme: each theme of the package is one rule. */
function declarations(theme) {
  const css = require(join(home, `dist/cjs/artifacts/themes/atlassian-${theme}.js`)).default;
  const rule = /^[^{}]*\{([^{}]*)\}\s*$/.exec(css);
  if (!rule) throw new Error(`@atlaskit/tokens ${version}: the theme ${theme} is no longer one rule`);
  return rule[1].trim();
}

const dark = declarations("dark");
const css = `/*!
Generated from @atlaskit/tokens ${version} by scripts/gen-tokens.mjs. Do not edit. The tokens come under this notice:

${licence}
*/
:root {
  ${declarations("spacing")}
  ${declarations("shape")}
  ${declarations("typography")}
}
:root {
  ${declarations("light")}
}
@media (prefers-color-scheme: dark) {
:root:not([data-color-mode]) {
  ${dark}
}
}
:root[data-color-mode="dark"] {
  ${dark}
}
`;
writeFileSync(new URL("../frontend/packages/ui/src/tokens.css", import.meta.url), css);

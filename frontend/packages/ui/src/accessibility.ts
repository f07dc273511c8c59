import axe from "axe-core";

/**
 * What axe finds wrong with what a test rendered, one line each. Colours are not computed in tests of components: the
 * browser tests look at them in light and dark.
 */
export async function violations(container: Element): Promise<string[]> {
  const { violations: found } = await axe.run(container, {
    rules: { "color-contrast": { enabled: false }, region: { enabled: false } },
  });
  return found.flatMap((violation) => violation.nodes.map((node) => `${violation.id}: ${node.html}`));
}

import { describe, expect, test } from "vitest";
import vectors from "../../../../server/gate/testdata/receipts.json" with { type: "json" };
import { fromBase64Url, hex, sha256 } from "./bytes.ts";
import { checkReceipt, ReceiptMismatch } from "./receipt.ts";

// The vectors are made and checked by the tests of the gate.
async function digest(statement: string): Promise<string> {
  return hex(await sha256(fromBase64Url(statement)));
}

describe("a receipt", () => {
  test.each(vectors)("is checked: $name", async ({ statement, receipt, index, size }) => {
    expect(await checkReceipt(receipt, await digest(statement))).toEqual({ index, size });
  });

  test.each(vectors)("is refused about another statement: $name", async ({ receipt }) => {
    await expect(checkReceipt(receipt, "0".repeat(64))).rejects.toThrow(ReceiptMismatch);
  });

  test("has no part that can be another", async () => {
    for (const { statement, receipt } of vectors) {
      const signed = await digest(statement);
      const parsed = JSON.parse(receipt) as { leaf: { index: number; proof: string[] }; checkpoint: string };
      const others = [
        { ...parsed, leaf: { ...parsed.leaf, index: parsed.leaf.index + 1 } },
        { ...parsed, leaf: { ...parsed.leaf, index: -1 } },
        { ...parsed, leaf: { ...parsed.leaf, proof: [...parsed.leaf.proof, "A".repeat(43)] } },
        {
          ...parsed,
          checkpoint: parsed.checkpoint.replace(/\n(?<size>\d+)\n/u, (_, size) => `\n${Number(size) * 4}\n`),
        },
        { ...parsed, format: "signedapproval.receipt/v2" },
        ...parsed.leaf.proof.flatMap((_, at) => [
          { ...parsed, leaf: { ...parsed.leaf, proof: parsed.leaf.proof.with(at, "A".repeat(43)) } },
          { ...parsed, leaf: { ...parsed.leaf, proof: parsed.leaf.proof.toSpliced(at, 1) } },
        ]),
      ];
      for (const other of others) {
        await expect(checkReceipt(JSON.stringify(other), signed), JSON.stringify(other)).rejects.toThrow(
          ReceiptMismatch,
        );
      }
    }
  });

  test.each([
    "",
    "{}",
    "null",
    "[]",
    '{"format":"signedapproval.receipt/v1"}',
    '{"format":"signedapproval.receipt/v1","leaf":{"entry":"e30","index":0,"proof":[]},"checkpoint":""}',
  ])("is no %j", async (text) => {
    await expect(checkReceipt(text, "0".repeat(64))).rejects.toThrow(ReceiptMismatch);
  });
});

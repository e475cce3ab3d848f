// Reads an AsyncAPI document with AsyncAPI's own parser and prints what it says, a line a diagnostic; 1 on an error.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const NAMES = ["error", "warning", "information", "hint"];
for (const found of diagnostics) console.log(`${NAMES[found.severity]} ${found.path.join(".")}: ${found.message}`);
if (document === undefined || diagnostics.some((found) => found.severity === 0)) process.exit(1);
console.log(`channels ${document.channels().length} operations ${document.operations().length}`);

// Our own pages in a real headless Chromium, one tab for each id, driven as people do: JSON lines on
// stdin are {do, id, call, …}, on stdout {report: "done", id, call, value} or {report: "failed", …, message}.
// Usage: node pages.mjs PROFILE_DIRECTORY
//
// What a page must not do is reported as a fault: an error in its scripts, a request to another origin,
// what its Content Security Policy refuses.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import { launch } from "./browser.mjs";

const PATIENCE = 15000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await launch(process.argv[2]);
const tabs = new Map();
const tell = (report) => process.stdout.write(`${JSON.stringify(report)}\n`);

async function open({ id, url }) {
  const tab = await browser.newPage();
  const fault = (message) => tell({ id, report: "fault", message });
  const { origin } = new URL(url);
  tab.setDefaultTimeout(PATIENCE);
  tab.on("pageerror", (error) => fault(String(error)));
  tab.on("console", (said) => said.text().includes("Content Security Policy") && fault(said.text()));
  tab.on("request", (request) => {
    const asked = new URL(request.url());
    if (!["data:", "blob:"].includes(asked.protocol) && asked.origin !== origin) fault(`asked ${asked}`);
  });
  await tab.goto(url);
  tabs.set(id, tab);
}

const actions = {
  click: (tab, { at }) => tab.click(at),
  fill: (tab, { at, text }) => tab.fill(at, text),
  type: (tab, { at, text }) => tab.locator(at).pressSequentially(text),
  press: (tab, { key }) => tab.keyboard.press(key),
  select: (tab, { at, value }) => tab.selectOption(at, value),
  // until an element is there (in sight, unless told otherwise), and holds the text
  see: (tab, { at, text }) =>
    tab.locator(at).filter({ hasText: text ?? "" }).first().waitFor({ state: "visible" }),
  gone: (tab, { at, text }) =>
    tab.waitForFunction(
      ([selector, wanted]) =>
        ![...document.querySelectorAll(selector)].some((one) => one.offsetParent && one.textContent.includes(wanted)),
      [at, text ?? ""],
    ).then(() => undefined),
  texts: (tab, { at }) => tab.locator(at).allTextContents(),
  value: (tab, { at }) => tab.inputValue(at),
  focused: (tab) => tab.evaluate(() => document.activeElement?.textContent || document.activeElement?.name),
  // pixels by which the page is wider than the screen
  overflow: (tab) => tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
  look: async (tab, { width, height, scheme }) => {
    if (width) await tab.setViewportSize({ width, height });
    if (scheme) await tab.emulateMedia({ colorScheme: scheme });
  },
  picture: (tab, { path }) => tab.screenshot({ path }).then(() => undefined),
  storage: (tab) => tab.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie, location.href]),
  // what axe-core finds, of impact serious or critical: [{rule, impact, where}]
  axe: async (tab) => {
    await tab.evaluate(axe);
    const { violations } = await tab.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, impact, nodes }) => ({ rule: id, impact, where: nodes.slice(0, 3).map(({ failureSummary, html }) => `${html}: ${failureSummary}`) }));
  },
};

async function run(command) {
  const { id, call } = command;
  try {
    const value = command.do === "open" ? await open(command) : await actions[command.do](tabs.get(id), command);
    tell({ id, call, report: "done", value: Array.isArray(value) || typeof value !== "object" ? value : null });
  } catch (error) {
    const path = `${process.env.HOME}/failed-${id}.png`;
    await tabs.get(id)?.screenshot({ path }).catch(() => {});
    tell({ id, call, report: "failed", message: `${command.do} ${command.at ?? ""}: ${error} (see ${path})` });
  }
}

let last = Promise.resolve();
createInterface({ input: process.stdin })
  .on("line", (line) => {
    last = last.then(() => run(JSON.parse(line)));
  })
  .on("close", () => browser.close().finally(() => process.exit(0)));
tell({ report: "ready" });

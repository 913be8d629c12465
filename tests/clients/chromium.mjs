// Sockets in pages of a real headless Chromium, one tab for each: the commands and reports of
// sockets.mjs as JSON lines on stdin and stdout. Usage: node chromium.mjs PAGE_URL PROFILE_DIRECTORY
//
// Two commands more: "open" also opens the tab, "close" {id} closes it as a user does.
// Ends when stdin ends. The first line on stdout is {"report": "ready"}.
import { createInterface } from "node:readline";

import { launch } from "./browser.mjs";

const [page, profile] = process.argv.slice(2);
const browser = await launch(profile);
const tabs = new Map();
const tell = (report) => process.stdout.write(`${JSON.stringify(report)}\n`);

// Calls out of a page may be handed over in another order than they were made in: they are numbered.
function inOrder(hand) {
  const waiting = new Map();
  let next = 0;
  return (number, report) => {
    waiting.set(number, report);
    for (; waiting.has(next); next += 1) {
      hand(waiting.get(next));
      waiting.delete(next);
    }
  };
}

async function open(command) {
  const tab = await browser.newPage();
  tab.on("pageerror", (error) => tell({ id: command.id, report: "fault", message: String(error) }));
  await tab.exposeFunction("report", inOrder(tell));
  await tab.goto(page);
  await tab.waitForFunction(() => typeof window.command === "function");
  await tab.evaluate((given) => window.command(given), command);
  return tab;
}

// A command waits for the tab of its socket, and for the commands before it.
function run(command) {
  const before = tabs.get(command.id);
  const after =
    command.do === "open"
      ? open(command)
      : before.then(async (tab) => {
          if (command.do === "close") await tab.close();
          else await tab.evaluate((given) => window.command(given), command);
          return tab;
        });
  after.catch((error) => tell({ id: command.id, report: "fault", message: String(error) }));
  tabs.set(command.id, after);
}

createInterface({ input: process.stdin })
  .on("line", (line) => run(JSON.parse(line)))
  .on("close", () => browser.close().finally(() => process.exit(0)));
tell({ report: "ready" });

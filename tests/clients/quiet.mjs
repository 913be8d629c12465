// Loaded first: what clients write to the console is for people, and standard output is for reports.
globalThis.console = { ...console, log() {}, warn() {}, info() {}, debug() {} };

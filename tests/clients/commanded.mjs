// Clients that are driven by commands: each command is a method, of the client that its id names.
export class Commanded {
  constructor(library, report) {
    this.library = library;
    this.report = report;
    this.byId = new Map();
  }

  // Carry out one command. A command that fails is reported as a fault.
  command(command) {
    try {
      if (command.do === "open") this.open(command);
      else this[command.do](this.byId.get(command.id), command);
    } catch (error) {
      this.report({ id: command.id, report: "fault", message: `${command.do}: ${error.stack ?? error}` });
    }
  }
}

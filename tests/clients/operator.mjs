// node operator.mjs: judges objects of the Prometheus Operator by its published schemas. Takes a list of them as
// JSON on standard input, prints a list of what is wrong: an empty text for what is valid.
import { readFileSync } from "node:fs";
import * as kinds from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

function fault({ apiVersion, kind, ...rest }) {
  const Kind = kinds[kind];
  if (!Kind || apiVersion !== Kind.apiVersion) return `there is no ${apiVersion} ${kind}`;
  try {
    new Kind(rest).validate();
    return "";
  } catch (error) {
    return error.message;
  }
}

console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(fault)));

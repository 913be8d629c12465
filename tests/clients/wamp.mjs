// Connections of the official autobahn-js, driven by the commands of sockets.mjs and telling what happens
// to them by the same reports. Runs unchanged in Node and in a page: whoever loads it gives it `autobahn`.
//
// A connection subscribes to the prefix "", which is everything that it gets; an event is called as its
// procedure. Its own: open {options: {token, serializer, authextra}}, and for the others
//   subscribe {topic, match, ack}, unsubscribe {subscription, ack}
//   publish   {topic, payload, options, ack}
//   flow      {rooms, count}     send `count` numbered messages at once
// With the option `acknowledge` it calls "ack" for each publication that has a number in the sequence.
// Reports of its own: event has `publication` and `topic` as well.
import { Commanded } from "./commanded.mjs";

const eventOf = (topic) => {
  const parts = topic.split(".");
  if (["room", "event"].includes(parts[0]) && parts.length > 2) return `${parts[0]}:${parts[2]}`;
  return topic.replace(".", ":");
};

export class Wamp extends Commanded {
  open({ id, url, options }) {
    const autobahn = this.library;
    const tell = (report, more) => this.report({ id, report, ...more });
    const serializers = {
      json: autobahn.serializer.JSONSerializer,
      msgpack: autobahn.serializer.MsgpackSerializer,
      cbor: autobahn.serializer.CBORSerializer,
    };
    const connection = new autobahn.Connection({
      url,
      realm: "realtime",
      serializers: [new serializers[options.serializer ?? "json"]()],
      authmethods: ["ticket"],
      authid: "whoever",
      authextra: options.authextra,
      onchallenge: () => options.token,
      max_retries: -1,
      initial_retry_delay: 0.02,
      max_retry_delay: 0.1,
    });
    const state = { connection, options, subscriptions: new Map() };
    this.byId.set(id, state);
    connection.onopen = async (session, details) => {
      const welcome = details.authextra;
      const take = (args, payload, about) => {
        tell("event", {
          event: eventOf(about.topic),
          args: [payload],
          topic: about.topic,
          publication: about.publication,
        });
        if (options.acknowledge && about.publication < 2 ** 52) {
          session.call("ack", [], { id: about.publication });
        }
      };
      const subscription = await session.subscribe("", take, { match: "prefix" });
      state.subscriptions.set(subscription.id, subscription);
      tell("connect", { sid: session.id, recovered: welcome.recovered, transport: "websocket" });
      tell("event", { event: "system:connected", args: [welcome] });
    };
    connection.onclose = (reason, details) => {
      tell("disconnect", { reason, code: null, text: details.reason, active: details.will_retry });
      return false;
    };
    connection.open();
  }

  answer(id, ack, promise) {
    if (ack === undefined || ack === null) return;
    const told = (answer) => this.report({ id, report: "ack", ack, args: [answer] });
    promise.then(told, (error) => told({ ok: false, uri: error.error, error: error.kwargs }));
  }

  emit({ connection }, { id, event, args, ack }) {
    const called = connection.session.call(event.replace(":", "."), [], args[0] ?? {});
    this.answer(id, ack, called.then((result) => result.kwargs ?? { ok: true, args: result.args ?? result }));
  }

  publish({ connection }, { id, topic, payload, options, ack }) {
    const published = connection.session.publish(topic, [], payload, options);
    this.answer(id, ack, published.then((publication) => ({ ok: true, publication: publication.id })));
  }

  subscribe(state, { id, topic, match, ack }) {
    const take = (args, payload, about) =>
      this.report({ id, report: "topic", topic, payload, publication: about.publication });
    const made = state.connection.session.subscribe(topic, take, { match: match ?? "exact" });
    const kept = made.then((subscription) => {
      state.subscriptions.set(subscription.id, subscription);
      return { ok: true, subscription: subscription.id };
    });
    this.answer(id, ack, kept);
  }

  unsubscribe(state, { id, subscription, ack }) {
    this.answer(id, ack, state.subscriptions.get(subscription).unsubscribe().then(() => ({ ok: true })));
  }

  flow({ connection }, { id, rooms, count }) {
    const options = { acknowledge: true, exclude_me: false };
    const sent = Array.from({ length: count }, (_, n) =>
      connection.session.publish(`room.${rooms[n % rooms.length]}.message`, [], { data: { n } }, options),
    );
    Promise.allSettled(sent).then((all) => {
      const refused = all.filter((one) => one.status === "rejected").map((one) => one.reason.kwargs);
      this.report({ id, report: "flowed", refused });
    });
  }

  cut({ connection }, { how }) {
    connection._transport.close(how === "polite" ? 1000 : 3999);
  }

  auth({ connection, options }, { auth }) {
    Object.assign(options, auth);
    connection._options.authextra = options.authextra;
  }

  disconnect({ connection }) {
    connection.close();
  }
}
